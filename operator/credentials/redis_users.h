// Users of Redis, kept on a primary and its replicas: a user that is made on one server exists there alone, and not
// after its restart.
//
// Threading: one thread at a time. Blocks.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/redis_client/client.h"
#include "core/result.h"

namespace tallygate::credentials {

class RedisUsers {
 public:
  using Rules = std::vector<std::string>;
  // `env` outlives it. The endpoint's own user may use ACL, on the replicas too.
  RedisUsers(Env& env, redis::Endpoint primary);
  ~RedisUsers();

  // Each server of the moment has these users of ours, with these rules, and no others but those to be left alone. Asks
  // little where nothing has changed. The outcome is the primary's; replicas_fault() tells of the others.
  // kInvalid: the server has no ACL, or bars it (managed services do): sidecars must share a user.
  Result<void> ensure(const std::map<std::string, Rules>& users, const std::set<std::string>& left_alone = {});
  // The hashes of the passwords that the primary accepts of this user now; none where there is no such user.
  Result<std::vector<std::string>> password_hashes(const std::string& user);
  // Of the last ensure(); empty: every replica has its users.
  const std::string& replicas_fault() const { return replicas_fault_; }

 private:
  struct Server;
  Result<std::vector<Server*>> servers();
  Result<void> ensure_on(Server& server, const std::map<std::string, Rules>& users,
                         const std::set<std::string>& left_alone);
  Server& server(const std::string& host, int port);

  Env& env_;
  const redis::Endpoint primary_;
  std::string replicas_fault_;
  std::map<std::string, std::unique_ptr<Server>> servers_;  // by "host:port"
};

}  // namespace tallygate::credentials
