// The billing metrics: units booked, submitted and billed and their money, by meter and plan; wallets and their movements; tenants by
// state; sidecars; and, for as many tenants as are asked for, usage, limit, state, projection and balance of each, the largest first.
//
// The leader alone tells them, and what it tells are the ledger's running totals (migration 0060): sums over replicas are right, and
// neither a restart nor a failover counts anything twice. Money is in units of the currency, which is a label.
//
// Lifecycle: start(), stop(), idempotent; one thread, one connection, a few bounded queries each interval. A scrape reads memory only.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/session.h"

namespace tallygate::insight {

struct BillingMetricsOptions {
  int64_t interval_ms = 15'000;
  int64_t slow_interval_ms = 60'000;  // of what costs more and matters less: sidecars, who the largest tenants are
  int64_t tenants = 0;                // told one by one; the rest is summed as "other". 0: none is
  int64_t rollup_batch = 50'000;      // movements of wallets a transaction
};

class BillingMetrics {
 public:
  // `env` and `registry` outlive it.
  BillingMetrics(Env& env, std::string database_url, BillingMetricsOptions options, std::function<bool()> is_leader,
                 metrics::Registry& registry);
  ~BillingMetrics();
  void start();
  void stop();

  // Reads the ledger, now. For the thread and for tests.
  Result<void> refresh();

 private:
  struct Sample {
    bool is_counter;
    const char *name, *help;
    metrics::Labels labels;
    double value;
  };
  using Samples = std::vector<Sample>;
  struct Figures {
    Samples samples;
    int64_t at_ms = 0;  // monotonic
  };
  Result<void> read_totals(Samples& out);
  Result<void> read_wallets(Samples& out);
  Result<void> read_states(Samples& out);
  Result<void> read_tenants(Samples& out);
  Result<void> read_slow();
  void tell(metrics::Scrape& scrape) const;
  void run();

  Env& env_;
  const BillingMetricsOptions options_;
  std::function<bool()> is_leader_;
  ledger::Session session_;
  EventLoop loop_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
  int64_t slow_due_ms_ = 0;
  bool movements_known_ = false;
  Samples sidecars_;
  std::string largest_ = "{}";  // tenants, as an array of PostgreSQL's
  metrics::Counter failures_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Figures> figures_;  // under mutex_; null: nothing is known of this reign
  std::shared_ptr<metrics::Registry::Collector> collector_;  // last: it calls tell()
};

}  // namespace tallygate::insight
