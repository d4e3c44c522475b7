// Tells Redis how far the ledger is, hears how far it is known to have been, and so finds out that it was restored from
// an older backup. Then it seals every shard: nothing is leased until somebody has recovered the ledger. After that it
// tells the new generation, with the watermarks that belong to it, and sees to the gaps in usage until they are filled.
// (docs/adr/0008-a-restored-ledger.md)
#pragma once

#include <set>
#include <vector>

#include "core/env.h"
#include "core/redis_client/client.h"
#include "operator/ledger/escrow_store.h"
#include "operator/ledger/history.h"

namespace tallygate::escrow {

// What ledger and Redis say of each other, as of one turn.
struct LedgerView {
  bool in_order = true;                     // the ledger knows all that is known outside, and Redis serves it
  std::vector<ledger::ShardEpoch> numbers;  // the ledger's epochs
  std::set<int> wait;  // shards that open no epoch yet: booked usage is missing, or nobody was heard
};

// Threading: one thread. What the constructor is given outlives it.
class LedgerWatch {
 public:
  LedgerWatch(Env& env, ledger::Session& session, redis::Client& redis, ledger::History& history)
      : env_(env), store_(env, session), epochs_(env, session), redis_(redis), history_(history) {}

  Result<LedgerView> look();
  // This process does not lead any more: what it was about to do, another one does.
  void rest();

 private:
  struct Pulse {
    int64_t highest = 0, told_generation = 0;
    ledger::Mark known;
    std::string id;  // of the ledger that Redis was told of before
  };
  Result<std::vector<Pulse>> pulse(const ledger::Past& past);
  static std::vector<int> odd_shards(const std::vector<Pulse>& pulses, const ledger::Past& past);
  bool is_foreign(const std::vector<Pulse>& pulses, const std::vector<int>& odd, const std::string& id);
  Result<std::string> what_is_known(const std::vector<Pulse>& pulses, const std::vector<ledger::ShardEpoch>& numbers,
                                    ledger::Past& past);
  Result<void> seal(const std::string& why, int64_t generation);
  Result<void> tell(const std::vector<int>& shards, const ledger::Past& past);
  Result<void> tend_gaps(const ledger::Mark& mark);
  bool hearing(const std::vector<ledger::ShardEpoch>& numbers);

  Env& env_;
  ledger::HistoryStore store_;
  ledger::EscrowStore epochs_;
  redis::Client& redis_;
  ledger::History& history_;
  int64_t next_step_ms_ = 0;
  int64_t began_ms_ = -1;  // of this process
  bool blank_ = false;     // a shard of Redis knew nothing at the first look
  ledger::Mark told_all_;  // every shard of Redis was told so much
  bool heard_ = false;     // somebody outside, or there was time enough
  int64_t tended_generation_ = -1;
  ledger::Gaps gaps_;
  bool claims_left_ = false;  // what sidecars said for a recovery is still in Redis
};

}  // namespace tallygate::escrow
