#include "operator/api/rate_shares.h"

#include <algorithm>

namespace tallygate::api {
namespace {

RateLimit times(RateLimit limit, int64_t by, int64_t through) {
  return {std::max<int64_t>(1, limit.per_second * by / through), std::max<int64_t>(1, limit.burst * by / through)};
}

}  // namespace

RateShares::RateShares(RateLimit r, size_t n)
    : shares_{{{{r, n}, {times(r, 3, 4), n}, true},
               {{r, n}, {times(r, 1, 4), n}, true},
               {{r, n}, {times(r, 3, 4), n}, true},
               {{times(r, 10, 1), n}, {r, n}, false},
               {{r, n}, {r, n}, true},
               {{r, n}, {r, n}, true}}} {}

int64_t RateShares::take(Share share, std::string_view tenant, std::string_view caller, int64_t now_ns) {
  Limits& limits = shares_[static_cast<size_t>(share)];
  if (limits.by_caller) {
    const int64_t wait_ms = limits.callers.take(std::string(tenant) + '\n' + std::string(caller), now_ns);
    if (wait_ms > 0) return wait_ms;
  }
  // A provider's events are its own: those of one do not keep another's from the tenant.
  if (share == Share::kEvents || share == Share::kStatusEvents) return 0;
  return limits.tenants.take(tenant, now_ns);
}

}  // namespace tallygate::api
