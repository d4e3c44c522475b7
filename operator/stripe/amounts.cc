#include "operator/stripe/amounts.h"

#include <algorithm>

namespace tallygate::stripe {
namespace {

struct Minimum {
  std::string_view currency;
  int64_t minor;
};
// Of those that have one of their own. For others Stripe converts, and says so itself.
constexpr Minimum kMinimums[] = {
    {"AED", 200},   {"AUD", 50},  {"BGN", 100},  {"BRL", 50},  {"CAD", 50},  {"CHF", 50},  {"CZK", 1500}, {"DKK", 250},
    {"EUR", 50},    {"GBP", 30},  {"HKD", 400},  {"HUF", 17500}, {"INR", 50}, {"JPY", 50},  {"MXN", 1000}, {"MYR", 200},
    {"NOK", 300},   {"NZD", 50},  {"PLN", 200},  {"RON", 200}, {"SEK", 300}, {"SGD", 50},  {"THB", 1000}, {"USD", 50}};
constexpr int64_t kMaximum = 99'999'999;  // eight digits, of every currency

// What Stripe counts in: two decimals of ISK and UGX, though they have none, and the last digit of three is 0.
struct Unit {
  int digits;
  int64_t step;
};

Unit unit_of(const std::string& currency, int digits) {
  if (currency == "ISK" || currency == "UGX") return {2, 100};
  return {digits, digits == 3 ? 10 : 1};
}

int64_t power_of_ten(int n) {
  int64_t power = 1;
  for (int i = 0; i < n; ++i) power *= 10;
  return power;
}

}  // namespace

Result<int64_t> to_minor(Micros amount, const std::string& currency) {
  const auto digits = currency_digits(currency);
  if (!digits) return fail(Errc::kInvalid, "is of no currency of ISO 4217");
  const Unit unit = unit_of(currency, *digits);
  const int64_t micros_each = power_of_ten(kMicroDecimals - unit.digits);
  const auto told = [&](int64_t minor) { return format_money(minor * micros_each, *digits) + ' ' + currency; };
  if (amount % (micros_each * unit.step) != 0) return fail(Errc::kInvalid, "must be a multiple of " + told(unit.step));
  const int64_t minor = amount / micros_each;
  const auto least = std::find_if(std::begin(kMinimums), std::end(kMinimums),
                                  [&](const Minimum& each) { return each.currency == currency; });
  const int64_t minimum = std::max(unit.step, least == std::end(kMinimums) ? 1 : least->minor);
  if (minor < minimum) return fail(Errc::kInvalid, "must be at least " + told(minimum));
  if (minor > kMaximum) return fail(Errc::kInvalid, "must be at most " + told(kMaximum / unit.step * unit.step));
  return minor;
}

}  // namespace tallygate::stripe
