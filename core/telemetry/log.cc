#include "core/telemetry/log.h"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>
#include <utility>

#include "core/telemetry/log_format.h"

namespace tallygate::log {
namespace internal {

std::atomic<Level> level{Level::kInfo};

}  // namespace internal

namespace {

// What start() sets up. Loggers hold it by shared_ptr, so that stop() may come while other threads log.
struct Running {
  Options options;
  Env* env = nullptr;
  bool text = false;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::logger> logger;
};

std::mutex& guard() {
  static std::mutex mutex;
  return mutex;
}

std::shared_ptr<const Running>& slot() {
  static std::shared_ptr<const Running> running;
  return running;
}

std::shared_ptr<const Running> current() {
  const std::lock_guard lock(guard());
  return slot();
}

std::atomic<uint64_t> dropped_before{0};  // by pools that are gone

void replace(std::shared_ptr<const Running> next) {
  std::shared_ptr<const Running> old;
  {
    const std::lock_guard lock(guard());
    old = std::exchange(slot(), std::move(next));
  }
  if (old && old->pool) dropped_before += old->pool->overrun_counter();
}  // the last user of the old pool empties its queue and joins its thread

void write_at_once(const std::string& line) {
  const std::string whole = line + "\n";  // one call, so that lines of several threads do not mix
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, whole.data(), whole.size());
}

}  // namespace

void start(Options options, Env& env) {
  auto running = std::make_shared<Running>();
  internal::level = options.level;
  running->env = &env;
  running->text = options.format == Format::kText || (options.format == Format::kAuto && isatty(STDERR_FILENO) == 1);
  if (!options.sink) {
    try {
      running->pool = std::make_shared<spdlog::details::thread_pool>(options.queue_lines_max, 1);
      auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
      sink->set_pattern("%v");
      running->logger = std::make_shared<spdlog::async_logger>("tallygate", sink, running->pool,
                                                               spdlog::async_overflow_policy::overrun_oldest);
      running->logger->set_level(spdlog::level::trace);
      running->logger->flush_on(spdlog::level::err);
    } catch (const std::exception&) {  // no thread to be had: lines are then written at once
      running->logger = nullptr;
      running->pool = nullptr;
    }
  }
  running->options = std::move(options);
  replace(std::move(running));
}

void stop() { replace(nullptr); }

void set_level(Level level) { internal::level = level; }

uint64_t dropped_lines() {
  const auto running = current();
  return dropped_before + (running && running->pool ? running->pool->overrun_counter() : 0);
}

void internal::write(Level level, std::string_view message, Fields fields, uint64_t suppressed) {
  const auto running = current();
  Env& env = running ? *running->env : system_env();
  const bool text = running && running->text;
  const std::string line = (text ? text_line : json_line)(env.wall_ns(), level, message, fields, suppressed);
  if (!running || (!running->logger && !running->options.sink)) return write_at_once(line);
  if (running->options.sink) return running->options.sink(line);
  try {
    running->logger->log(level == Level::kError ? spdlog::level::err : spdlog::level::info,
                         spdlog::string_view_t(line.data(), line.size()));
  } catch (const std::exception&) {
    write_at_once(line);
  }
}

bool Throttle::admit(uint64_t& suppressed) {
  const auto running = current();
  const int64_t now_ns = (running ? *running->env : system_env()).mono_ns();
  int64_t next_ns = next_ns_.load(std::memory_order_relaxed);
  if (now_ns < next_ns || !next_ns_.compare_exchange_strong(next_ns, now_ns + interval_ns_)) {
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  suppressed = suppressed_.exchange(0);
  return true;
}

bool Sampler::admit(int64_t now_ns, uint64_t& suppressed) {
  const int64_t full_ns = std::max(full_ns_, now_ns) + interval_ns_;
  if (full_ns - now_ns > window_ns_) {
    ++suppressed_;
    return false;
  }
  full_ns_ = full_ns;
  suppressed = std::exchange(suppressed_, 0);
  return true;
}

void write(Throttle& throttle, Level level, std::string_view message, Fields fields) {
  uint64_t suppressed = 0;
  if (enabled(level) && throttle.admit(suppressed)) internal::write(level, message, fields, suppressed);
}

}  // namespace tallygate::log
