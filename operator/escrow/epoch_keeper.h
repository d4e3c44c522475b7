// Keeps every shard's epoch in Redis the one that the ledger has, and its members registered.
//
// Each turn: how far the ledger is (ledger_watch.h), then `renew` for all shards in one round trip. Where Redis may
// act under another epoch or none (it was wiped, restarted, promoted), the next one is opened, if the server is fit for
// it (fitness.h): a compare-and-set in the ledger, then `open`, sent once and never retried (rule 3), then `register`
// with the members read after it (rule 5). Redis is told how far its clock is from the ledger's, so that the scripts
// know the ledger's time; that Env's wall clock is meant to be (core/ledger_clock.h). Incarnations that are not heard
// of for an hour are declared gone (absentees.h). A thread and connections of its own; backs off while PostgreSQL or
// Redis is away.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/redis_client/url.h"
#include "core/redis_contract/keys.h"
#include "core/standing.h"
#include "operator/ledger/escrow_store.h"
#include "operator/ledger/history.h"

namespace tallygate::escrow {

struct EpochKeeperOptions {
  std::string database_url;
  redis::Endpoint redis;
  int64_t interval_ms = 300;
  int64_t presence_round_ms = ledger::kPresenceRound_ms;  // who gave a sign of life is looked at that often
  int silent_rounds = ledger::kSilentRounds;              // without one: gone (absentees.h)
  std::shared_ptr<ledger::History> history = std::make_shared<ledger::History>();
  std::function<bool()> is_leader = [] { return true; };
};

struct EpochKeeperCounters {
  std::atomic<int64_t> epochs_opened = 0;
  std::atomic<int64_t> registered = 0;
  std::atomic<int64_t> failures = 0;         // turns that ended with PostgreSQL or Redis away
  std::atomic<int64_t> shards_ready = 0;     // whose epoch in Redis was the ledger's at the last turn; 64 is healthy
  std::atomic<int64_t> gone = 0;             // incarnations declared gone, and what they held of wallets written off
  std::atomic<int64_t> lost_buckets = 0;     // reports of lost(), each a new epoch
  std::atomic<int64_t> redis_behind_ms = 0;  // the ledger's clock less Redis', as last measured
};

class EpochKeeper {
 public:
  EpochKeeper(Env& env, EpochKeeperOptions options);
  ~EpochKeeper();
  void start();
  void stop();
  // Any thread: this epoch's Redis has forgotten something that it had acknowledged; open the next one now (rule 4).
  void lost(int shard, int64_t epoch);
  // The epoch that Redis acts under, as of the last turn; 0 where that is none or not known. Any thread.
  int64_t current(int shard) const { return current_[static_cast<size_t>(shard)].load(std::memory_order_acquire); }
  const EpochKeeperCounters& counters() const { return counters_; }
  const Standing& standing() const { return standing_; }

 private:
  struct Worker;
  void run();
  Env& env_;
  EpochKeeperOptions options_;
  EpochKeeperCounters counters_;
  Standing standing_;
  std::array<std::atomic<int64_t>, redis_contract::kShards> current_{};
  std::mutex mutex_;
  std::vector<std::pair<int, int64_t>> lost_;  // under mutex_
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
};

}  // namespace tallygate::escrow
