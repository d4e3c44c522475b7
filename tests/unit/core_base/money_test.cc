#include "core/money.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/env.h"

namespace tallygate {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

TEST(Money, ParsesDecimals) {
  EXPECT_EQ(parse_money("0").value(), 0);
  EXPECT_EQ(parse_money("2.50").value(), 2'500'000);
  EXPECT_EQ(parse_money("0.000001").value(), 1);
  EXPECT_EQ(parse_money("007.5").value(), 7'500'000);
  EXPECT_EQ(parse_money("-1.5", true).value(), -1'500'000);
  EXPECT_EQ(parse_money("9223372036854.775807").value(), kMax);
  EXPECT_EQ(parse_money("-9223372036854.775808", true).value(), kMin);
}

TEST(Money, RefusesWhatIsNoDecimal) {
  for (const char* bad :
       {"", ".", "1.", ".5", "-1", "+1", "1e3", "1,000", "1 ", " 1", "1.2.3", "0x1", "1.0000001", "£1",
        "9223372036854.775808", "99999999999999999999999", "1111111111111111111111111", "nan"}) {
    EXPECT_FALSE(parse_money(bad)) << bad;
  }
  EXPECT_FALSE(parse_money("--1", true));
  EXPECT_FALSE(parse_money("-", true));
}

TEST(Money, FormatsTheShortestExactDecimal) {
  EXPECT_EQ(format_money(2'500'000), "2.50");
  EXPECT_EQ(format_money(2'500'000, 0), "2.5");
  EXPECT_EQ(format_money(3'000'000, 0), "3");
  EXPECT_EQ(format_money(1, 2), "0.000001");
  EXPECT_EQ(format_money(-1'230'000), "-1.23");
  EXPECT_EQ(format_money(kMin), "-9223372036854.775808");
}

TEST(Money, FormattedAmountsParseBack) {
  ManualEnv rng(3);
  for (int i = 0; i < 2'000; ++i) {
    const auto micros = static_cast<int64_t>(rng.random_u64() >> rng.random_below(63));
    EXPECT_EQ(parse_money(format_money(micros, static_cast<int>(rng.random_below(7))), true).value(), micros);
  }
}

TEST(Money, CurrencyDigits) {
  EXPECT_EQ(currency_digits("GBP").value(), 2);
  EXPECT_EQ(currency_digits("JPY").value(), 0);
  EXPECT_EQ(currency_digits("KWD").value(), 3);
  for (const char* bad : {"", "GB", "gbp", "GBPX", "G P"}) EXPECT_FALSE(currency_digits(bad)) << bad;
}

TEST(Money, HalfGoesToEven) {
  EXPECT_EQ(mul_div_half_even(1, 1, 2).value(), 0);
  EXPECT_EQ(mul_div_half_even(3, 1, 2).value(), 2);
  EXPECT_EQ(mul_div_half_even(5, 1, 2).value(), 2);
  EXPECT_EQ(mul_div_half_even(-1, 1, 2).value(), 0);
  EXPECT_EQ(mul_div_half_even(-3, 1, 2).value(), -2);
  EXPECT_EQ(mul_div_half_even(2, 1, 3).value(), 1);
  EXPECT_EQ(mul_div_half_even(-2, 1, 3).value(), -1);
  EXPECT_EQ(mul_div_half_even(kMax, kMax, kMax).value(), kMax);
  EXPECT_FALSE(mul_div_half_even(kMax, 2, 1));
  EXPECT_FALSE(mul_div_half_even(kMin, kMin, 1));
}

TEST(Money, RoundsUpWhatMustBeCovered) {
  EXPECT_EQ(mul_div_up(1, 1, 3).value(), 1);
  EXPECT_EQ(mul_div_up(3, 1, 3).value(), 1);
  EXPECT_EQ(mul_div_up(0, 5, 3).value(), 0);
  EXPECT_EQ(mul_div_up(-1, 1, 3).value(), 0);
  EXPECT_FALSE(mul_div_up(kMax, 2, 1));
}

TEST(Money, RoundingIsNeverFurtherThanHalf) {
  ManualEnv rng(5);
  for (int i = 0; i < 2'000; ++i) {
    const auto value = static_cast<int64_t>(rng.random_below(1u << 30)) - (1 << 29);
    const auto numerator = static_cast<int64_t>(rng.random_below(1u << 30));
    const auto denominator = 1 + static_cast<int64_t>(rng.random_below(1'000'000));
    const int64_t rounded = mul_div_half_even(value, numerator, denominator).value();
    const __int128 rest = static_cast<__int128>(value) * numerator - static_cast<__int128>(rounded) * denominator;
    EXPECT_LE((rest < 0 ? -rest : rest) * 2, denominator);
  }
}

TEST(Money, SumsThatOverflowAreErrors) {
  EXPECT_EQ(checked_add(kMax, 0).value(), kMax);
  EXPECT_FALSE(checked_add(kMax, 1));
  EXPECT_FALSE(checked_add(kMin, -1));
}

}  // namespace
}  // namespace tallygate
