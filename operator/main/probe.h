// Asks PostgreSQL and Redis once a second whether they answer, and are as they must be, so that health can tell without
// going to look: whether PostgreSQL takes writes and has connections enough, whether Redis takes what will be asked of
// it (escrow/fitness.h), and what it may drop where its memory is full. First waits for the schema: what needs the
// ledger is started only once it is this program's.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/redis_client/client.h"
#include "core/redis_client/url.h"
#include "core/result.h"
#include "core/telemetry/log.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/history.h"

namespace tallygate::operator_main {

// What one service last answered. Any thread.
class WatchedService {
 public:
  WatchedService(const std::string& name, metrics::Registry& registry);
  void set(const Result<void>& answer);
  bool up() const { return up_.load(std::memory_order_relaxed); }
  std::string error() const;

 private:
  const std::string name_;
  metrics::Gauge gauge_;
  std::atomic<bool> up_ = false;
  bool told_ = false;  // of the thread that sets
  log::Throttle throttle_{5};
  mutable std::mutex mutex_;
  std::string error_ = "not asked yet";  // under mutex_
};

// What a Redis of this maxmemory-policy may drop.
enum class Eviction : uint8_t { kNothing, kExpiring, kAnything };
// Of the answer to INFO memory; what cannot be read counts as nothing.
Eviction eviction_of(std::string_view info, std::string* policy);

struct ProbeOptions {
  std::string database_url;
  redis::Endpoint redis;
  std::string api_database_url = {};  // where the API has one of its own, and counts on sessions
  bool migrate = false;               // apply what is pending instead of refusing
  int64_t connections_needed = 0;     // of PostgreSQL's
  std::shared_ptr<ledger::History> history = std::make_shared<ledger::History>();  // learns how far the ledger is
};

class Probe {
 public:
  // `on_schema` is called once, on the probe's thread: with nothing once the schema is this program's, else with why
  // this program must not run on it.
  Probe(Env& env, ProbeOptions options, std::function<void(Result<void>)> on_schema, metrics::Registry& registry);
  ~Probe();
  void start();
  void stop();
  const WatchedService& database() const { return database_; }
  const WatchedService& redis() const { return redis_; }
  // Any thread.
  Eviction eviction() const { return eviction_.load(std::memory_order_relaxed); }
  // What is wrong with that, and the fix; empty where nothing is.
  std::string eviction_fault() const;
  // Why sidecars' requests are heard late, and the fix; empty: they are not.
  std::string subscription_fault() const;
  // Why PostgreSQL has too few connections for this process; empty: it has enough, or was not asked yet.
  std::string connections_fault() const;
  // Whether it has had enough since this process began: then what is open serves on.
  bool had_connections() const { return had_connections_.load(std::memory_order_relaxed); }

 private:
  void watch_database();
  Result<void> ask_database(ledger::Session& session);
  void look_at_connections(ledger::Session& session);
  void watch_redis();
  Result<void> ask_redis(redis::Client& client);
  void look_at_subscription();
  void hear_ledger(redis::Client& client);
  void look_at_eviction(std::string_view info);
  void pause(EventLoop& loop);

  Env& env_;
  const ProbeOptions options_;
  std::function<void(Result<void>)> on_schema_;
  WatchedService database_, redis_;
  metrics::Gauge may_evict_;
  std::atomic<Eviction> eviction_ = Eviction::kNothing;
  mutable std::mutex mutex_;
  std::string policy_, connections_fault_, subscription_fault_;  // under mutex_
  std::atomic<bool> had_connections_ = false;
  int64_t next_count_ms_ = 0;  // of the thread that asks PostgreSQL
  bool fit_ = false;           // this and the next: of the one that asks Redis
  int64_t next_trial_ms_ = 0;
  std::atomic<bool> stopping_ = false;
  EventLoop database_loop_, redis_loop_;
  std::thread database_thread_, redis_thread_;
};

}  // namespace tallygate::operator_main
