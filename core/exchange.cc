#include "core/exchange.h"

namespace tallygate {
namespace {

constexpr int kRateDecimals = 12;
constexpr int64_t kRateScale = 1'000'000'000'000;  // 10^12
constexpr int64_t kRateMax = 1'000'000;

Result<ExchangeRate> checked_rate(int64_t picos) {
  if (picos <= 0 || picos > kRateMax * kRateScale) {
    return fail(Errc::kInvalid, "an exchange rate is above 0 and at most " + std::to_string(kRateMax));
  }
  return ExchangeRate{picos};
}

}  // namespace

std::string ExchangeRate::str() const { return format_decimal(picos, kRateDecimals, 0); }

Result<ExchangeRate> parse_exchange_rate(std::string_view text) {
  const auto picos = parse_decimal(text, kRateDecimals);
  if (!picos) return tl::unexpected(picos.error());
  return checked_rate(*picos);
}

Result<ExchangeRate> inverse(ExchangeRate rate) {
  TG_ASSERT(rate.picos > 0);
  const auto picos = mul_div_half_even(kRateScale, kRateScale, rate.picos);
  if (!picos) return tl::unexpected(picos.error());
  return checked_rate(*picos);
}

Result<Micros> convert(Micros amount, ExchangeRate rate, int decimals) {
  TG_ASSERT(decimals >= 0 && decimals <= kMicroDecimals);
  int64_t step = 1;  // micros of the last decimal
  for (int i = decimals; i < kMicroDecimals; ++i) step *= 10;
  const auto steps = mul_div_half_even(amount, rate.picos, kRateScale * step);
  if (!steps) return tl::unexpected(steps.error());
  return mul_div_half_even(*steps, step, 1);
}

Result<ExchangeRates> ExchangeRates::of(const std::vector<QuotedPair>& pairs) {
  ExchangeRates out;
  for (const auto& pair : pairs) {
    if (!out.rates_.emplace(pair.pair(), pair.rate).second) {
      return fail(Errc::kInvalid, pair.pair() + " has two rates");
    }
  }
  for (const auto& pair : pairs) {
    const std::string opposite = pair.to + '/' + pair.from;
    if (out.rates_.contains(opposite)) continue;
    const auto rate = inverse(pair.rate);
    if (!rate)
      return fail(Errc::kInvalid, "the opposite of " + pair.pair() + " is out of range: give " + opposite + " too");
    out.rates_.emplace(opposite, *rate);
  }
  return out;
}

std::optional<ExchangeRate> ExchangeRates::find(std::string_view from, std::string_view to) const {
  const auto found = rates_.find(std::string(from) + '/' + std::string(to));
  if (found == rates_.end()) return std::nullopt;
  return found->second;
}

}  // namespace tallygate
