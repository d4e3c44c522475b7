// Money: int64 micro-units of a currency (1.00 GBP = 1,000,000). Never floating point; overflow is an error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate {

using Micros = int64_t;
inline constexpr int64_t kMicrosPerUnit = 1'000'000;
inline constexpr int kMicroDecimals = 6;

// An upper bound on every count and limit, so that JSON readers keep it exact: 2^53 − 1.
inline constexpr int64_t kMaxInteger = 9'007'199'254'740'991;

// ISO 4217, in use as money: the one list, for manifests, the API and the commands.
bool is_currency(std::string_view text);

// ISO 4217 minor digits: 2 for most, 0 for JPY and the like, 3 for KWD and the like; fails on what is not three
// upper-case letters.
Result<int> currency_digits(std::string_view currency);

// "2.50" → 2,500,000. At most six decimals; a sign only where `allow_negative`. No exponent, no blanks, no grouping.
Result<Micros> parse_money(std::string_view text, bool allow_negative = false);

// Shortest exact decimal with at least `min_decimals`: 2,500,000 → "2.50".
std::string format_money(Micros micros, int min_decimals = 2);

// The same of any scale: `decimals` (0 to 18) places behind the point. "0.79" of twelve is 790,000,000,000.
Result<int64_t> parse_decimal(std::string_view text, int decimals, bool allow_negative = false);
std::string format_decimal(int64_t value, int decimals, int min_decimals);

// value × numerator ÷ denominator over a 128-bit product, rounded half to even. denominator > 0.
Result<int64_t> mul_div_half_even(int64_t value, int64_t numerator, int64_t denominator);
// The same, rounded up (towards +infinity): for what must be covered before it is spent.
Result<int64_t> mul_div_up(int64_t value, int64_t numerator, int64_t denominator);

Result<int64_t> checked_add(int64_t a, int64_t b);

}  // namespace tallygate
