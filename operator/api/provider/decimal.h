// A decimal number exactly as it was written. What providers say of costs are JSON numbers such as 0.0213 or 2.13e-2:
// a double would not hold them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/money.h"

namespace tallygate::api {

class Decimal {
 public:
  Decimal() = default;
  // JSON's grammar of numbers. kInvalid: another text, more than 18 significant digits, or more than 40 decimals.
  static Result<Decimal> parse(std::string_view text);

  // Without an exponent and without zeros that say nothing: equal numbers have one text.
  std::string text() const;
  bool is_negative() const { return digits_ < 0; }
  bool is_zero() const { return digits_ == 0; }
  Decimal magnitude() const;
  // How many digits it has that count.
  int significant_digits() const;
  int decimals() const { return scale_; }
  bool operator==(const Decimal&) const = default;

 private:
  friend Result<Micros> to_micros(const Decimal& amount, const Decimal& rate, const Decimal& factor);
  int64_t digits_ = 0;  // the number is digits × 10^−scale; no zero at the end of digits where scale > 0
  int scale_ = 0;
};

inline constexpr int kRateDigitsMax = 9;  // significant ones, and decimals, of a rate or a factor

// amount × rate × factor in micro-units, rounded half to even once, at the end. Rate and factor have at most
// kRateDigitsMax digits and decimals. kInvalid: out of range.
Result<Micros> to_micros(const Decimal& amount, const Decimal& rate, const Decimal& factor);

}  // namespace tallygate::api
