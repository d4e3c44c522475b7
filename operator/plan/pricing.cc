#include "operator/plan/pricing.h"

#include <algorithm>
#include <limits>

namespace tallygate::plan {
namespace {

using Wide = __int128;  // NOLINT: the only exact product of two int64

Result<int64_t> narrow(Wide value) {
  if (value > std::numeric_limits<int64_t>::max() || value < std::numeric_limits<int64_t>::min()) {
    return fail(Errc::kInvalid, "cost out of range");
  }
  return static_cast<int64_t>(value);
}

// Cost of the first `units` units, times per_units. At most 2^53 × 2^63: no overflow.
Wide scaled_cost(const UnitPrices& prices, int64_t units) {
  Wide total = 0;
  int64_t from = 0;
  for (const auto& tier : prices.tiers) {
    const int64_t to = tier.up_to ? std::min(*tier.up_to, units) : units;
    if (to > from) total += static_cast<Wide>(to - from) * tier.price;
    from = std::max(from, to);
  }
  return total;
}

}  // namespace

Result<Micros> ExactMicros::rounded() const {
  const Wide twice = static_cast<Wide>(part) * 2;
  const bool up = twice > denominator || (twice == denominator && (whole & 1) != 0);
  return narrow(static_cast<Wide>(whole) + (up ? 1 : 0));
}

Result<Micros> ExactMicros::rounded_up() const { return narrow(static_cast<Wide>(whole) + (part > 0 ? 1 : 0)); }

Result<ExactMicros> cost(const UnitPrices& prices, int64_t already, int64_t units) {
  if (already < 0 || units < 0 || already > kMaxInteger - units) {
    return fail(Errc::kInvalid, "units out of range");
  }
  TG_ASSERT(prices.per_units > 0);
  const Wide scaled = scaled_cost(prices, already + units) - scaled_cost(prices, already);
  const auto whole = narrow(scaled / prices.per_units);
  if (!whole) return tl::unexpected(whole.error());
  return ExactMicros{*whole, static_cast<int64_t>(scaled % prices.per_units), prices.per_units};
}

int64_t included_units(const UnitPrices& prices) {
  int64_t included = 0;
  for (const auto& tier : prices.tiers) {
    if (tier.price != 0) return included;
    if (!tier.up_to) return kMaxInteger;
    included = *tier.up_to;
  }
  return kMaxInteger;
}

Result<ExactMicros> overage_cost(const UnitPrices& prices, int64_t included, int64_t used) {
  if (included < 0 || used < 0) return fail(Errc::kInvalid, "units out of range");
  if (used <= included) return ExactMicros{0, 0, prices.per_units};
  return cost(prices, included, used - included);
}

Result<ExactMicros> add(const ExactMicros& a, const ExactMicros& b) {
  if (a.part != 0 && b.part != 0 && a.denominator != b.denominator) {
    return fail(Errc::kInvalid, "fractions of different prices do not add up; round each first");
  }
  const int64_t denominator = a.part != 0 ? a.denominator : b.denominator;
  const Wide part = static_cast<Wide>(a.part) + b.part;
  const auto whole = narrow(static_cast<Wide>(a.whole) + b.whole + part / denominator);
  if (!whole) return tl::unexpected(whole.error());
  return ExactMicros{*whole, static_cast<int64_t>(part % denominator), denominator};
}

std::string format_amount(Micros micros, const std::string& currency) {
  return currency + " " + format_money(micros, currency_digits(currency).value_or(2));
}

}  // namespace tallygate::plan
