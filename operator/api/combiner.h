// Group commit: what many callers ask of the ledger at the same moment goes to it as one statement in one transaction.
// There is no waiting for company: where no round is under way, one begins at once; the others gather until it ends, or
// until they are enough for one beside it. So a lone caller pays one round trip, and a crowd shares begin, commit and
// the disk's flush. A tenant is in one round at a time, so that rounds never wait for each other's row locks.
//
// A round that waits for a lock which another transaction holds does not hold up the others: once it is slow, another
// one begins beside it. If it fails for that, its tenants have rounds of their own for a while, beside the others from
// the start.
//
// The statement takes one parameter, an array of rows that begin with their place in it, and answers one row for each,
// whose last column is that place. If it fails for what one operation says, each is run alone, so that nobody fails for
// another's fault.
//
// Any thread. Rounds are led by a few threads of its own: each blocks in the database. They call back.
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
#include <unordered_map>
#include <vector>

#include "core/env.h"
#include "operator/api/pool.h"

namespace tallygate::api {

struct CombinerOptions {
  std::string statement = {};
  size_t rounds = 2;      // at the same time, each on a connection of the pool
  size_t batch_max = 64;  // operations of one round
  // One begins beside another for so many tenants, or once that has lasted for so long: a round for each of a few
  // operations would cost the database more than the operations do.
  size_t beside_min = 12;
  int64_t beside_ms = 4;
  int64_t slow_ms = 200;  // a round that lasts longer lets another begin
  size_t rounds_max = 8;  // the slow ones included
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

  // `operation` is the row's fields after its place, as ledger::append_row_field writes them. `done` is called once, on
  // a thread of the combiner's (after stop() on the caller's), and must be quick: those of its round wait for it.
  // Errors are those of Pool::exec; kUnavailable too where no round began until `until_ms` of the monotonic clock. One
  // that has begun may last longer, by one deadline of the pool's.
  void submit(std::string tenant, std::string operation, int64_t until_ms, Done done);
  // The same for a thread that may wait.
  Result<OwnRow> run(const std::string& tenant, std::string operation, int64_t until_ms);
  const CombinerStats& stats() const { return stats_; }

 private:
  struct Waiter {
    uint64_t number;  // by arrival
    std::string operation;
    int64_t until_ms;
    Done done;
    Result<OwnRow> result = {};
  };
  using Waiters = std::list<Waiter>;
  // One that waits or is in a round.
  struct Tenant {
    Waiters waiting;
    bool busy = false;  // in a round
  };
  using Tenants = std::unordered_map<std::string, Tenant>;
  struct Round {
    int64_t begin_ms, slow_at_ms;
    std::vector<Tenants::value_type*> tenants = {};
    Waiters batch = {};
  };
  void lead_rounds();
  void lead(int64_t now_ms, std::unique_lock<std::mutex>& lock);
  // When one may begin: not after `now_ms`, at once; INT64_MAX, when one ends.
  int64_t may_begin_ms(int64_t now_ms) const;
  Round make_round(int64_t now_ms);
  void end_round(const Round& round);
  // Answers who has waited for too long. → until when the first of the others waits.
  int64_t refuse_late(int64_t now_ms, std::unique_lock<std::mutex>& lock);
  void call_a_thread();
  // Calls one where something is to be done before any looks.
  void call_in_time(int64_t now_ms, int64_t begin_ms, int64_t until_ms);
  void serve(std::span<Waiter* const> batch);
  Result<ledger::Rows> execute(std::span<Waiter* const> batch);
  static void answer(Waiters& batch);

  Env& env_;
  Pool& pool_;
  const CombinerOptions options_;
  CombinerStats stats_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool running_ = false;          // between start() and stop()
  bool called_ = false;           // a thread will look before it waits
  int64_t watch_ms_ = INT64_MAX;  // when a thread looks at the latest; INT64_MAX: none does
  size_t waiting_ = 0;            // those in no round
  Tenants tenants_;
  uint64_t arrived_ = 0;                            // waiters so far
  std::map<uint64_t, Tenants::value_type*> ready_;  // those in no round, by who waits there for the longest
  std::list<Round> rounds_;                         // those under way
  std::map<std::string, int64_t> apart_until_ms_;   // tenants that wait for locks of others
  std::vector<std::thread> threads_;
};

}  // namespace tallygate::api
