// A redis-server of a test's own with any options, and doors to the scripts. Nothing is kept on disk.
#pragma once

#include <string>
#include <vector>

#include "core/redis_client/client.h"
#include "core/redis_contract/keys.h"
#include "core/redis_contract/scripts.h"
#include "tests/integration/support/child_process.h"

namespace tallygate::testing {

class ScratchRedis {
 public:
  explicit ScratchRedis(std::vector<std::string> options = {});
  ~ScratchRedis();
  redis::Endpoint endpoint() const;  // TCP
  redis::Endpoint unix_endpoint() const;
  const std::string& folder() const { return folder_; }
  int port() const { return port_; }
  void start();
  void kill();   // at once
  void pause();  // SIGSTOP
  void resume();

 private:
  bool answers() const;
  std::vector<std::string> options_;
  std::string folder_;
  int port_;
  ChildProcess process_;
};

// What a lease asks of one bucket, and what it answers.
struct Want {
  std::string bucket;
  int64_t least = 0, best = 0, returned = 0, mint = 0, spent = 0;
  bool again = false;
};
struct Grant {
  int64_t granted = 0, remaining = 0, used = 0;
  std::string dry;
  int64_t lying = 0;
  bool operator==(const Grant&) const = default;
};
inline void PrintTo(const Grant& g, std::ostream* out) {
  *out << "{granted " << g.granted << " remaining " << g.remaining << " used " << g.used << " dry '" << g.dry
       << "' lying " << g.lying << "}";
}
struct LeaseAnswer {
  std::string status;
  int64_t epoch = 0, watermark = 0;
  std::vector<Grant> grants;
  int64_t ledger_ms = 0;
};
struct Funding {
  int64_t acknowledged = 0, total = 0, avail = 0, used = 0;
  std::string dry;
  int64_t low = 1;
  std::string mark = {};
};

// The scripts of one tenant's shard, by name. An error reply of Redis is a failed assertion.
class Scripts {
 public:
  explicit Scripts(redis::Client& client, std::string tenant = "shop/acme")
      : client_(client), tenant_(std::move(tenant)), shard_(redis_contract::shard_of(tenant_)) {}

  int shard() const { return shard_; }
  std::string key(const std::string& bucket, int64_t epoch) const {
    return redis_contract::bucket_key(shard_, epoch, tenant_, bucket);
  }
  std::string member(const std::string& bucket) const { return redis_contract::member(tenant_, bucket); }

  int64_t ahead_ms = 0;  // how far the caller's clock is

  int64_t open(int64_t number);
  int64_t renew();
  redis::Reply enrol(int64_t epoch, std::vector<std::string> incarnations);
  Result<redis::Reply> try_lease(int64_t epoch, const std::string& incarnation, const std::vector<Want>& wants);
  LeaseAnswer lease(int64_t epoch, const std::string& incarnation, const std::vector<Want>& wants);
  redis::Reply fund(int64_t epoch, const std::string& bucket, const Funding& funding);
  redis::Reply recall(int64_t epoch, const std::string& bucket, int64_t target);
  redis::Reply close(int64_t epoch, const std::string& incarnation);
  redis::Reply give_back(int64_t epoch, const std::string& incarnation,
                         const std::vector<std::pair<std::string, int64_t>>& spent);
  redis::Reply stat(int64_t epoch, const std::vector<std::string>& buckets, const std::string& mark = "m");
  redis::Reply run(const redis_contract::Script& script, std::vector<std::string> keys, std::vector<std::string> args);
  redis::Reply call(redis::Command command);
  int64_t field(const std::string& bucket, int64_t epoch, const std::string& name);
  // Everything in the database: to see that a call changed nothing.
  std::string dump();

 private:
  redis::Client& client_;
  std::string tenant_;
  int shard_;
};

}  // namespace tallygate::testing
