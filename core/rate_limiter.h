// Token buckets by key, a bounded number of them. A key that is not there has a full bucket; when there are too many,
// the one used longest ago goes, which forgives it at most one burst.
//
// Any thread; time comes from the caller.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

namespace tallygate {

struct RateLimit {
  int64_t per_second = 100;
  int64_t burst = 200;
};

class RateLimiter {
 public:
  RateLimiter(RateLimit limit, size_t keys_max);

  // 0: passes, and one token is taken. Else after how many milliseconds there will be one; nothing is taken.
  int64_t take(std::string_view key, int64_t now_ns);
  size_t size() const;

 private:
  struct Bucket {
    std::string key;
    int64_t nano_tokens;
    int64_t at_ns;
  };
  using Order = std::list<Bucket>;  // the last used first
  void refill(Bucket& bucket, int64_t now_ns) const;

  const RateLimit limit_;
  const size_t keys_max_;
  mutable std::mutex mutex_;
  Order order_;
  std::unordered_map<std::string_view, Order::iterator> by_key_;
};

}  // namespace tallygate
