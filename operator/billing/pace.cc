#include "operator/billing/pace.h"

#include <algorithm>

namespace tallygate::billing {
namespace {
constexpr int64_t kToken = 1'000'000'000;
constexpr int64_t kMaxDoublings = 20;
}  // namespace

int64_t backoff_ms(Env& env, const BackoffOptions& options, int64_t attempt, int64_t at_least_ms) {
  const int64_t doublings = std::clamp<int64_t>(attempt, 0, kMaxDoublings);
  const int64_t ceiling = std::min(options.cap_ms, options.base_ms << doublings);
  return at_least_ms + static_cast<int64_t>(env.random_below(static_cast<uint64_t>(ceiling) + 1));
}

RateLimit::RateLimit(Env& env, int64_t per_second, int64_t burst)
    : env_(env),
      per_second_(std::max<int64_t>(1, per_second)),
      burst_nanotokens_(std::max<int64_t>(1, burst) * kToken),
      nanotokens_(burst_nanotokens_),
      last_ns_(env.mono_ns()) {}

int64_t RateLimit::take() {
  const int64_t now = env_.mono_ns();
  // At most what fills the bucket, so that a long pause cannot overflow the product.
  const int64_t elapsed = std::min(now - last_ns_, burst_nanotokens_ / per_second_ + 1);
  nanotokens_ = std::min(burst_nanotokens_, nanotokens_ + elapsed * per_second_);
  last_ns_ = now;
  if (nanotokens_ >= kToken) {
    nanotokens_ -= kToken;
    return 0;
  }
  return (kToken - nanotokens_) / per_second_ / 1'000'000 + 1;
}

}  // namespace tallygate::billing
