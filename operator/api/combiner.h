// Group commit: what many threads ask of the ledger at the same moment goes to it as one statement in one transaction.
// There is no waiting for company: a thread that finds its tenant's lane free leads a round with everything that waits
// there; while a round is under way, the others gather. So a lone caller pays one round trip, and a crowd shares begin,
// commit and the disk's flush. A tenant has one lane, so that rounds never wait for each other's row locks.
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
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/api/pool.h"

namespace tallygate::api {

struct CombinerOptions {
  std::string statement = {};
  size_t lanes = 2;         // rounds at the same time, each on a connection of the pool
  size_t batch_max = 64;    // operations of one round
  int64_t wait_ms = 5'000;  // for a round to begin
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
  // in time.
  Result<OwnRow> run(const std::string& tenant, std::string operation);
  const CombinerStats& stats() const { return stats_; }

 private:
  struct Waiter {
    std::string operation;
    Result<OwnRow> result;
    enum class State : uint8_t { kQueued, kTaken, kDone } state = State::kQueued;
    std::condition_variable changed;
  };
  struct Lane {
    std::mutex mutex;
    std::deque<Waiter*> queue;
    bool busy = false;  // a round is under way
  };
  void lead(Lane& lane, std::unique_lock<std::mutex>& lock);
  void serve(std::span<Waiter* const> batch);
  Result<ledger::Rows> execute(std::span<Waiter* const> batch);

  Env& env_;
  Pool& pool_;
  const CombinerOptions options_;
  CombinerStats stats_;
  std::vector<Lane> lanes_;
};

}  // namespace tallygate::api
