// Records of a minute become one aggregate per tenant and meter, with its transfer, in one transaction (migration 0010:
// aggregate_usage). Exactly once: a record is marked in the transaction that counts it; concurrent runs exclude each
// other in the database, so that a moment with two leaders does no harm.
//
// Only minutes that are over, and a little longer for what is still on its way, are aggregated; what comes later makes
// a further revision. What is too large to be summed is flagged and left out (migration 0052). With an interval below a
// minute, as in a demonstration, whatever seconds are over are taken, each run making a revision of the open minute.
// Lifecycle: start(), stop(); one thread, one connection.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/standing.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/session.h"

namespace tallygate::billing {

struct AggregatorOptions {
  int64_t interval_ms = 60'000;
  int64_t lateness_ms = 5'000;
  int64_t batch_records = 50'000;
};

// Records from before this moment are aggregated: Unix seconds. Pure.
int64_t aggregate_before_s(const AggregatorOptions& options, int64_t now_ms);

struct AggregateRun {
  int64_t records = 0, aggregates = 0;
};

class Aggregator {
 public:
  Aggregator(Env& env, std::string database_url, AggregatorOptions options, std::function<bool()> is_leader,
             metrics::Registry& registry);
  ~Aggregator();
  void start();
  void stop();

  // Everything that is due now, batch by batch. For the thread and for tests, which do not start it.
  Result<AggregateRun> run_once();
  const Standing& standing() const { return standing_; }

 private:
  void run();
  bool run_and_report();
  void observe_lag();
  Env& env_;
  const AggregatorOptions options_;
  std::function<bool()> is_leader_;
  ledger::Session session_;
  EventLoop loop_;
  std::atomic<bool> stopping_ = false;
  Standing standing_;
  std::thread thread_;
  metrics::Counter records_, aggregates_, too_large_, failures_;
  metrics::Histogram seconds_;
  metrics::Gauge lag_;
};

}  // namespace tallygate::billing
