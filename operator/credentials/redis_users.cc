#include "operator/credentials/redis_users.h"

#include <algorithm>

#include "operator/credentials/acl.h"

namespace tallygate::credentials {
namespace {

constexpr size_t kReplicasMax = 16;

// The server has no ACL, or lets us not use it. A rule that it refuses is another thing, and no reason to share a user.
bool is_barred(const std::string& error) {
  return error.starts_with("NOPERM") || error.find("unknown command") != error.npos ||
         error.find("unknown subcommand") != error.npos;
}

using redis::Client;

std::string run_id_of(const std::string& info) {
  const size_t at = info.find("run_id:");
  return at == std::string::npos ? "" : info.substr(at + 7, info.find_first_of("\r\n", at) - at - 7);
}

}  // namespace

struct RedisUsers::Server {
  Server(Env& env, redis::Endpoint endpoint) : client(env, std::move(endpoint)) {}
  redis::Client client;
  std::string run_id;
  std::map<std::string, Rules> made;  // in this run
};

RedisUsers::RedisUsers(Env& env, redis::Endpoint primary) : env_(env), primary_(std::move(primary)) {}
RedisUsers::~RedisUsers() = default;

RedisUsers::Server& RedisUsers::server(const std::string& host, int port) {
  auto& known = servers_[host + ":" + std::to_string(port)];
  if (!known) {
    redis::Endpoint endpoint = primary_;
    if (port != 0) {
      endpoint.host = host;
      endpoint.port = port;
      endpoint.unix_path.clear();
    }
    known = std::make_unique<Server>(env_, std::move(endpoint));
  }
  return *known;
}

Result<std::vector<RedisUsers::Server*>> RedisUsers::servers() {
  Server& primary = server("", 0);
  auto role = Client::check(primary.client.call({"ROLE"}));
  if (!role) return tl::unexpected(role.error());
  std::vector<Server*> all = {&primary};
  if (!role->is_array() || role->elements.size() < 3 || !role->elements[0].is_text("master")) return all;
  for (const auto& replica : role->elements[2].elements) {
    if (replica.elements.size() < 2 || all.size() > kReplicasMax) continue;
    all.push_back(&server(replica.elements[0].text, static_cast<int>(replica.elements[1].to_integer(0))));
  }
  std::erase_if(servers_, [&](const auto& known) {
    return std::find(all.begin(), all.end(), known.second.get()) == all.end();
  });
  return all;
}

Result<void> RedisUsers::ensure_on(Server& server, const std::map<std::string, Rules>& users,
                                   const std::set<std::string>& left_alone) {
  const auto answers = server.client.pipeline({{"INFO", "server"}, {"ACL", "USERS"}});
  if (answers[1] && answers[1]->is_error() && is_barred(answers[1]->text)) {
    return fail(Errc::kInvalid, "Redis makes no users for us: " + answers[1]->text);
  }
  auto info = Client::check(answers[0]);
  auto there = Client::check(answers[1]);
  if (!info) return tl::unexpected(info.error());
  if (!there) return tl::unexpected(there.error());
  if (const std::string run_id = run_id_of(info->text); run_id != server.run_id) {
    server.run_id = run_id;
    server.made.clear();
  }
  std::set<std::string> names;
  for (const auto& name : there->elements) names.insert(name.text);
  for (const std::string& name : names) {
    if (!is_acl_user(name) || users.contains(name) || left_alone.contains(name)) continue;
    if (auto gone = Client::check(server.client.call({"ACL", "DELUSER", name})); !gone) return tl::unexpected(gone.error());
    server.made.erase(name);
  }
  for (const auto& [name, rules] : users) {
    const auto made = server.made.find(name);
    if (names.contains(name) && made != server.made.end() && made->second == rules) continue;
    redis::Command command = {"ACL", "SETUSER", name};
    command.insert(command.end(), rules.begin(), rules.end());
    if (auto set = Client::check(server.client.call(command)); !set) return tl::unexpected(set.error());
    server.made[name] = rules;
  }
  return {};
}

Result<void> RedisUsers::ensure(const std::map<std::string, Rules>& users, const std::set<std::string>& left_alone) {
  auto all = servers();
  if (!all) return tl::unexpected(all.error());
  auto on_primary = ensure_on(*all->front(), users, left_alone);
  replicas_fault_.clear();
  for (size_t i = 1; i < all->size(); ++i) {  // one that is away keeps no other from its users
    auto done = ensure_on(*(*all)[i], users, left_alone);
    if (!done && replicas_fault_.empty()) replicas_fault_ = "a replica of Redis lacks users: " + done.error().message;
  }
  return on_primary;
}

Result<std::vector<std::string>> RedisUsers::password_hashes(const std::string& user) {
  auto found = Client::check(server("", 0).client.call({"ACL", "GETUSER", user}));
  if (!found) return tl::unexpected(found.error());
  std::vector<std::string> hashes;
  for (size_t i = 0; i + 1 < found->elements.size(); i += 2) {
    if (!found->elements[i].is_text("passwords")) continue;
    for (const auto& hash : found->elements[i + 1].elements) hashes.push_back(hash.text);
  }
  return hashes;
}

}  // namespace tallygate::credentials
