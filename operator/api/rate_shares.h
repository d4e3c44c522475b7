// How often who may ask: token buckets by tenant, in shares that do not take from each other, and within a share by
// caller, so that one of a tenant's callers cannot use up what the others need.
//
// Any thread; time comes from the caller.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "core/rate_limiter.h"

namespace tallygate::api {

enum class Share : uint8_t {
  kServices,      // calls with service tokens: a caller gets at most three quarters
  kUsers,         // calls with JWTs, whatever they ask: a caller gets at most a quarter
  kStatus,        // status checks with service tokens: the kill switch has what nothing else takes
  kLeases,        // of sidecars: ten times as many, not by caller
  kEvents,        // of providers, by provider
  kStatusEvents,  // their status checks, likewise
};
inline constexpr size_t kShares = 6;

class RateShares {
 public:
  // `per_tenant`: of each share. At most `keys_max` tenants and as many callers are known at a time, in each.
  RateShares(RateLimit per_tenant, size_t keys_max);
  // 0: the call passes. Else after how many milliseconds it may come again.
  int64_t take(Share share, std::string_view tenant, std::string_view caller, int64_t now_ns);

 private:
  struct Limits {  // null: none
    std::unique_ptr<RateLimiter> of_tenant, of_caller;
  };
  std::array<Limits, kShares> shares_;
};

}  // namespace tallygate::api
