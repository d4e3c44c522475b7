#include "operator/credentials/redis_users.h"

#include "operator/credentials/acl.h"

namespace tallygate::credentials {
namespace {

constexpr size_t kReplicasMax = 16;

// Whether another attempt would be answered the same.
bool is_barred(const std::string& error) {
  return error.starts_with("NOPERM") || error.find("unknown command") != error.npos ||
         error.find("unknown subcommand") != error.npos || error.find("Error in ACL SETUSER") != error.npos ||
         error.find("not allowed") != error.npos;
}

Result<redis::Reply> checked(Result<redis::Reply> reply) {
  if (reply && reply->is_error() && is_barred(reply->text)) {
    return fail(Errc::kInvalid, "Redis makes no users for us: " + reply->text);
  }
  return redis::Client::check(std::move(reply));
}

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
  auto role = checked(primary.client.call({"ROLE"}));
  if (!role) return tl::unexpected(role.error());
  std::vector<Server*> all = {&primary};
  if (!role->is_array() || role->elements.size() < 3 || !role->elements[0].is_text("master")) return all;
  for (const auto& replica : role->elements[2].elements) {
    if (replica.elements.size() < 2 || all.size() > kReplicasMax) continue;
    all.push_back(&server(replica.elements[0].text, static_cast<int>(replica.elements[1].to_integer(0))));
  }
  return all;
}

Result<void> RedisUsers::ensure_on(Server& server, const std::map<std::string, Rules>& users,
                                   const std::set<std::string>& left_alone) {
  const auto answers = server.client.pipeline({{"INFO", "server"}, {"ACL", "USERS"}});
  auto info = checked(answers[0]);
  auto there = checked(answers[1]);
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
    if (auto gone = checked(server.client.call({"ACL", "DELUSER", name})); !gone) return tl::unexpected(gone.error());
    server.made.erase(name);
  }
  for (const auto& [name, rules] : users) {
    const auto made = server.made.find(name);
    if (names.contains(name) && made != server.made.end() && made->second == rules) continue;
    redis::Command command = {"ACL", "SETUSER", name};
    command.insert(command.end(), rules.begin(), rules.end());
    if (auto set = checked(server.client.call(command)); !set) return tl::unexpected(set.error());
    server.made[name] = rules;
  }
  return {};
}

Result<void> RedisUsers::ensure(const std::map<std::string, Rules>& users, const std::set<std::string>& left_alone) {
  auto all = servers();
  if (!all) return tl::unexpected(all.error());
  Result<void> first;
  for (Server* each : *all) {  // a replica that is away keeps no other from its users
    if (auto done = ensure_on(*each, users, left_alone); !done && first) first = tl::unexpected(done.error());
  }
  return first;
}

}  // namespace tallygate::credentials
