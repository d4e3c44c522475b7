#include "operator/api/rate_shares.h"

#include <algorithm>

namespace tallygate::api {
namespace {

// A share of `limit` for each of at most `keys_max`.
std::unique_ptr<RateLimiter> part(RateLimit limit, int64_t by, int64_t through, size_t keys_max) {
  const RateLimit its = {std::max<int64_t>(1, limit.per_second * by / through),
                         std::max<int64_t>(1, limit.burst * by / through)};
  return std::make_unique<RateLimiter>(its, keys_max);
}

}  // namespace

// A provider's events are limited by caller alone: those of one do not keep another's from the tenant.
RateShares::RateShares(RateLimit r, size_t n)
    : shares_{{{part(r, 1, 1, n), part(r, 3, 4, n)},
               {part(r, 1, 1, n), part(r, 1, 4, n)},
               {part(r, 1, 1, n), part(r, 3, 4, n)},
               {part(r, 10, 1, n), nullptr},
               {nullptr, part(r, 1, 1, n)},
               {nullptr, part(r, 1, 1, n)}}} {}

int64_t RateShares::take(Share share, std::string_view tenant, std::string_view caller, int64_t now_ns) {
  const Limits& limits = shares_[static_cast<size_t>(share)];
  if (limits.of_caller) {
    const int64_t wait_ms = limits.of_caller->take(std::string(tenant) + '\n' + std::string(caller), now_ns);
    if (wait_ms > 0) return wait_ms;
  }
  return limits.of_tenant ? limits.of_tenant->take(tenant, now_ns) : 0;
}

}  // namespace tallygate::api
