// What units cost under graduated prices, exactly: prices are per N units, so a single unit may cost a fraction of a
// micro-unit. Products and sums are 128-bit; nothing is rounded before rounded().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/money.h"
#include "core/result.h"
#include "operator/manifest/resources.h"

namespace tallygate::plan {

// whole + part ÷ denominator micro-units; 0 ≤ part < denominator.
struct ExactMicros {
  Micros whole = 0;
  int64_t part = 0;
  int64_t denominator = 1;
  // Half to even: the one rounding of a charge. Fails where it leaves int64.
  Result<Micros> rounded() const;
  // Towards +infinity: what must be covered before it is spent.
  Result<Micros> rounded_up() const;
  bool operator==(const ExactMicros&) const = default;
};

// Graduated: each unit costs the price of the tier it falls in. The last tier is open; no tiers: free.
struct UnitPrices {
  int64_t per_units = 1;
  std::vector<manifest::Tier> tiers;
  bool operator==(const UnitPrices&) const = default;
};

// The units after the first `already` of the period: already+1 … already+units. Splitting a charge into parts and
// adding the exact costs gives the cost of the whole.
Result<ExactMicros> cost(const UnitPrices& prices, int64_t already, int64_t units);

// Units at no charge before the first priced one: the quota that the prices include. kMaxInteger: all of them.
int64_t included_units(const UnitPrices& prices);

// Of `used` units in the period, those above `included`, at the prices of the tiers they fall in.
Result<ExactMicros> overage_cost(const UnitPrices& prices, int64_t included, int64_t used);

// a + b; their denominators must be equal unless a part is 0.
Result<ExactMicros> add(const ExactMicros& a, const ExactMicros& b);

// "GBP 1.23", "JPY 150", "KWD 1.500"; more decimals only where they are needed: "GBP 0.0004". A currency that is not
// known has two decimals.
std::string format_amount(Micros micros, const std::string& currency);

}  // namespace tallygate::plan
