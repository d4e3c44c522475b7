// Does what Stripe's events say: takes them from the ledger's inbox one by one (migration 0061), each by one of a few
// threads on any operator, woken by NOTIFY and each second. What an event does commits with the mark that it is done. Where its
// object has to be asked for at Stripe, that is between two transactions; Stripe's absence, or ours, postpones it.
//
// Threads: `workers`, each with a connection, and one that looks at the queue. start(), stop(): idempotent; stop() waits
// for what is under way, at most a call of Stripe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/session.h"
#include "operator/stripe/client.h"

namespace tallygate::stripe {

struct EventWorkersOptions {
  std::string database_url;
  int64_t workers = 5;
  bool suspend_on_dispute = true;
  int64_t poll_ms = 1'000;
  int64_t look_interval_ms = 5'000;
  int64_t retry_base_ms = 1'000, retry_cap_ms = 300'000;  // of objects that could not be asked for
  int64_t retention_days = 90;                            // of what is done; Stripe's own list has 30
  std::function<bool()> may_work = [] { return true; };   // else nothing is taken
};

class EventWorkers {
 public:
  // `client` and `env` outlive it.
  EventWorkers(Env& env, Client& client, EventWorkersOptions options, metrics::Registry& registry);
  ~EventWorkers();
  void start();
  void stop();

  // For /health; any thread. Waiting and dead as they were a few seconds ago, completed since the start.
  struct Status {
    int64_t active = 0, completed = 0, dead = 0, waiting = 0;
    std::string trouble;  // why nothing is done at present; empty: it is
  };
  Status status() const;

  // One event that is due, now; false: none is. For the threads and for tests.
  Result<bool> work(ledger::Session& session);

 private:
  struct Task {
    std::string id, type, path, tenant;
    int64_t attempts = 0;
  };
  void run();
  void run_look();
  Result<void> look(ledger::Session& session);
  Result<void> fetch(ledger::Session& session, const Task& task);
  void tell_done(const ledger::Rows& rows);
  void pause(int64_t ms);
  void set_trouble(std::string trouble);

  Env& env_;
  Client& client_;
  const EventWorkersOptions options_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int64_t> active_ = 0, completed_ = 0, waiting_ = 0, dead_ = 0;
  mutable std::mutex mutex_;
  std::string trouble_;  // guarded by mutex_
  std::vector<std::thread> threads_;
  metrics::Counter applied_, ignored_, foreign_, faults_, postponed_, failures_, fetched_;
  metrics::Histogram latency_;
  metrics::Gauge waiting_now_, dead_now_, oldest_;
};

}  // namespace tallygate::stripe
