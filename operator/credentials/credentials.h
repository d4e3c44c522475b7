// Keeps the credentials of sidecars: one user of Redis a namespace, and a Secret there with the URL that has its
// password.
//
// In the Secret too: the public keys of what is published, so that sidecars believe nobody else.
//
// The Secret is the password's only home. One that somebody else made (without our label) is left alone, and its
// namespace gets no user of ours. One that is deleted is made anew with another password, and the old one is accepted
// for `overlap_ms` more, also by an operator that takes over meanwhile: it finds what Redis accepts. Where Redis makes no users for us, the Secrets hold the operator's own URL, which is said in the
// log, in health and in a metric: then a pod's credential is everybody's.
//
// Lifecycle: start(), stop(); one thread. Only the leader acts.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/redis_client/url.h"
#include "core/telemetry/health.h"
#include "core/telemetry/metrics.h"
#include "operator/credentials/redis_users.h"
#include "operator/credentials/secret.h"
#include "operator/kube/client.h"

namespace tallygate::credentials {

struct CredentialsOptions {
  std::vector<std::string> namespaces;
  std::string secret_name = kSidecarSecret;
  redis::Endpoint redis;          // the operator's own
  std::string sidecar_redis_url;  // how pods reach it, without user and password; empty: as the operator does
  std::string authority;          // PEM that sidecars trust for it; empty: none goes into the Secret
  std::string api_key_pepper;     // empty: none goes into the Secret
  int64_t interval_ms = 1'000;
  int64_t look_ms = 300'000;  // how often a Secret that was as it must be is looked at again
  int64_t retry_ms = 5'000;   // and one that was not, or could not be
  int64_t overlap_ms = 600'000;
  std::function<bool()> is_leader = [] { return true; };
  // The PEM of the public keys of what is published; blocks. None: nothing is put into the Secrets.
  std::function<Result<std::string>()> publication_keys = nullptr;
  int64_t keys_interval_ms = 5'000;  // how often they are asked for
};

class Credentials {
 public:
  // `env` and `client` outlive it.
  Credentials(Env& env, kube::Client& client, CredentialsOptions options, metrics::Registry& registry);
  ~Credentials();
  void start();
  void stop();

  // What is known of Secrets is known no more: another may have led meanwhile. Before the first run_once() of a
  // leadership.
  void begin();
  // Once, now; for the thread and for tests. The first error, after everything was tried.
  Result<void> run_once();
  // The tenants that policies of every namespace may bill; of the next run_once() on. Any thread.
  void lend(std::vector<std::string> tenants);
  // Any thread.
  telemetry::ServiceHealth health() const;

 private:
  struct Space {
    std::string password;  // of the Secret, while it is ours; empty: not known, or not ours
    bool foreign = false;
    int64_t look_at_ms = 0;
    std::map<std::string, int64_t> former;  // hashes of passwords → until when they are accepted, monotonic
    bool knows_former = false;              // what Redis accepted before this leadership is among them
    std::string error;
  };
  void run();
  Result<void> look_at_secret(const std::string& name_space, Space& space);
  Result<void> write_secret(const std::string& name_space, Space& space);
  Result<void> look_at_keys();
  Result<void> learn_former(const std::string& name_space, Space& space);
  void keep_former(Space& space, const std::string& password);
  Result<void> apply_secret(const std::string& name_space, Space& space);
  std::string secret_json(const std::string& name_space, const std::string& url) const;
  std::string url_for(const std::string& name_space, const std::string& password) const;
  Result<void> ensure_users();
  void report(const Result<void>& users);

  Env& env_;
  kube::Client& client_;
  const CredentialsOptions options_;
  RedisUsers users_;
  std::map<std::string, Space> spaces_;
  std::string public_keys_;  // PEM; empty: not known, or none wanted
  int64_t keys_due_ms_ = 0;
  bool shared_ = false;  // Redis makes no users for us
  metrics::Gauge shared_gauge_, missing_;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mutex_;
  std::string fault_;  // under mutex_; for people
  std::vector<std::string> lent_;  // under mutex_
  std::thread thread_;
};

}  // namespace tallygate::credentials
