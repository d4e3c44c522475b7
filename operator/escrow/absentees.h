// Incarnations that are not heard of any more (migration 0051): each round the ledger is told who gave a sign of life
// in Redis; who did not for long enough is declared gone, and what it holds of wallets comes back: to its buckets,
// whatever the epoch, with a line in the audit log. Called by the epoch keeper.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/redis_client/client.h"
#include "core/result.h"
#include "operator/ledger/escrow_store.h"

namespace tallygate::escrow {

struct AbsenteesFound {
  int64_t written_off = 0;                    // incarnations, in this round
  std::vector<ledger::ShardEpoch> to_reopen;  // somebody of it was declared gone and is back: the next epoch has it
};

// One round. `current`: per shard the epoch that Redis acts under, 0 where that is none: nothing is said of it then. A
// round that fails counts for nobody.
Result<AbsenteesFound> find_absentees(ledger::EscrowStore& store, redis::Client& redis,
                                      std::span<const int64_t> current, int64_t round_ms, int rounds);

}  // namespace tallygate::escrow
