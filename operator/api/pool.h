// A bounded number of connections to PostgreSQL, each made on first use. Who finds none free waits, but not past a
// deadline. A transaction that the database rolled back (deadlock, serialization fault, a lost connection) is run
// again, and one whose COMMIT went unanswered too: bodies must be safe to repeat, as those that begin with an
// idempotency key are.
//
// Any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/ledger/session.h"

namespace tallygate::api {

struct PoolOptions {
  std::string database_url;
  size_t connections_max = 16;
  int64_t deadline_ms = 5'000;  // for one run(), waiting and repeating included
  int attempts_max = 5;
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

  // In one transaction. kUnavailable past the deadline.
  Result<void> run(const std::function<Result<void>(ledger::Transaction&)>& body);
  // One statement that is a transaction of its own.
  Result<ledger::Rows> exec(const std::string& sql, const ledger::Params& params);
  const PoolStats& stats() const { return stats_; }

 private:
  Result<void> repeat(const std::function<Result<void>(ledger::Session&)>& attempt);
  std::unique_ptr<ledger::Session> acquire(int64_t until_ms);
  void release(std::unique_ptr<ledger::Session> session);

  Env& env_;
  const PoolOptions options_;
  PoolStats stats_;
  std::mutex mutex_;
  std::condition_variable freed_;
  size_t made_ = 0;
  std::vector<std::unique_ptr<ledger::Session>> free_;
};

}  // namespace tallygate::api
