#include "core/time_text.h"

#include <cstdio>
#include <ctime>

namespace tallygate {
namespace {

constexpr int64_t kNano = 1'000'000'000;

// "2026-01-31T00:00:00"
std::string seconds_text(int64_t unix_s) {
  const std::time_t seconds = unix_s;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc)};
}

}  // namespace

std::string rfc3339(int64_t unix_s) { return seconds_text(unix_s) + 'Z'; }

std::string rfc3339_micros(int64_t wall_ns) {
  int64_t seconds = wall_ns / kNano, rest_ns = wall_ns % kNano;
  if (rest_ns < 0) --seconds, rest_ns += kNano;  // before 1970 too
  char fraction[32];
  const int size = std::snprintf(fraction, sizeof fraction, ".%06dZ", static_cast<int>(rest_ns / 1000));
  return seconds_text(seconds).append(fraction, static_cast<size_t>(size));
}

}  // namespace tallygate
