#include "core/redis_contract/keys.h"

namespace tallygate::redis_contract {
namespace {

std::string two_digits(int shard) { return {static_cast<char>('0' + shard / 10), static_cast<char>('0' + shard % 10)}; }

std::string epoch_prefix(int shard, int64_t epoch) { return shard_prefix(shard) + std::to_string(epoch) + ":"; }

}  // namespace

int shard_of(std::string_view tenant) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : tenant) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  return static_cast<int>(hash % kShards);
}

std::string shard_prefix(int shard) { return "tg:{s" + two_digits(shard) + "}:"; }
std::string epoch_key(int shard) { return shard_prefix(shard) + "epoch"; }
std::string usage_key(int shard) { return shard_prefix(shard) + "usage"; }
std::string watermark_key(int shard) { return shard_prefix(shard) + "wm"; }
std::string heard_key(int shard) { return shard_prefix(shard) + "heard"; }
std::string ledger_key(int shard) { return shard_prefix(shard) + "ledger"; }
std::string claims_key(int shard) { return shard_prefix(shard) + "claims"; }
std::string first_claim(int64_t generation, std::string_view incarnation) {
  return "f:" + std::to_string(generation) + ":" + std::string(incarnation);
}
std::string tenant_key(std::string_view tenant) {
  return shard_prefix(shard_of(tenant)) + "tenant:" + std::string(tenant);
}

std::string registered_key(int shard, int64_t epoch) { return epoch_prefix(shard, epoch) + "reg"; }
std::string closed_key(int shard, int64_t epoch) { return epoch_prefix(shard, epoch) + "closed"; }
std::string want_key(int shard, int64_t epoch) { return epoch_prefix(shard, epoch) + "want"; }
std::string held_key(int shard, int64_t epoch, std::string_view incarnation) {
  return epoch_prefix(shard, epoch) + "held:" + std::string(incarnation);
}
std::string minted_key(int shard, int64_t epoch) { return epoch_prefix(shard, epoch) + "minted"; }
std::string bucket_key(int shard, int64_t epoch, std::string_view tenant, std::string_view bucket) {
  return epoch_prefix(shard, epoch) + "b:" + member(tenant, bucket);
}
std::string member(std::string_view tenant, std::string_view bucket) {
  std::string text(tenant);
  text += '|';
  text += bucket;
  return text;
}

std::string meta_key() { return "tg:{pub}:meta"; }
std::string changes_key() { return "tg:{pub}:changes"; }
std::string policy_key(std::string_view policy) { return "tg:{pub}:policy:" + std::string(policy); }
std::string identity_key(std::string_view kind, std::string_view value) {
  std::string key = "tg:{pub}:id:";
  key += kind;
  key += ':';
  key += value;
  return key;
}
std::string signature_key(std::string_view key) {
  std::string out(key);
  return out.insert(out.find("}:") + 2, "sig:");
}
std::string want_channel() { return "tg:want"; }
std::string publish_channel() { return "tg:publish"; }

}  // namespace tallygate::redis_contract
