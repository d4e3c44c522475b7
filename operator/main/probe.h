// Asks PostgreSQL and Redis once a second whether they answer, so that health can tell without going to look. First
// waits for the schema: what needs the ledger is started only once it is this program's.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/redis_client/url.h"
#include "core/result.h"
#include "core/telemetry/log.h"
#include "core/telemetry/metrics.h"

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

struct ProbeOptions {
  std::string database_url;
  redis::Endpoint redis;
  bool migrate = false;  // apply what is pending instead of refusing
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

 private:
  void watch_database();
  void watch_redis();
  void pause(EventLoop& loop);

  Env& env_;
  const ProbeOptions options_;
  std::function<void(Result<void>)> on_schema_;
  WatchedService database_, redis_;
  std::atomic<bool> stopping_ = false;
  EventLoop database_loop_, redis_loop_;
  std::thread database_thread_, redis_thread_;
};

}  // namespace tallygate::operator_main
