// Group commit: what many threads ask of the ledger at the same moment goes to it as one statement in one transaction.
// There is no waiting for company: a thread that finds its tenant's lane free leads a round with everything that waits
// there; while a round is under way, the others gather. So a lone caller pays one round trip, and a crowd shares begin,
// commit and the disk's flush. A tenant has one lane, so that rounds never wait for each other's row locks.
//
// A round that waits for a lock which another transaction holds does not hold up the lane: once it is slow, rounds of
// other tenants begin beside it. If it fails for that, its tenants have rounds of their own for a while.
//
// The statement takes one parameter, a JSON array of operations, and answers one row for each, whose last column is the
// operation's place in the array. If it fails for what one operation says, each is run alone, so that nobody fails for
// another's fault.
//
// Any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/api/pool.h"

namespace tallygate::api {

struct CombinerOptions {
  std::string statement = {};
  size_t lanes = 2;       // rounds at the same time, each on a connection of the pool
  size_t batch_max = 64;  // operations of one round
  int64_t slow_ms = 200;  // a round that lasts longer lets others begin
  size_t rounds_max = 4;  // of a lane at once
  int64_t apart_ms = 10'000;
};

struct CombinerStats {
  std::atomic<uint64_t> rounds{0}, operations{0}, alone{0};
};

// The row of one operation, in the rows of its round.
struct OwnRow {
  ledger::Rows rows;
  size_t row = 0;
};

class Combiner {
 public:
  // `env` and `pool` outlive it.
  Combiner(Env& env, Pool& pool, CombinerOptions options);

  // `operation` is a JSON object without a place. Errors are those of Pool::run; kUnavailable too where no round began
  // until `until_ms` of the monotonic clock. One that has begun may last longer, by one deadline of the pool's.
  Result<OwnRow> run(const std::string& tenant, std::string operation, int64_t until_ms);
  const CombinerStats& stats() const { return stats_; }

 private:
  struct Waiter {
    const std::string& tenant;
    std::string operation;
    int64_t until_ms;
    Result<OwnRow> result;
    enum class State : uint8_t { kQueued, kTaken, kDone } state = State::kQueued;
    std::condition_variable changed;
  };
  struct Round {
    int64_t begin_ms;
    std::vector<Waiter*> batch;
  };
  struct Lane {
    std::mutex mutex;
    std::deque<Waiter*> queue;
    std::list<Round> rounds;                        // those under way
    std::map<std::string, int64_t> apart_until_ms;  // tenants that wait for locks of others
  };
  // When a round of the waiter's may begin: not after `now_ms`, at once; INT64_MAX, when one ends.
  int64_t may_lead_ms(const Lane& lane, const Waiter& waiter, int64_t now_ms) const;
  std::vector<Waiter*> take_batch(Lane& lane, Waiter& first);
  void lead(Lane& lane, Waiter& first, std::unique_lock<std::mutex>& lock);
  void keep_apart(Lane& lane, const std::vector<Waiter*>& batch, int64_t now_ms);
  void serve(std::span<Waiter* const> batch);
  Result<ledger::Rows> execute(std::span<Waiter* const> batch);

  Env& env_;
  Pool& pool_;
  const CombinerOptions options_;
  CombinerStats stats_;
  std::vector<Lane> lanes_;
};

}  // namespace tallygate::api
