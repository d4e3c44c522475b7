#include "operator/credentials/credentials.h"

#include <nlohmann/json.hpp>
#include <set>

#include "core/base64.h"
#include "core/config/parsers.h"
#include "core/percent.h"
#include "core/sha256.h"
#include "core/telemetry/log.h"
#include "operator/credentials/acl.h"

namespace tallygate::credentials {
namespace {

using Json = nlohmann::json;

constexpr size_t kPasswordBytes = 24;
constexpr int64_t kTurnMs = 100;

const kube::ResourceType& secrets() {
  static const kube::ResourceType type{"", "v1", "secrets", "Secret", true};
  return type;
}

// The operator's own URL in its parts: what comes before the credentials, and after them.
std::pair<std::string, std::string> parts_of(const redis::Endpoint& redis, const std::string& given) {
  if (!given.empty()) {
    const size_t host = given.find("://") + 3;
    return {given.substr(0, host), given.substr(host)};
  }
  return {redis.tls ? "rediss://" : "redis://",
          config::to_string({redis.host, static_cast<uint16_t>(redis.port)}) +
              (redis.db == 0 ? "" : "/" + std::to_string(redis.db))};
}

struct Found {
  bool ours = false;
  std::string url, publication_keys, pepper;
};

Found read_secret(const std::string& json) {
  Found found;
  const Json secret = Json::parse(json, nullptr, false);
  if (!secret.is_object()) return found;
  found.ours = secret.value(Json::json_pointer(kManagedByPath), std::string()) == kOurs;
  const auto entry = [&](const char* key) {
    const std::string encoded = secret.value(Json::json_pointer(std::string("/data/") + key), std::string());
    return base64_decode(encoded).value_or("");
  };
  found.url = entry(kRedisUrlKey);
  found.publication_keys = entry(kPublicationKey);
  found.pepper = entry(kPepperKey);
  return found;
}

}  // namespace

Credentials::Credentials(Env& env, kube::Client& client, CredentialsOptions options, metrics::Registry& registry)
    : env_(env),
      client_(client),
      options_(std::move(options)),
      users_(env, options_.redis),
      shared_gauge_(registry.gauge("tallygate_operator_sidecar_credentials_shared",
                                   "1: Redis makes no users for us, and all sidecars share the operator's.")),
      missing_(registry.gauge("tallygate_operator_sidecar_credentials_missing",
                              "Namespaces of --sidecar-namespaces whose sidecars have no credential yet.")) {
  for (const std::string& name_space : options_.namespaces) spaces_[name_space];
}

Credentials::~Credentials() { stop(); }

void Credentials::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Credentials::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void Credentials::begin() {
  for (auto& [name_space, space] : spaces_) {
    Space anew;
    anew.former = std::move(space.former);  // each with its own end
    space = std::move(anew);
  }
}

void Credentials::lend(std::vector<std::string> tenants) {
  const std::lock_guard lock(mutex_);
  lent_ = std::move(tenants);
}

void Credentials::run() {
  bool led = false;
  while (!stopping_) {
    const bool leads = options_.is_leader();
    if (leads && !led) begin();
    led = leads;
    if (leads) {
      if (auto done = run_once(); !done) {
        static log::Throttle throttle(30);
        log::warn(throttle, "sidecars' credentials are not as they must be", {{"error", done.error().message}});
      }
    }
    for (int64_t waited = 0; waited < options_.interval_ms && !stopping_; waited += kTurnMs) env_.sleep_ms(kTurnMs);
  }
}

std::string Credentials::url_for(const std::string& name_space, const std::string& password) const {
  const auto [scheme, rest] = parts_of(options_.redis, options_.sidecar_redis_url);
  if (!shared_) return scheme + acl_user(name_space) + ":" + password + "@" + rest;
  const auto& redis = options_.redis;
  if (redis.user.empty() && redis.password.empty()) return scheme + rest;
  return scheme + percent_encode(redis.user) + ":" + percent_encode(redis.password) + "@" + rest;
}

std::string Credentials::secret_json(const std::string& name_space, const std::string& url) const {
  Json secret = {{"apiVersion", "v1"},
                 {"kind", "Secret"},
                 {"metadata", {{"name", options_.secret_name}, {"namespace", name_space}, {"labels", {{kManagedByLabel, kOurs}}}}},
                 {"type", "Opaque"},
                 {"data", {{kRedisUrlKey, base64_encode(url)}}}};
  if (!options_.authority.empty()) secret["data"][kAuthorityKey] = base64_encode(options_.authority);
  if (!public_keys_.empty()) secret["data"][kPublicationKey] = base64_encode(public_keys_);
  if (!options_.api_key_pepper.empty()) secret["data"][kPepperKey] = base64_encode(options_.api_key_pepper);
  return secret.dump();
}

// Where they are other keys than before, every Secret is looked at.
Result<void> Credentials::look_at_keys() {
  if (!options_.publication_keys || env_.mono_ms() < keys_due_ms_) return {};
  auto keys = options_.publication_keys();
  if (!keys) return tl::unexpected(keys.error());
  keys_due_ms_ = env_.mono_ms() + options_.keys_interval_ms;
  if (*keys == public_keys_) return {};
  public_keys_ = std::move(*keys);
  for (auto& [name_space, space] : spaces_) space.look_at_ms = 0;
  return {};
}

void Credentials::keep_former(Space& space, const std::string& password) {
  if (!password.empty()) space.former.insert_or_assign(sha256_hex(password), env_.mono_ms() + options_.overlap_ms);
}

// What Redis accepts of the user and the Secret does not say is of pods that run: the leader before this one had it overlap.
Result<void> Credentials::learn_former(const std::string& name_space, Space& space) {
  if (space.knows_former || shared_) return {};
  const auto hashes = users_.password_hashes(acl_user(name_space));
  if (!hashes) return tl::unexpected(hashes.error());
  for (const std::string& hash : *hashes) space.former.emplace(hash, env_.mono_ms() + options_.overlap_ms);
  space.knows_former = true;
  return {};
}

// The user comes before the Secret that has its password: a pod that finds the Secret can use it.
Result<void> Credentials::write_secret(const std::string& name_space, Space& space) {
  const std::string old = space.password;
  space.password = env_.random_hex(kPasswordBytes);
  keep_former(space, old);
  if (auto users = ensure_users(); !users && !shared_) {
    space.password = old;
    return users;
  }
  // It may be there though the answer was lost: the password stays, until the Secret has been read again.
  return apply_secret(name_space, space);
}

Result<void> Credentials::apply_secret(const std::string& name_space, Space& space) {
  const auto written = client_.apply(secrets(), {name_space, options_.secret_name},
                                     secret_json(name_space, url_for(name_space, space.password)));
  if (!written) return tl::unexpected(written.error());
  log::info("sidecars' credential written", {{"namespace", name_space}, {"secret", options_.secret_name}, {"shared", shared_}});
  return {};
}

Result<void> Credentials::look_at_secret(const std::string& name_space, Space& space) {
  if (options_.publication_keys && public_keys_.empty()) {
    return fail(Errc::kUnavailable, "the keys of what is published are not known yet");
  }
  auto object = client_.get(secrets(), {name_space, options_.secret_name});
  if (!object && object.error().errc != Errc::kNotFound) return tl::unexpected(object.error());
  const Found found = object ? read_secret(object->json) : Found{true, "", "", ""};
  space.foreign = !found.ours;
  if (space.foreign) {
    space.password.clear();
    return {};
  }
  if (auto learnt = learn_former(name_space, space); !learnt) return learnt;
  const auto endpoint = redis::parse_url(found.url);
  const bool of_user = endpoint && endpoint->user == acl_user(name_space) && !endpoint->password.empty();
  if (of_user && space.password != endpoint->password) {
    keep_former(space, space.password);
    space.password = endpoint->password;
  }
  const bool reaches = found.url == url_for(name_space, space.password) && (of_user || shared_);
  if (!reaches) return write_secret(name_space, space);
  const bool complete = found.publication_keys == public_keys_ && found.pepper == options_.api_key_pepper;
  return complete ? Result<void>() : apply_secret(name_space, space);
}

Result<void> Credentials::ensure_users() {
  std::map<std::string, RedisUsers::Rules> users;
  std::set<std::string> left_alone;  // their Secrets are not known: they may be in use
  std::vector<std::string> lent;
  {
    const std::lock_guard lock(mutex_);
    lent = lent_;
  }
  for (auto& [name_space, space] : spaces_) {
    if (space.password.empty() && !space.foreign) left_alone.insert(acl_user(name_space));
    if (space.password.empty()) continue;
    std::erase_if(space.former, [&](const auto& old) { return old.second <= env_.mono_ms(); });
    std::vector<std::string> former;
    for (const auto& [hash, until] : space.former) {
      if (hash != sha256_hex(space.password)) former.push_back(hash);
    }
    users[acl_user(name_space)] = acl_rules(name_space, lent, {space.password}, former);
  }
  auto ensured = users_.ensure(users, left_alone);
  shared_ = !ensured && ensured.error().errc == Errc::kInvalid;
  return ensured;
}

Result<void> Credentials::run_once() {
  const bool was_shared = shared_;
  auto first = look_at_keys();
  if (auto users = ensure_users(); !users && first) first = std::move(users);
  if (shared_ != was_shared) {
    for (auto& [name_space, space] : spaces_) space.look_at_ms = 0;
  }
  for (auto& [name_space, space] : spaces_) {
    if (env_.mono_ms() < space.look_at_ms) continue;
    auto looked = look_at_secret(name_space, space);
    space.error = looked ? "" : looked.error().message;
    space.look_at_ms = env_.mono_ms() + (looked ? options_.look_ms : options_.retry_ms);
    if (!looked && first) first = std::move(looked);
  }
  // Those whose Secret was just read for the first time.
  if (auto users = ensure_users(); !users && first) first = std::move(users);
  report(first);
  if (shared_) return {};  // told by health, not as a failure
  return first;
}

void Credentials::report(const Result<void>& users) {
  size_t missing = 0;
  std::string fault;
  for (const auto& [name_space, space] : spaces_) {
    if (space.password.empty() && !space.foreign && !shared_) ++missing;
    if (fault.empty() && !space.error.empty()) fault = name_space + ": " + space.error;
  }
  if (fault.empty() && !users) fault = users.error().message;
  if (fault.empty()) fault = users_.replicas_fault();
  if (shared_) fault += "; all sidecars share the operator's user: a pod's credential can do what the operator's can";
  missing_.set(static_cast<double>(missing));
  shared_gauge_.set(shared_ ? 1 : 0);
  const std::lock_guard lock(mutex_);
  fault_ = std::move(fault);
}

telemetry::ServiceHealth Credentials::health() const {
  const std::lock_guard lock(mutex_);
  if (fault_.empty()) return {};
  return {telemetry::ServiceState::kDegraded, fault_};
}

}  // namespace tallygate::credentials
