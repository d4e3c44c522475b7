// Exchange rates, and the one conversion of money into another currency: exact, rounded half to even, once.
//
//   const ExchangeRate rate = parse_exchange_rate("0.79").value();   // 1 USD = 0.79 GBP
//   convert(1'000'000, rate)        → 790'000 micros of GBP: 0.79
//   convert(12'345, rate, 2)        → 10'000: 0.01, the nearest amount that has pence only
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/money.h"
#include "core/result.h"

namespace tallygate {

// What one unit of a currency is in another: above 0, at most 1,000,000, in at most twelve decimals.
struct ExchangeRate {
  int64_t picos = 0;        // the rate × 10^12
  std::string str() const;  // the shortest exact decimal: "0.79"
  bool operator==(const ExchangeRate&) const = default;
};
Result<ExchangeRate> parse_exchange_rate(std::string_view text);
// The rate of the opposite direction, to twelve decimals. Fails where that is no rate.
Result<ExchangeRate> inverse(ExchangeRate rate);

// `amount` in the other currency, rounded to `decimals` of it: six, a wallet's micros, or a currency's own digits for
// an amount that is shown or paid by card. Overflow is an error.
Result<Micros> convert(Micros amount, ExchangeRate rate, int decimals = kMicroDecimals);

// "USD/GBP=0.79": one USD is 0.79 GBP.
struct QuotedPair {
  std::string from, to;
  ExchangeRate rate;
  std::string pair() const { return from + '/' + to; }
};

// The rates in force. A pair serves both directions, unless the other is there itself. Immutable; any thread.
class ExchangeRates {
 public:
  ExchangeRates() = default;
  // kInvalid: a pair comes twice, or the inverse of one is no rate.
  static Result<ExchangeRates> of(const std::vector<QuotedPair>& pairs);
  std::optional<ExchangeRate> find(std::string_view from, std::string_view to) const;

 private:
  std::map<std::string, ExchangeRate, std::less<>> rates_;  // by "USD/GBP"
};

}  // namespace tallygate
