#include "operator/publish/redis_publication.h"

#include <algorithm>

#include "core/redis_contract/keys.h"

namespace tallygate::publish {
namespace {

constexpr size_t kBatch = 500;         // commands in one round trip
constexpr size_t kNamesPerZadd = 500;  // index entries in one command
constexpr int64_t kCallTimeoutMs = 5000;

redis::ConnectionOptions options() {
  redis::ConnectionOptions out;
  out.call_timeout_ms = kCallTimeoutMs;
  return out;
}

Result<void> first_error(std::vector<Result<redis::Reply>> replies) {
  for (auto& reply : replies) {
    auto checked = redis::Client::check(std::move(reply));
    if (!checked) return tl::unexpected<Error>(checked.error());
  }
  return {};
}

bool is_name(std::string_view name) { return name.size() > 1 && std::string_view("TPI").find(name[0]) != name.npos; }

}  // namespace

void Meta::sign(const redis_contract::Signer& signer, int64_t ledger_generation) {
  signature = signer.sign(redis_contract::kHeadName, redis_contract::head_document(generation, version),
                          {ledger_generation, version});
}

bool Meta::is_signed_by(const redis_contract::Signer& signer) const {
  return signer.made(signature, redis_contract::kHeadName, redis_contract::head_document(generation, version));
}

RedisPublication::RedisPublication(Env& env, redis::Endpoint endpoint) : client_(env, std::move(endpoint), options()) {}

Result<Meta> RedisPublication::meta() {
  auto reply = redis::Client::check(client_.call({"HMGET", redis_contract::meta_key(), "generation", "version", "sig"}));
  if (!reply) return tl::unexpected<Error>(reply.error());
  if (!reply->is_array() || reply->elements.size() != 3) return fail(Errc::kInternal, "HMGET answered no three values");
  const auto& generation = reply->elements[0];
  if (!generation.is_text()) return Meta{};
  return Meta{generation.text, reply->elements[1].to_integer(0), reply->elements[2].text};
}

Result<void> RedisPublication::send(const std::vector<redis::Command>& commands) {
  for (size_t from = 0; from < commands.size(); from += kBatch) {
    const auto begin = commands.begin() + static_cast<ptrdiff_t>(from);
    const auto end = commands.begin() + static_cast<ptrdiff_t>(std::min(commands.size(), from + kBatch));
    if (auto sent = first_error(client_.pipeline({begin, end})); !sent) return sent;
  }
  return {};
}

Result<RedisPublication::Loaded> RedisPublication::load(bool trusted, const redis_contract::Signer& signer) {
  auto index = redis::Client::check(client_.call({"ZRANGE", redis_contract::changes_key(), "0", "-1"}));
  if (!index) return tl::unexpected<Error>(index.error());
  Loaded loaded;
  loaded.index_size = index->elements.size();
  std::vector<std::string> names;
  for (auto& element : index->elements) {
    if (is_name(element.text)) names.push_back(std::move(element.text));
  }
  Holding& held = loaded.held;
  for (size_t from = 0; from < names.size(); from += kBatch) {
    const size_t to = std::min(names.size(), from + kBatch);
    std::vector<redis::Command> gets;
    for (size_t i = from; i < to; ++i) {
      const std::string key = key_of(names[i]);
      gets.push_back({"MGET", key, redis_contract::signature_key(key)});
    }
    auto values = client_.pipeline(gets);
    for (size_t i = from; i < to; ++i) {
      auto value = redis::Client::check(std::move(values[i - from]));
      if (!value) return tl::unexpected<Error>(value.error());
      if (!value->is_array() || value->elements.size() != 2) return fail(Errc::kInternal, "MGET answered no pair");
      const std::string& name = names[i];
      const redis::Reply &document = value->elements[0], &signature = value->elements[1];
      if (document.is_nil()) {
        held[name].state = trusted ? Held::State::kRemoved : Held::State::kUnknown;
      } else {
        const bool ours = trusted && signer.made(signature.text, name, document.text);
        held[name] = ours ? held_of_value(name, document.text) : Held{};
      }
    }
  }
  return loaded;
}

Result<void> RedisPublication::apply(const Changes& changes, const plan::Compiled& compiled, const Desired& desired,
                                     const Meta& meta, bool new_generation, const Signing& signing) {
  std::vector<redis::Command> commands;
  for (const auto& name : changes.written) {
    std::string key = key_of(name), value = value_of(compiled, desired.at(name), meta.version);
    std::string signature = signing.signer.sign(name, value, {signing.ledger_generation, meta.version});
    std::string beside = redis_contract::signature_key(key);
    commands.push_back({"MSET", std::move(key), std::move(value), std::move(beside), std::move(signature)});
  }
  for (const auto& name : changes.removed) {
    const std::string key = key_of(name);
    commands.push_back({"DEL", key, redis_contract::signature_key(key)});
  }
  if (auto sent = send(commands); !sent) return sent;
  if (auto announced = announce(changes, meta, new_generation); !announced) return announced;
  const auto there = all_exist(changes.written);
  if (!there) return tl::unexpected<Error>(there.error());
  if (!*there) return fail(Errc::kConflict, "Redis lost documents while they were being published");
  return {};
}

Result<void> RedisPublication::announce(const Changes& changes, const Meta& meta, bool new_generation) {
  const std::string version = std::to_string(meta.version);
  std::vector<redis::Command> commands{{"MULTI"}};
  if (new_generation) commands.push_back({"DEL", redis_contract::changes_key()});
  redis::Command zadd;
  const auto flush = [&] {
    if (!zadd.empty()) commands.push_back(std::move(zadd));
    zadd.clear();
  };
  const auto add = [&](const std::string& name) {
    if (zadd.empty()) zadd = {"ZADD", redis_contract::changes_key()};
    zadd.push_back(version);
    zadd.push_back(name);
    if (zadd.size() >= 2 + 2 * kNamesPerZadd) flush();
  };
  for (const auto& name : changes.written) add(name);
  // Under a new generation readers start from nothing: they need not hear of what is gone.
  if (!new_generation) {
    for (const auto& name : changes.removed) add(name);
  }
  flush();
  commands.push_back({"HSET", redis_contract::meta_key(), "generation", meta.generation, "version", version, "sig",
                      meta.signature});
  commands.push_back({"PUBLISH", redis_contract::publish_channel(), version});
  commands.push_back({"EXEC"});
  auto replies = client_.pipeline(commands);
  const auto executed = replies.back();
  if (auto sent = first_error(std::move(replies)); !sent) return sent;
  for (const auto& element : executed->elements) {
    if (element.is_error()) return fail(Errc::kInternal, "Redis refused the change index: " + element.text);
  }
  return {};
}

Result<bool> RedisPublication::all_exist(const std::vector<std::string>& names) {
  // One name a command: on a cluster they are of different slots.
  for (size_t from = 0; from < names.size(); from += kBatch) {
    std::vector<redis::Command> commands;
    for (size_t i = from; i < std::min(names.size(), from + kBatch); ++i) {
      const std::string key = key_of(names[i]);
      commands.push_back({"EXISTS", key, redis_contract::signature_key(key)});
    }
    for (auto& result : client_.pipeline(commands)) {
      auto reply = redis::Client::check(std::move(result));
      if (!reply) return tl::unexpected<Error>(reply.error());
      if (reply->to_integer() != 2) return false;
    }
  }
  return true;
}

Result<bool> RedisPublication::intact(const Meta& expected, size_t names) {
  const auto found = meta();
  if (!found) return tl::unexpected<Error>(found.error());
  const bool same = found->generation == expected.generation && found->version == expected.version &&
                    found->signature == expected.signature;
  if (!same) return false;
  auto count = redis::Client::check(client_.call({"ZCARD", redis_contract::changes_key()}));
  if (!count) return tl::unexpected<Error>(count.error());
  return count->to_integer() == static_cast<int64_t>(names);
}

}  // namespace tallygate::publish
