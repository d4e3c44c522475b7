#include "core/rate_limiter.h"

#include <algorithm>

#include "core/result.h"

namespace tallygate {
namespace {
constexpr int64_t kNano = 1'000'000'000;
}  // namespace

RateLimiter::RateLimiter(RateLimit limit, size_t keys_max) : limit_(limit), keys_max_(keys_max) {
  TG_ASSERT(limit.per_second > 0 && limit.per_second <= kNano && limit.burst > 0 && limit.burst <= kNano &&
            keys_max > 0);
}

void RateLimiter::refill(Bucket& bucket, int64_t now_ns) const {
  const int64_t full = limit_.burst * kNano;
  const int64_t passed_ns = std::max<int64_t>(0, now_ns - bucket.at_ns);
  // A nanosecond brings per_second billionths of a token; more than an empty bucket needs is not computed.
  const int64_t needed_ns = (full - bucket.nano_tokens) / limit_.per_second + 1;
  bucket.nano_tokens =
      passed_ns >= needed_ns ? full : std::min(full, bucket.nano_tokens + passed_ns * limit_.per_second);
  bucket.at_ns = std::max(bucket.at_ns, now_ns);
}

int64_t RateLimiter::take(std::string_view key, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    order_.splice(order_.begin(), order_, found->second);
  } else {
    if (order_.size() == keys_max_) {
      by_key_.erase(order_.back().key);
      order_.pop_back();
    }
    order_.push_front({std::string(key), limit_.burst * kNano, now_ns});
    by_key_.emplace(order_.front().key, order_.begin());
  }
  Bucket& bucket = order_.front();
  refill(bucket, now_ns);
  if (bucket.nano_tokens >= kNano) {
    bucket.nano_tokens -= kNano;
    return 0;
  }
  const int64_t wait_ns = (kNano - bucket.nano_tokens + limit_.per_second - 1) / limit_.per_second;
  return std::max<int64_t>(1, (wait_ns + 999'999) / 1'000'000);
}

size_t RateLimiter::size() const {
  const std::lock_guard lock(mutex_);
  return order_.size();
}

}  // namespace tallygate
