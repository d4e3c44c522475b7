// How fast and when to try again. Pure: time and randomness come from Env.
#pragma once

#include <cstdint>

#include "core/env.h"

namespace tallygate::billing {

struct BackoffOptions {
  int64_t base_ms = 500;
  int64_t cap_ms = 300'000;
};

// Full jitter: uniform in [0, min(cap, base × 2^attempt)], attempt from 0; never before `at_least_ms`, to which the
// jitter is then added, so that a herd that was told the same Retry-After does not come back together.
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
int64_t backoff_ms(Env& env, const BackoffOptions& options, int64_t attempt, int64_t at_least_ms = 0);

// A token bucket: `per_second` calls, `burst` of them at once. Not thread-safe.
class RateLimit {
 public:
  RateLimit(Env& env, int64_t per_second, int64_t burst);
  // Takes one and returns 0, or returns how many milliseconds to wait before asking again (at least 1).
  int64_t take();

 private:
  Env& env_;
  const int64_t per_second_;
  const int64_t burst_nanotokens_;
  int64_t nanotokens_;
  int64_t last_ns_;
};

}  // namespace tallygate::billing
