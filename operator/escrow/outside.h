// What is known outside of the ledger: by Redis, and by sidecars that have told it there. For a ledger that has gone
// back.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "core/redis_client/client.h"
#include "core/redis_contract/keys.h"
#include "core/result.h"
#include "operator/ledger/history.h"

namespace tallygate::escrow {

struct KnownBucket {
  int64_t funded = 0, recalled = 0;
  int64_t ceiling = 0;  // the most that sidecars which have told will ever report of it
};

struct KnownShard {
  int64_t epoch = 0;                                               // the highest that was ever in force
  std::map<std::string, int64_t> incarnations;                     // the last record of each
  std::map<std::pair<int64_t, std::string>, KnownBucket> buckets;  // by epoch and "tenant|bucket"
};

struct KnownOutside {
  ledger::Mark mark;
  std::array<KnownShard, redis_contract::kShards> shards;
  std::string json() const;  // as ledger_recover() takes it
};

// Ends all leasing until the ledger tells that it is in order (core/lua/seal.lua). `generation`: the highest that is
// known.
Result<void> seal_all(redis::Client& redis, int64_t generation);
// How far the ledger was, and which it is: of several ids that shards have been told, the first; empty: none.
Result<ledger::Past> known_past(redis::Client& redis);
// Redis forgets which ledger it served, and what was claimed of it: whoever pulses next tells it anew.
Result<void> forget_ledger(redis::Client& redis);
// After seal_all(). What lies idle in the buckets of the sealed epochs is taken out of them, and counts as recalled. Of
// windows that are over at `now_s` (Unix time) nothing is looked at.
Result<KnownOutside> known_outside(redis::Client& redis, int64_t now_s);

}  // namespace tallygate::escrow
