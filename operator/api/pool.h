// A bounded number of connections to PostgreSQL, each made on first use. Who finds none free waits, in the order of
// arrival, but not past a deadline. Where the server has no room for one more, those that are there serve. A tenant has
// at most three quarters of them, so that one whose rows are locked does not stop the others. A transaction that the
// database rolled back (deadlock, serialization fault, a lost connection) is run again, and one whose COMMIT went
// unanswered too: bodies must be safe to repeat, as those that begin with an idempotency key are.
//
// Any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/ledger/history.h"
#include "operator/ledger/session.h"

namespace tallygate::api {

class Seal;

struct PoolOptions {
  std::string database_url;
  size_t connections_max = 16;
  int64_t deadline_ms = 5'000;  // for one run() that has none of its own, waiting and repeating included
  int attempts_max = 5;
  // The URL leads through a pooler that gives each transaction another session: role and time-outs are said in each.
  bool pooled = false;
  // Where it is given, a ledger that knows less than it did is as good as away: what it would answer is not so, and
  // what it would be told is lost with the next attempt to restore it. A restored one is a new connection, and each is
  // asked.
  std::shared_ptr<const ledger::History> history = nullptr;
};

struct PoolStats {
  std::atomic<uint64_t> rollbacks{0};  // attempts that the database undid and that were made again
  std::atomic<uint64_t> in_doubt{0};   // COMMITs without an answer
  std::atomic<uint64_t> exhausted{0};  // calls that found no free connection in time
};

class Pool {
 public:
  // `env` outlives it.
  Pool(Env& env, PoolOptions options);

  // In one transaction. kUnavailable past `until_ms`, of the monotonic clock.
  // `tenant`: whom it is for; "" where it is for several.
  Result<void> run(const std::function<Result<void>(ledger::Transaction&)>& body, int64_t until_ms,
                   const std::string& tenant = "");
  Result<void> run(const std::function<Result<void>(ledger::Transaction&)>& body) { return run(body, latest_ms()); }
  // One statement that is a transaction of its own.
  Result<ledger::Rows> exec(const std::string& sql, const ledger::Params& params, int64_t until_ms);
  const PoolStats& stats() const { return stats_; }
  // By the ledger's key; null before the first connection.
  std::shared_ptr<const Seal> seal() const;

  // Asks the database where no transaction has told lately how it is.
  void check();
  // Why the database cannot be reached; empty: it can be. Waits for nothing.
  std::string trouble() const;

 private:
  Result<void> repeat(const std::function<Result<void>(ledger::Session&)>& attempt, int64_t until_ms,
                      const std::string& tenant);
  int64_t latest_ms() const { return env_.mono_ms() + options_.deadline_ms; }
  using SessionPtr = std::unique_ptr<ledger::Session>;
  // Runs `fn` on a session and keeps count of those that are connected.
  Result<void> counted(ledger::Session& session, const std::function<Result<void>(ledger::Session&)>& fn);
  // Whether others are connected: then `session`, which could not be, is gone, and for a while no more is made.
  bool leave_to_others(SessionPtr& session, const std::string& tenant);
  bool may_make() const;
  void ended(const Result<void>& result);
  struct Waiter {
    const std::string& tenant;
    std::unique_ptr<ledger::Session> session;
    std::condition_variable ready;
  };
  std::unique_ptr<ledger::Session> acquire(int64_t until_ms, const std::string& tenant);
  void release(std::unique_ptr<ledger::Session> session, const std::string& tenant);
  // Gives what is free to those who may have it, the first first.
  void hand_out();
  std::unique_ptr<ledger::Session> make_session();
  Result<void> look_at_ledger(ledger::Transaction& transaction);
  void set_trouble(std::string trouble);

  Env& env_;
  const PoolOptions options_;
  PoolStats stats_;
  mutable std::mutex mutex_;
  std::list<Waiter*> waiting_;
  std::map<std::string, size_t, std::less<>> in_use_;  // connections by tenant
  size_t made_ = 0, open_ = 0;                         // sessions, and how many of them are connected
  int64_t no_more_until_ms_ = 0;
  int64_t checked_ms_ = 0;
  std::string trouble_ = "not asked yet";
  std::shared_ptr<const Seal> seal_;
  std::vector<std::unique_ptr<ledger::Session>> free_;  // connected, as far as is known
};

}  // namespace tallygate::api
