// What is known outside of the ledger: by Redis, and by sidecars that have told it there. For a ledger that has gone
// back.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "core/redis_client/client.h"
#include "core/redis_contract/keys.h"
#include "core/result.h"
#include "operator/ledger/escrow_store.h"
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
  int64_t refused = 0;          // claims that no sidecar can have made in good faith
  std::string refused_example;  // one of them
  std::string json() const;     // as ledger_recover() takes it
};

// Ends all leasing until the ledger tells that it is in order (core/lua/seal.lua). `generation`: the highest that is
// known.
Result<void> seal_all(redis::Client& redis, int64_t generation);
// Whether a ledger that is at `ours` now can ever have been at `known`: the bounds of core/lua/ledger_guard.lua.
bool is_plausible(const ledger::Mark& known, const ledger::Mark& ours);
// How far the ledger, which is at `ours`, was, and which it is: of several ids, that of most shards; empty: none. What
// is not plausible is not counted.
Result<ledger::Past> known_past(redis::Client& redis, const ledger::Mark& ours);
// Redis forgets which ledger it served, and what was claimed of it: whoever pulses next tells it anew.
Result<void> forget_ledger(redis::Client& redis, std::span<const int> shards);
// After seal_all(). What lies idle in the buckets of the sealed epochs is taken out of them, and counts as recalled. Of
// windows that are over at `now_s` (Unix time) nothing is looked at. `ours`: the ledger's epochs. Whoever may lease may
// also write what sidecars claim: claims far above what the ledger and Redis have opened or booked are not believed.
Result<KnownOutside> known_outside(redis::Client& redis, std::span<const ledger::ShardEpoch> ours,
                                   const ledger::Mark& mark, int64_t now_s);

}  // namespace tallygate::escrow
