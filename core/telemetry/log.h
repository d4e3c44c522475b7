// Structured logging: one JSON object a line on standard error. The message is a constant; what varies goes into
// fields.
//
//   log::info("lease granted", {{"tenant", tenant}, {"units", units}});
//   {"ts":"2026-01-31T12:00:00.123Z","level":"info","msg":"lease granted","tenant":"acme","units":50}
//
// No secrets, no line per request at info. The caller's thread formats; a thread of the log's writes, from a bounded
// queue that loses the oldest lines when full (dropped_lines()), so that logging never blocks. Any thread may log,
// before start() and after stop() too: then lines are written at once.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "core/env.h"

namespace tallygate::log {

enum class Level : uint8_t { kDebug, kInfo, kWarn, kError, kOff };
enum class Format : uint8_t { kAuto, kJson, kText };  // kAuto: text where standard error is a terminal

// Refers to its texts: only for use within the call.
class Field {
 public:
  enum class Kind : uint8_t { kText, kSigned, kUnsigned, kDouble, kBool };
  Field(std::string_view k, std::string_view v) : key(k), kind(Kind::kText), text(v) {}
  Field(std::string_view k, const std::string& v) : Field(k, std::string_view(v)) {}
  Field(std::string_view k, const char* v) : Field(k, std::string_view(v)) {}
  Field(std::string_view k, bool v) : key(k), kind(Kind::kBool), flag(v) {}
  Field(std::string_view k, double v) : key(k), kind(Kind::kDouble), real(v) {}
  template <std::signed_integral T>
  Field(std::string_view k, T v) : key(k), kind(Kind::kSigned), number(v) {}
  template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
  Field(std::string_view k, T v) : key(k), kind(Kind::kUnsigned), natural(v) {}

  std::string_view key;
  Kind kind;
  std::string_view text;
  union {
    bool flag;
    double real;
    int64_t number;
    uint64_t natural = 0;
  };
};
using Fields = std::initializer_list<Field>;

struct Options {
  Level level = Level::kInfo;
  Format format = Format::kAuto;
  size_t queue_lines_max = 8192;
  // For tests: gets every line, without its newline, on the caller's thread; nothing goes to standard error.
  std::function<void(std::string_view line)> sink = nullptr;
};

// `env` must outlive stop(). Starting again replaces the options.
void start(Options options, Env& env);
// Writes out what is queued and ends the log's thread.
void stop();
void set_level(Level level);
uint64_t dropped_lines();

namespace internal {
extern std::atomic<Level> level;
void write(Level level, std::string_view message, Fields fields, uint64_t suppressed);
}  // namespace internal

inline bool enabled(Level level) { return level >= internal::level.load(std::memory_order_relaxed); }

inline void write(Level level, std::string_view message, Fields fields = {}) {
  if (enabled(level)) internal::write(level, message, fields, 0);
}
inline void write(Level level, std::string_view message, Fields fields, uint64_t suppressed) {
  if (enabled(level)) internal::write(level, message, fields, suppressed);
}
inline void debug(std::string_view message, Fields fields = {}) { write(Level::kDebug, message, fields); }
inline void info(std::string_view message, Fields fields = {}) { write(Level::kInfo, message, fields); }
inline void warn(std::string_view message, Fields fields = {}) { write(Level::kWarn, message, fields); }
inline void error(std::string_view message, Fields fields = {}) { write(Level::kError, message, fields); }

// For what may happen in a loop: at most one line per interval from the place that holds the throttle; the next line
// tells how many were left out ("suppressed"). Any thread.
//   static log::Throttle throttle(10);
//   log::warn(throttle, "redis unavailable", {{"error", e.message}});
class Throttle {
 public:
  explicit constexpr Throttle(int64_t interval_s) : interval_ns_(interval_s * 1'000'000'000) {}
  // Whether a line may be written now; then sets how many were left out since the last.
  bool admit(uint64_t& suppressed);

 private:
  const int64_t interval_ns_;
  std::atomic<int64_t> next_ns_{INT64_MIN};
  std::atomic<uint64_t> suppressed_{0};
};

// The same for what comes by the thousand on a busy thread: `burst` lines at once, then one per interval. Takes no lock
// and reads no clock. One thread.
class Sampler {
 public:
  explicit constexpr Sampler(int64_t burst = 10, int64_t interval_ns = 1'000'000'000)
      : window_ns_(burst * interval_ns), interval_ns_(interval_ns) {}
  // Whether a line may be written at `now_ns`, which does not go back; then sets how many were left out since the last.
  bool admit(int64_t now_ns, uint64_t& suppressed);

 private:
  const int64_t window_ns_, interval_ns_;
  int64_t full_ns_ = INT64_MIN;  // when the burst is whole again
  uint64_t suppressed_ = 0;
};

void write(Throttle& throttle, Level level, std::string_view message, Fields fields = {});
inline void info(Throttle& throttle, std::string_view message, Fields fields = {}) {
  write(throttle, Level::kInfo, message, fields);
}
inline void warn(Throttle& throttle, std::string_view message, Fields fields = {}) {
  write(throttle, Level::kWarn, message, fields);
}
inline void error(Throttle& throttle, std::string_view message, Fields fields = {}) {
  write(throttle, Level::kError, message, fields);
}

}  // namespace tallygate::log
