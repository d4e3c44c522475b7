#include "operator/escrow/outside.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/money.h"
#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/scripts.h"

namespace tallygate::escrow {
namespace {

using redis_contract::kShards;

constexpr size_t kPipelined = 1000;

constexpr int64_t kMostSteps = int64_t{1} << 40, kMostGenerations = int64_t{1} << 20;  // as ledger_guard.lua has them

// Takes a number off the front of `text`, and the separator after it.
bool take_number(std::string_view& text, std::string_view separator, int64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (!text.starts_with(separator)) return false;
  text.remove_prefix(separator.size());
  return true;
}

// Of a window that is over nothing matters any more: the ledger takes what is late, and grants nothing
// (ledger_recover_float).
constexpr int64_t kOver_s = 3600;  // more than clocks differ

bool is_ledger_bucket(std::string_view member, int64_t now_s) {
  const size_t bar = member.find('|');
  if (bar == std::string_view::npos) return false;
  const auto id = redis_contract::BucketId::parse(member.substr(bar + 1));
  return id && !id->redis_only() && (id->wallet || id->start_s + id->length_s > now_s - kOver_s);
}

// More than that a sidecar cannot know of: so many epochs are not opened, and so many records of one not written, after
// a backup. What says so was not written by one.
constexpr int64_t kEpochsMax = int64_t{1} << 20, kRecordsMax = int64_t{1} << 32;

void refuse(KnownOutside& known, size_t shard, std::string_view field) {
  ++known.refused;
  if (known.refused_example.empty())
    known.refused_example = "shard " + std::to_string(shard) + ": " + std::string(field.substr(0, 120));
}

// "l:<incarnation>" and "c:<epoch>:<incarnation>:<member>". `epoch_max`: past that it is none of ours.
void take_claim(KnownOutside& known, size_t number, std::string_view field, int64_t value, int64_t epoch_max,
                int64_t now_s) {
  KnownShard& shard = known.shards[number];
  if (field.starts_with("l:")) {
    int64_t& last = shard.incarnations[std::string(field.substr(2))];
    if (value < 0 || value > last + kRecordsMax) return refuse(known, number, field);
    last = std::max(last, value);
    return;
  }
  std::string_view rest = field;
  int64_t epoch = 0;
  if (!rest.starts_with("c:")) return;
  rest.remove_prefix(2);
  if (!take_number(rest, ":", &epoch) || epoch <= 0 || epoch > epoch_max || value < 0 || value > kMaxInteger)
    return refuse(known, number, field);
  shard.epoch = std::max(shard.epoch, epoch);
  const size_t colon = rest.find(':');
  if (colon == std::string_view::npos || !is_ledger_bucket(rest.substr(colon + 1), now_s) || value == 0) return;
  int64_t& ceiling = shard.buckets[{epoch, std::string(rest.substr(colon + 1))}].ceiling;
  ceiling = std::min(kMaxInteger, ceiling + value);
}

Result<void> ask_shards(redis::Client& redis, KnownOutside& known, std::span<const ledger::ShardEpoch> ours,
                        int64_t now_s) {
  std::vector<redis::Command> commands;
  for (int shard = 0; shard < kShards; ++shard) {
    commands.push_back({"HGET", redis_contract::epoch_key(shard), "n"});
    commands.push_back({"HGETALL", redis_contract::watermark_key(shard)});
    commands.push_back({"HGETALL", redis_contract::claims_key(shard)});
  }
  auto results = redis.pipeline(commands);
  for (auto& result : results) {
    result = redis::Client::check(std::move(result));
    if (!result) return tl::unexpected(result.error());
  }
  for (size_t s = 0; s < kShards; ++s) {
    KnownShard& shard = known.shards[s];
    shard.epoch = results[s * 3]->to_integer();
    const auto& watermarks = results[s * 3 + 1]->elements;
    for (size_t i = 0; i + 1 < watermarks.size(); i += 2)
      shard.incarnations[watermarks[i].text] = watermarks[i + 1].to_integer();
    int64_t number = 0;
    for (const auto& e : ours) {
      if (static_cast<size_t>(e.shard) == s) number = e.number;
    }
    const auto& claims = results[s * 3 + 2]->elements;
    const int64_t epoch_max = std::max(number, shard.epoch) + kEpochsMax;
    for (size_t i = 0; i + 1 < claims.size(); i += 2)
      take_claim(known, s, claims[i].text, claims[i + 1].to_integer(-1), epoch_max, now_s);
  }
  return {};
}

struct BucketKey {
  size_t shard;
  int64_t epoch;
  std::string member, key;
};

// "tg:{s07}:12:b:shop/acme|calls@…"
std::optional<BucketKey> parse_bucket_key(const std::string& key, int64_t now_s) {
  std::string_view text = key;
  int64_t shard = 0, epoch = 0;
  if (!text.starts_with("tg:{s")) return std::nullopt;
  text.remove_prefix(5);
  if (!take_number(text, "}:", &shard) || shard < 0 || shard >= kShards) return std::nullopt;
  if (!take_number(text, ":b:", &epoch) || epoch <= 0 || !is_ledger_bucket(text, now_s)) return std::nullopt;
  return BucketKey{static_cast<size_t>(shard), epoch, std::string(text), key};
}

Result<void> ask_buckets(redis::Client& redis, KnownOutside& known, const std::vector<BucketKey>& keys) {
  std::vector<redis::Client::Eval> calls;
  for (const BucketKey& key : keys) {
    calls.push_back({&redis_contract::kVoid,
                     {redis_contract::ledger_key(static_cast<int>(key.shard)), key.key},
                     {std::to_string(key.epoch)}});
  }
  auto results = redis.eval_all(std::move(calls));
  for (size_t i = 0; i < results.size(); ++i) {
    auto result = redis::Client::check(std::move(results[i]));
    if (!result) return tl::unexpected(result.error());
    if (result->elements.size() != 2) continue;
    KnownBucket& bucket = known.shards[keys[i].shard].buckets[{keys[i].epoch, keys[i].member}];
    bucket.funded = result->elements[0].to_integer();
    bucket.recalled = result->elements[1].to_integer();
  }
  return {};
}

}  // namespace

std::string KnownOutside::json() const {
  nlohmann::json all{{"generation", mark.generation}, {"mark", mark.mark}, {"shards", nlohmann::json::array()}};
  for (size_t s = 0; s < shards.size(); ++s) {
    nlohmann::json buckets = nlohmann::json::array();
    for (const auto& [key, b] : shards[s].buckets) {
      const size_t bar = key.second.find('|');
      buckets.push_back({{"epoch", key.first},
                         {"tenant", key.second.substr(0, bar)},
                         {"bucket", key.second.substr(bar + 1)},
                         {"funded", b.funded},
                         {"recalled", b.recalled},
                         {"ceiling", b.ceiling}});
    }
    all["shards"].push_back({{"shard", s},
                             {"epoch", shards[s].epoch},
                             {"incarnations", shards[s].incarnations},
                             {"buckets", std::move(buckets)}});
  }
  return all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<void> seal_all(redis::Client& redis, int64_t generation) {
  std::vector<redis::Client::Eval> calls;
  for (int shard = 0; shard < kShards; ++shard) {
    calls.push_back({&redis_contract::kSeal,
                     {redis_contract::epoch_key(shard), redis_contract::ledger_key(shard)},
                     {std::to_string(generation)}});
  }
  for (auto& result : redis.eval_all(std::move(calls))) {
    result = redis::Client::check(std::move(result));
    if (!result) return tl::unexpected(result.error());
  }
  return {};
}

bool is_plausible(const ledger::Mark& known, const ledger::Mark& ours) {
  return known.generation >= 0 && known.mark >= 0 && known.generation <= ours.generation + kMostGenerations &&
         known.mark <= ours.mark + kMostSteps;
}

Result<ledger::Past> known_past(redis::Client& redis, const ledger::Mark& ours) {
  std::vector<redis::Command> commands;
  for (int shard = 0; shard < kShards; ++shard)
    commands.push_back({"HMGET", redis_contract::ledger_key(shard), "gen", "mark", "cgen", "claimed", "id", "cid"});
  auto results = redis.pipeline(commands);
  std::map<std::string, int> shards_of;  // by ledger: told, or else claimed
  for (auto& result : results) {
    result = redis::Client::check(std::move(result));
    if (!result) return tl::unexpected(result.error());
    if (result->elements.size() != 6) return fail(Errc::kInternal, "HMGET: an unknown answer");
    const std::string &told = result->elements[4].text, &claimed_of = result->elements[5].text;
    ++shards_of[told.empty() ? claimed_of : told];
  }
  shards_of.erase("");
  ledger::Past known;
  int most = 0;
  for (const auto& [id, shards] : shards_of) {
    if (shards > most) known.id = id;
    most = std::max(most, shards);
  }
  for (const auto& result : results) {
    const auto at = [&](size_t i) { return result->elements[i].to_integer(); };
    const std::string &told = result->elements[4].text, &claimed_of = result->elements[5].text;
    const ledger::Mark said{at(0), at(1)}, claimed{at(2), at(3)};
    if ((told.empty() || told == known.id) && is_plausible(said, ours)) known.mark = std::max(known.mark, said);
    if ((claimed_of.empty() || claimed_of == known.id) && is_plausible(claimed, ours))
      known.mark = std::max(known.mark, claimed);
  }
  return known;
}

Result<void> forget_ledger(redis::Client& redis, std::span<const int> shards) {
  std::vector<redis::Command> commands;
  for (const int shard : shards) commands.push_back({"DEL", redis_contract::ledger_key(shard)});
  for (auto& result : redis.pipeline(commands)) {
    result = redis::Client::check(std::move(result));
    if (!result) return tl::unexpected(result.error());
  }
  return {};
}

Result<KnownOutside> known_outside(redis::Client& redis, std::span<const ledger::ShardEpoch> ours,
                                   const ledger::Mark& mark, int64_t now_s) {
  KnownOutside known;
  const auto past = known_past(redis, mark);
  if (!past) return tl::unexpected(past.error());
  known.mark = past->mark;
  if (Result<void> done = ask_shards(redis, known, ours, now_s); !done) return tl::unexpected(done.error());
  std::string cursor = "0";
  do {
    auto reply = redis::Client::check(
        redis.call({"SCAN", cursor, "MATCH", "tg:{s[0-9][0-9]}:*:b:*", "COUNT", std::to_string(kPipelined)}));
    if (!reply) return tl::unexpected(reply.error());
    if (reply->elements.size() != 2) return fail(Errc::kInternal, "SCAN: an unknown answer");
    cursor = reply->elements[0].text;
    std::vector<BucketKey> keys;
    for (const auto& element : reply->elements[1].elements) {
      if (auto key = parse_bucket_key(element.text, now_s)) keys.push_back(std::move(*key));
    }
    if (Result<void> done = ask_buckets(redis, known, keys); !done) return tl::unexpected(done.error());
  } while (cursor != "0");
  return known;
}

}  // namespace tallygate::escrow
