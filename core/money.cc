#include "core/money.h"

#include <array>
#include <limits>

namespace tallygate {
namespace {

constexpr int kDecimalsMax = 18;

using Wide = __int128;  // NOLINT: the only exact product of two int64

Result<int64_t> narrow(Wide value) {
  if (value > std::numeric_limits<int64_t>::max() || value < std::numeric_limits<int64_t>::min()) {
    return fail(Errc::kInvalid, "amount out of range");
  }
  return static_cast<int64_t>(value);
}

constexpr std::string_view kCurrencies =
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
    "CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG "
    "HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA "
    "MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD "
    "RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX "
    "USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL ";

bool is_one_of(std::string_view currency, std::string_view list) {
  for (size_t at = 0; at + 3 <= list.size(); at += 4) {
    if (list.substr(at, 3) == currency) return true;
  }
  return false;
}

}  // namespace

bool is_currency(std::string_view text) { return text.size() == 3 && is_one_of(text, kCurrencies); }

Result<int> currency_digits(std::string_view currency) {
  if (currency.size() != 3) return fail(Errc::kInvalid, "a currency is three upper-case letters, such as GBP");
  for (const char c : currency) {
    if (c < 'A' || c > 'Z') return fail(Errc::kInvalid, "a currency is three upper-case letters, such as GBP");
  }
  if (is_one_of(currency, "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF UGX VND VUV XAF XOF XPF ISK ")) return 0;
  if (is_one_of(currency, "BHD IQD JOD KWD LYD OMR TND ")) return 3;
  return 2;
}

Result<int64_t> parse_decimal(std::string_view text, int decimals, bool allow_negative) {
  TG_ASSERT(decimals >= 0 && decimals <= kDecimalsMax);
  const std::string_view whole = text;
  const auto bad = [&] {
    return fail(Errc::kInvalid, "\"" + std::string(whole.substr(0, 40)) +
                                    "\" is not a decimal such as \"2.50\" (digits, at most " +
                                    std::to_string(decimals) + " decimals)");
  };
  bool negative = false;
  if (allow_negative && !text.empty() && text.front() == '-') {
    negative = true;
    text.remove_prefix(1);
  }
  if (text.empty() || text.size() > 24) return bad();
  Wide value = 0;
  int seen = -1;  // decimals so far; -1: before the point
  bool digit = false;
  for (const char c : text) {
    if (c == '.') {
      if (seen >= 0 || !digit) return bad();
      seen = 0;
      digit = false;
      continue;
    }
    if (c < '0' || c > '9') return bad();
    if (seen >= 0 && ++seen > decimals) return bad();
    value = value * 10 + (c - '0');
    digit = true;
  }
  if (!digit) return bad();
  for (int i = seen < 0 ? 0 : seen; i < decimals; ++i) value *= 10;
  return narrow(negative ? -value : value);
}

std::string format_decimal(int64_t value, int decimals, int min_decimals) {
  TG_ASSERT(decimals >= 0 && decimals <= kDecimalsMax);
  const Wide wide = value;
  std::string digits = std::to_string(static_cast<uint64_t>(wide < 0 ? -wide : wide));
  const auto places = static_cast<size_t>(decimals);
  if (digits.size() <= places) digits.insert(0, places + 1 - digits.size(), '0');
  std::string fraction = digits.substr(digits.size() - places);
  while (fraction.size() > static_cast<size_t>(min_decimals) && fraction.back() == '0') fraction.pop_back();
  return (value < 0 ? "-" : "") + digits.substr(0, digits.size() - places) + (fraction.empty() ? "" : "." + fraction);
}

Result<Micros> parse_money(std::string_view text, bool allow_negative) {
  return parse_decimal(text, kMicroDecimals, allow_negative);
}

std::string format_money(Micros micros, int min_decimals) {
  return format_decimal(micros, kMicroDecimals, min_decimals);
}

Result<int64_t> mul_div_half_even(int64_t value, int64_t numerator, int64_t denominator) {
  TG_ASSERT(denominator > 0);
  const Wide product = static_cast<Wide>(value) * numerator;
  Wide quotient = product / denominator;
  Wide rest = product % denominator;
  if (rest < 0) {  // floor division, so that one rule serves both signs
    rest += denominator;
    quotient -= 1;
  }
  const Wide twice = rest * 2;
  if (twice > denominator || (twice == denominator && (quotient & 1) != 0)) quotient += 1;
  return narrow(quotient);
}

Result<int64_t> mul_div_up(int64_t value, int64_t numerator, int64_t denominator) {
  TG_ASSERT(denominator > 0);
  const Wide product = static_cast<Wide>(value) * numerator;
  Wide quotient = product / denominator;
  if (product % denominator > 0) quotient += 1;
  return narrow(quotient);
}

Result<int64_t> checked_add(int64_t a, int64_t b) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return fail(Errc::kInvalid, "amount out of range");
  return sum;
}

}  // namespace tallygate
