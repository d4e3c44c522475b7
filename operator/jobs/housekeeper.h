// The ledger's periodic jobs: frees reservations that expired and charges providers' calls that could not be paid and
// now can (each few seconds), writes off wallets' float of epochs that ended an hour ago (each minute), drops usage
// partitions past their retention, old quotes that nothing was charged at and notes of ledger leases that say nothing
// any more (hourly), audits the ledger (each ten minutes: zero sum, balances equal postings, holds equal reservations).
// The rules are SQL (migrations 0022, 0025, 0032, 0039, 0042). Lifecycle: start(), stop(); one thread, one connection.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/standing.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/escrow_store.h"
#include "operator/ledger/session.h"

namespace tallygate::jobs {

struct HousekeeperOptions {
  int64_t expiry_interval_ms = 5'000;
  int64_t expiry_batch = 1'000;
  int64_t settle_interval_ms = 5'000;
  int64_t settle_batch = 1'000;
  int64_t write_off_interval_ms = 60'000;
  int64_t write_off_after_ms =
      ledger::kWriteOffAfter_ms;  // the end of an epoch: wallets' float that nobody reported (rule 9)
  int64_t write_off_batch = 1'000;
  int64_t audit_interval_ms = 600'000;
  int64_t retention_interval_ms = 3'600'000;
  int64_t retention_days = 400;       // of usage records; aggregates and postings stay
  int64_t quote_retention_days = 30;  // after the expiry; those that something was charged at stay
  int64_t trim_batch = 1'000;         // quotes, or leases' notes, a transaction
};

class Housekeeper {
 public:
  Housekeeper(Env& env, std::string database_url, HousekeeperOptions options, std::function<bool()> is_leader,
              metrics::Registry& registry);
  ~Housekeeper();
  void start();
  void stop();

  // Each once, now; how many holds were freed, calls charged, floats written off, partitions, quotes
  // and leases' notes dropped, differences found. For the thread and for tests.
  Result<int64_t> expire();
  Result<int64_t> settle();
  Result<int64_t> write_off();
  Result<int64_t> retain();
  Result<int64_t> drop_quotes();
  Result<int64_t> trim_leases();
  Result<int64_t> audit();
  // Of a job whose last run failed, named in front. Any thread.
  std::optional<Standing::Trouble> trouble() const;

 private:
  struct Job {
    const char* name;
    int64_t interval_ms;
    Result<int64_t> (Housekeeper::*run)();
    int64_t next_ms = 0;
  };
  void run();
  void attempt(Job& job);
  Env& env_;
  const HousekeeperOptions options_;
  std::function<bool()> is_leader_;
  ledger::Session session_;
  std::map<std::string, Standing, std::less<>> standings_;  // by job
  EventLoop loop_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
  std::string quotes_seen_at_ = "-infinity", quotes_seen_id_;  // how far drop_quotes() has looked
  metrics::Counter expired_, settled_, written_off_, dropped_, quotes_dropped_, leases_trimmed_, failures_, audits_;
  metrics::Gauge unpaid_, differences_;
};

}  // namespace tallygate::jobs
