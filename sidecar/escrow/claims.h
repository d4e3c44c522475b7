// What this sidecar knows that a restored ledger does not, told in Redis while the ledger is behind, so that recovering
// it can take it into account: the last record of each of its incarnations, and the most units that each will ever
// report per epoch and bucket.
//
// Threading: the event loop's thread only. What it is given outlives it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "sidecar/escrow/handover.h"

namespace tallygate::sidecar {

class Claims {
 public:
  Claims(redis::Connection& redis, Escrow& escrow, const UsageLog& log, const Handover& handover,
         const DataFolder& folder)
      : redis_(redis), escrow_(escrow), log_(log), handover_(handover), folder_(folder) {}
  // Each shard about once a second. What one round says of all shards was so at its beginning: units only move from on
  // lease to admitted after it, and both are among what is said.
  void tell(int shard);

 private:
  void begin_round();
  void add(int shard, std::string field, int64_t value);
  void add_incarnation(const Outbox& outbox, const Spent& ceilings);

  redis::Connection& redis_;
  Escrow& escrow_;
  const UsageLog& log_;
  const Handover& handover_;
  const DataFolder& folder_;
  std::map<int, std::vector<std::string>> round_;       // by shard: field, value …
  std::set<int> told_;                                  // of this round
  std::map<std::string, std::map<int, int64_t>> kept_;  // last records by folder: read once, they do not change
};

}  // namespace tallygate::sidecar
