// Group commit: what many callers ask of the ledger at the same moment goes to it as one statement in one transaction.
// There is no waiting for company: if a tenant's lane is free, a round begins with everything that waits there; while
// it is under way, the others gather. So a lone caller pays one round trip, and a crowd shares begin, commit and the
// disk's flush. A tenant has one lane, so that rounds never wait for each other's row locks.
//
// A round that waits for a lock which another transaction holds does not hold up the lane: once it is slow, rounds of
// other tenants begin beside it. If it fails for that, its tenants have rounds of their own for a while.
//
// The statement takes one parameter, a JSON array of operations, and answers one row for each, whose last column is the
// operation's place in the array. If it fails for what one operation says, each is run alone, so that nobody fails for
// another's fault.
//
// Any thread. Rounds are led by threads of its own, a few for each lane: each blocks in the database. They call back.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>
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

// An operation counts once, however many rounds it took.
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
  using Done = std::function<void(Result<OwnRow>)>;

  // `env` and `pool` outlive it.
  Combiner(Env& env, Pool& pool, CombinerOptions options);
  ~Combiner();  // stop()

  void start();
  // Rounds under way end; what waits, and what comes later, is answered kUnavailable. Idempotent.
  void stop();

  // `operation` is a JSON object without a place. `done` is called once, on a thread of the combiner's (after stop() on
  // the caller's), and must be quick: those of its round wait for it. Errors are those of Pool::exec; kUnavailable too
  // where no round began until `until_ms` of the monotonic clock. One that has begun may last longer, by one deadline
  // of the pool's.
  void submit(std::string tenant, std::string operation, int64_t until_ms, Done done);
  // The same for a thread that may wait.
  Result<OwnRow> run(const std::string& tenant, std::string operation, int64_t until_ms);
  const CombinerStats& stats() const { return stats_; }

 private:
  struct Waiter {
    std::string tenant, operation;
    int64_t until_ms;
    Done done;
    Result<OwnRow> result = {};
  };
  using Waiters = std::list<Waiter>;
  struct Round {
    int64_t begin_ms;
    Waiters batch;  // their tenants do not change while it is under way
  };
  struct Lane {
    std::mutex mutex;
    std::condition_variable changed;
    Waiters queue;
    bool watched = false;                           // a thread looks at the queue in time
    bool running = false;                           // between start() and stop()
    std::list<Round> rounds;                        // those under way
    std::map<std::string, int64_t> apart_until_ms;  // tenants that wait for locks of others
    std::vector<std::thread> threads;
  };
  void lead_rounds(Lane& lane);
  // When a round of the waiter's may begin: not after `now_ms`, at once; INT64_MAX, when one ends.
  int64_t may_begin_ms(const Lane& lane, const Waiter& waiter, int64_t now_ms) const;
  Waiters take_batch(Lane& lane, Waiters::iterator first, int64_t now_ms);
  void lead(Lane& lane, Waiters::iterator first, int64_t now_ms, std::unique_lock<std::mutex>& lock);
  void refuse_late(Lane& lane, int64_t now_ms, std::unique_lock<std::mutex>& lock);
  void serve(std::span<Waiter* const> batch);
  Result<ledger::Rows> execute(std::span<Waiter* const> batch);
  static void answer(Waiters& batch);

  Env& env_;
  Pool& pool_;
  const CombinerOptions options_;
  CombinerStats stats_;
  std::vector<Lane> lanes_;
};

}  // namespace tallygate::api
