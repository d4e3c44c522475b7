// Looks through Stripe's list of events for those that never came to the webhook, and puts them into the ledger's inbox: a
// few minutes behind the present, from where the last sweep ended, with an hour's overlap. Stripe keeps its list for 30
// days. Every operator does it, one at a time. start(), stop(): idempotent; one thread, one connection.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/session.h"
#include "operator/stripe/client.h"

namespace tallygate::stripe {

struct SweepOptions {
  std::string database_url;
  int64_t interval_ms = 120'000;
  int64_t behind_s = 30;         // what is younger may be on its way
  int64_t overlap_s = 3'600;     // what Stripe lists late
  int64_t pages_max = 1'000;     // of a hundred, in one sweep
  std::function<bool()> may_work = [] { return true; };
};

class Sweep {
 public:
  // `client` and `env` outlive it.
  Sweep(Env& env, Client& client, SweepOptions options, metrics::Registry& registry);
  ~Sweep();
  void start();
  void stop();
  // Once, now; how many were found. For the thread and for tests.
  Result<int64_t> sweep();
  // Whether it is this one's turn: then nobody else's for `for_ms`.
  Result<bool> claim(int64_t for_ms);

 private:
  void run();
  Result<int64_t> since();
  void hand_back(int64_t after_ms);
  Env& env_;
  Client& client_;
  const SweepOptions options_;
  ledger::Session session_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
  metrics::Counter found_, done_, failed_;
  metrics::Gauge swept_to_;
};

}  // namespace tallygate::stripe
