// Hands capacity of the ledger to buckets in Redis as they ask for it.
//
// Driven by the channel `tg:want`, so that a cold bucket is funded within milliseconds; what a lost message leaves
// behind is found by a scan of the `want` sets each second, over members asked for within the last minute: that also
// funds dry buckets whose limit was raised. Per batch one round trip of `stat`, one transaction, one round trip of
// `fund`. A thread and connections of its own; backs off while PostgreSQL or Redis is away.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/redis_client/url.h"
#include "core/standing.h"
#include "operator/escrow/epoch_keeper.h"

namespace tallygate::escrow {

struct FunderOptions {
  std::string database_url;
  redis::Endpoint redis;
  int64_t float_units = 5000;  // most units that a bucket's free float is raised to
  int64_t scan_interval_ms = 1000;
  size_t max_batch = 500;
  std::function<bool()> is_leader = [] { return true; };
};

struct FunderCounters {
  std::atomic<int64_t> funded_units = 0;
  std::atomic<int64_t> funded_calls = 0;  // buckets answered
  std::atomic<int64_t> dry_answers = 0;
  std::atomic<int64_t> recalls = 0;  // of float from other buckets of a wallet
  std::atomic<int64_t> lost = 0;     // buckets that Redis knew too little of
  std::atomic<int64_t> refused = 0;  // by the ledger, as data: a defect somewhere
  std::atomic<int64_t> dropped = 0;  // messages past the queue's bound; the scan finds them again
  std::atomic<int64_t> failures = 0;
};

class Funder {
 public:
  // `keeper` outlives it.
  Funder(Env& env, FunderOptions options, EpochKeeper& keeper);
  ~Funder();
  void start();
  void stop();
  // Any thread: this tenant's plan changed; look at all its buckets again now.
  void kick(std::string_view tenant);
  const FunderCounters& counters() const { return counters_; }
  const Standing& standing() const { return standing_; }

 private:
  struct Worker;
  void run();
  Env& env_;
  FunderOptions options_;
  EpochKeeper& keeper_;
  FunderCounters counters_;
  Standing standing_;
  std::mutex mutex_;
  std::vector<std::string> kicked_;  // under mutex_
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
};

}  // namespace tallygate::escrow
