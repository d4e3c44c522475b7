#include "operator/pump/batch.h"

#include <algorithm>
#include <charconv>
#include <tuple>
#include <unordered_map>

#include "core/money.h"
#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/keys.h"

namespace tallygate::pump {
namespace {

constexpr int64_t kLatest_s = 253'402'300'799;       // the end of the year 9999
constexpr int64_t kLongestWindow_s = 3'200'000'000;  // a century
constexpr size_t kMaxBuckets = 64;

const std::unordered_map<std::string, int>& shards_by_key() {
  static const auto* map = [] {
    auto* made = new std::unordered_map<std::string, int>;
    for (int shard = 0; shard < redis_contract::kShards; ++shard)
      made->emplace(redis_contract::usage_key(shard), shard);
    return made;
  }();
  return *map;
}

int64_t ms_of(std::string_view entry_id) {
  int64_t ms = 0;
  std::from_chars(entry_id.data(), entry_id.data() + entry_id.size(), ms);
  return ms;
}

void read_entry(Batch& batch, int shard, redis::Reply& entry) {
  if (entry.elements.size() != 2) return;
  std::string& id = entry.elements[0].text;
  const int64_t ms = ms_of(id);
  if (batch.oldest_ms == 0 || ms < batch.oldest_ms) batch.oldest_ms = ms;
  ++batch.entries;
  auto& fields = entry.elements[1];
  if (!fields.is_nil()) {  // nil: was deleted while pending
    const bool named = fields.elements.size() == 2 && fields.elements[0].text == "r";
    std::string raw;
    if (named) {
      raw = std::move(fields.elements[1].text);
    } else {
      for (const auto& field : fields.elements) raw += field.text + "\n";
    }
    auto record = named ? redis_contract::decode(raw) : fail(Errc::kInvalid, "the entry has other fields than \"r\"");
    std::string why = record ? refusal(*record) : record.error().message;
    if (why.empty()) {
      batch.records.push_back({shard, std::move(*record)});
    } else {
      auto whose = named ? redis_contract::decode_identity(raw) : std::nullopt;
      batch.poison.push_back({shard, id, std::move(raw), std::move(why)});
      if (whose) std::tie(batch.poison.back().incarnation, batch.poison.back().seq) = {whose->incarnation, whose->seq};
    }
  }
  batch.entry_ids[shard].push_back(std::move(id));
}

}  // namespace

std::string refusal(const redis_contract::Record& record) {
  if (record.seq > kMaxInteger || record.epoch > kMaxInteger) return "record: seq or epoch above 2^53 - 1";
  if (record.units > kMaxInteger || record.requests > kMaxInteger) return "record: units or requests above 2^53 - 1";
  if (record.second > kLatest_s) return "record: second after the year 9999";
  if (record.buckets.size() > kMaxBuckets) return "record: more than 64 buckets";
  for (const std::string& bucket : record.buckets) {
    const auto id = redis_contract::BucketId::parse(bucket);
    if (!id || id->start_s > kLatest_s || id->length_s > kLongestWindow_s)
      return "record: bucket " + bucket + " is out of bounds";
  }
  return {};
}

Batch read_batch(redis::Reply reply) {
  Batch batch;
  for (auto& stream : reply.elements) {
    if (stream.elements.size() != 2) continue;
    const auto at = shards_by_key().find(stream.elements[0].text);
    if (at == shards_by_key().end()) continue;
    batch.longest = std::max(batch.longest, stream.elements[1].elements.size());
    for (auto& entry : stream.elements[1].elements) read_entry(batch, at->second, entry);
  }
  return batch;
}

}  // namespace tallygate::pump
