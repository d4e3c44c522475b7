#include "operator/api/provider/decimal.h"

#include <cstdlib>
#include <limits>
#include <optional>

namespace tallygate::api {
namespace {

using Wide = __int128;  // NOLINT: the only exact product of such numbers

constexpr size_t kTextMax = 80;
constexpr int kDigitsMax = 18, kDecimalsMax = 40, kExponentMax = 99;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes the digits at the front.
std::string_view take_digits(std::string_view& text) {
  size_t size = 0;
  while (size < text.size() && is_digit(text[size])) ++size;
  const std::string_view digits = text.substr(0, size);
  text.remove_prefix(size);
  return digits;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

// "e-7" and the like; nothing where it is broken or absurd.
std::optional<int> take_exponent(std::string_view& text) {
  if (!take(text, 'e') && !take(text, 'E')) return 0;
  const bool negative = take(text, '-');
  if (!negative) take(text, '+');
  const std::string_view digits = take_digits(text);
  if (digits.empty()) return std::nullopt;
  int value = 0;
  for (const char c : digits) {
    value = value * 10 + (c - '0');
    if (value > kExponentMax) return std::nullopt;
  }
  return negative ? -value : value;
}

}  // namespace

Result<Decimal> Decimal::parse(std::string_view text) {
  const auto bad = [] { return fail(Errc::kInvalid, "is no decimal number of at most 18 digits and 40 decimals"); };
  if (text.size() > kTextMax) return bad();
  const bool negative = take(text, '-');
  const std::string_view whole = take_digits(text);
  if (whole.empty() || (whole.size() > 1 && whole.front() == '0')) return bad();
  std::string_view fraction;
  if (take(text, '.')) {
    fraction = take_digits(text);
    if (fraction.empty()) return bad();
  }
  const auto exponent = take_exponent(text);
  if (!exponent || !text.empty()) return bad();

  std::string digits = std::string(whole) + std::string(fraction);
  int scale = static_cast<int>(fraction.size()) - *exponent;
  digits.erase(0, digits.find_first_not_of('0'));
  while (!digits.empty() && digits.back() == '0') {
    digits.pop_back();
    --scale;
  }
  if (digits.empty()) return Decimal();
  while (scale < 0 && digits.size() <= kDigitsMax) {
    digits += '0';
    ++scale;
  }
  if (digits.size() > kDigitsMax || scale < 0 || scale > kDecimalsMax) return bad();
  Decimal out;
  out.scale_ = scale;
  for (const char c : digits) out.digits_ = out.digits_ * 10 + (c - '0');
  if (negative) out.digits_ = -out.digits_;
  return out;
}

std::string Decimal::text() const {
  std::string out = std::to_string(std::abs(digits_));
  if (scale_ > 0) {
    const auto decimals = static_cast<size_t>(scale_);
    if (out.size() <= decimals) out.insert(0, decimals + 1 - out.size(), '0');
    out.insert(out.size() - decimals, 1, '.');
  }
  return digits_ < 0 ? "-" + out : out;
}

Decimal Decimal::magnitude() const {
  Decimal out = *this;
  out.digits_ = std::abs(digits_);
  return out;
}

int Decimal::significant_digits() const {
  int count = 0;
  for (int64_t rest = std::abs(digits_); rest > 0; rest /= 10) ++count;
  return count;
}

Result<Micros> to_micros(const Decimal& amount, const Decimal& rate, const Decimal& factor) {
  TG_ASSERT(rate.significant_digits() <= kRateDigitsMax && factor.significant_digits() <= kRateDigitsMax);
  const auto out_of_range = [] { return fail(Errc::kInvalid, "amount out of range"); };
  // At most 18 + 9 + 9 digits: below 10^36, which a Wide holds.
  Wide product = static_cast<Wide>(amount.digits_) * rate.digits_ * factor.digits_;
  int exponent = 6 - amount.scale_ - rate.scale_ - factor.scale_;
  for (; exponent > 0 && product != 0; --exponent) {
    if (__builtin_mul_overflow(product, Wide{10}, &product)) return out_of_range();
  }
  if (exponent < -37) return 0;  // less than a tenth of a millionth
  Wide divisor = 1;
  for (; exponent < 0; ++exponent) divisor *= 10;
  const bool negative = product < 0;
  if (negative) product = -product;
  Wide quotient = product / divisor;
  const Wide rest = product % divisor;
  if (rest > divisor - rest || (rest == divisor - rest && (quotient & 1) != 0)) ++quotient;
  if (quotient > std::numeric_limits<int64_t>::max()) return out_of_range();
  return static_cast<Micros>(negative ? -quotient : quotient);
}

}  // namespace tallygate::api
