#include "sidecar/meter/json_number.h"

#include <algorithm>
#include <limits>
#include <string>

namespace tallygate::meter {
namespace {

constexpr int64_t kExponentMax = 1'000'000;  // past it, a number is nothing or too large in any scale

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Digits alone, fewer than could overflow.
bool is_plain(std::string_view number) {
  if (number.empty() || number.size() > 18 || (number[0] == '0' && number.size() > 1)) return false;
  return std::all_of(number.begin(), number.end(), is_digit);
}

// value = digits × 10^exponent, without zeros at either end of the digits; no
// digits: zero.
struct Parts {
  bool negative = false;
  std::string digits;
  int64_t exponent = 0;
};

std::string_view take_digits(std::string_view& rest) {
  size_t n = 0;
  while (n < rest.size() && is_digit(rest[n])) ++n;
  const std::string_view digits = rest.substr(0, n);
  rest.remove_prefix(n);
  return digits;
}

bool take_exponent(std::string_view& rest, int64_t* exponent) {
  if (rest.empty() || (rest[0] != 'e' && rest[0] != 'E')) return true;
  rest.remove_prefix(1);
  const bool negative = !rest.empty() && rest[0] == '-';
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) rest.remove_prefix(1);
  const std::string_view digits = take_digits(rest);
  int64_t value = 0;
  for (const char c : digits) value = std::min(value * 10 + (c - '0'), kExponentMax);
  *exponent = negative ? -value : value;
  return !digits.empty();
}

bool parse(std::string_view text, Parts* parts) {
  std::string_view rest = text;
  parts->negative = !rest.empty() && rest[0] == '-';
  if (parts->negative) rest.remove_prefix(1);
  const std::string_view whole = take_digits(rest);
  if (whole.empty() || (whole.size() > 1 && whole[0] == '0')) return false;
  std::string_view fraction;
  if (!rest.empty() && rest[0] == '.') {
    rest.remove_prefix(1);
    fraction = take_digits(rest);
    if (fraction.empty()) return false;
  }
  if (!take_exponent(rest, &parts->exponent) || !rest.empty()) return false;
  parts->digits.append(whole).append(fraction);
  parts->exponent -= static_cast<int64_t>(fraction.size());
  std::string& digits = parts->digits;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  while (!digits.empty() && digits.back() == '0') {
    digits.pop_back();
    ++parts->exponent;
  }
  return true;
}

}  // namespace

Result<int64_t> scaled_up(std::string_view number, int decimals) {
  Parts parts;
  if (!parse(number, &parts)) return fail(Errc::kInvalid, "it is no number");
  if (parts.digits.empty()) return 0;
  const int64_t shift = parts.exponent + decimals;
  bool rest = false;
  if (shift < 0) {
    rest = true;  // the last digit is none of zero
    parts.digits.resize(parts.digits.size() -
                        static_cast<size_t>(std::min<int64_t>(-shift, static_cast<int64_t>(parts.digits.size()))));
  }
  if (static_cast<int64_t>(parts.digits.size()) + std::max<int64_t>(shift, 0) > 19 && !parts.digits.empty()) {
    return fail(Errc::kExhausted, "it is larger than can be counted");
  }
  __int128 value = 0;
  for (const char c : parts.digits) value = value * 10 + (c - '0');
  for (int64_t i = 0; i < shift && value != 0; ++i) value *= 10;
  if (parts.negative) {
    value = -value;  // cutting digits off has rounded up
  } else if (rest) {
    ++value;
  }
  if (value > std::numeric_limits<int64_t>::max() || value < std::numeric_limits<int64_t>::min()) {
    return fail(Errc::kExhausted, "it is larger than can be counted");
  }
  return static_cast<int64_t>(value);
}

Result<int64_t> exact_integer(std::string_view number) {
  if (is_plain(number)) {  // as nearly all are
    int64_t value = 0;
    for (const char c : number) value = value * 10 + (c - '0');
    return value;
  }
  Parts parts;
  if (!parse(number, &parts)) return fail(Errc::kInvalid, "it is no number");
  if (!parts.digits.empty() && parts.exponent < 0) return fail(Errc::kInvalid, "it is no integer");
  return scaled_up(number, 0);
}

}  // namespace tallygate::meter
