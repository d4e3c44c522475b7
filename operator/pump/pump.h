// Usage, from the 64 streams of Redis into the ledger, exactly once.
//
// Each turn: XREADGROUP over all streams (first what this consumer had read before and not acknowledged), decode, book
// in one transaction, then `ack` per shard: entries leave the stream, watermarks move up; newcomers are registered.
// Dying anywhere in between is harmless: entries come again, the ledger's watermarks refuse what is booked. Entries
// that are no record go to quarantined_records in the same transaction, and count as passed. A thread and connections
// of its own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "core/env.h"
#include "core/redis_client/url.h"
#include "core/standing.h"
#include "operator/ledger/history.h"

namespace tallygate::pump {

struct PumpOptions {
  std::string database_url;
  redis::Endpoint redis;
  std::string consumer =
      "operator";  // one leader at a time, so that a successor finds its predecessor's unacknowledged entries
  int64_t block_ms = 100;
  size_t max_batch = 10'000;  // about that many entries a turn
  std::shared_ptr<ledger::History> history = std::make_shared<ledger::History>();
  std::function<bool()> is_leader = [] { return true; };  // and may book
};

struct PumpCounters {
  std::atomic<int64_t> records_booked = 0;
  std::atomic<int64_t> records_read = 0;  // with those that come again
  std::atomic<int64_t> batches = 0;
  std::atomic<int64_t> poison = 0;
  std::atomic<int64_t> failures = 0;
  std::atomic<int64_t> lag_ms = 0;  // age of the oldest entry of the last batch when it was acknowledged
};

class Pump {
 public:
  Pump(Env& env, PumpOptions options);
  ~Pump();
  void start();
  void stop();
  const PumpCounters& counters() const { return counters_; }
  const Standing& standing() const { return standing_; }

 private:
  class Worker;
  void run();
  Env& env_;
  PumpOptions options_;
  PumpCounters counters_;
  Standing standing_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace tallygate::pump
