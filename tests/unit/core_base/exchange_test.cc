#include "core/exchange.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/env.h"

namespace tallygate {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

ExchangeRate rate(std::string_view text) { return parse_exchange_rate(text).value(); }
Micros money(std::string_view text) { return parse_money(text, true).value(); }

TEST(Exchange, ReadsAndWritesRates) {
  EXPECT_EQ(rate("0.79").picos, 790'000'000'000);
  for (const char* text : {"0.79", "1", "149.53", "0.000000000001", "1000000", "123456.123456789012"}) {
    EXPECT_EQ(rate(text).str(), text);
  }
  EXPECT_EQ(rate("1.500").str(), "1.5");
  for (const char* bad : {"", "0", "0.000000000000", "-0.79", "+1", "1e3", ".5", "1.", "0,79", "0.0000000000001",
                          "1000000.1", "9999999999999999", "nan"}) {
    EXPECT_FALSE(parse_exchange_rate(bad)) << bad;
  }
}

TEST(Exchange, TheKnownCase) {
  EXPECT_EQ(convert(money("1.00"), rate("0.79")), money("0.79"));
  EXPECT_EQ(convert(money("1.00"), rate("0.79"), 2), money("0.79"));
}

TEST(Exchange, RoundsHalfToEvenOnceAtTheDecimalsAskedFor) {
  struct Case {
    const char* amount;
    const char* by;
    int decimals;
    const char* expected;
  };
  const Case cases[] = {
      {"0.000001", "0.5", 6, "0"},
      {"0.000003", "0.5", 6, "0.000002"},
      {"-0.000001", "0.5", 6, "0"},
      {"-0.000003", "0.5", 6, "-0.000002"},
      {"0.01", "0.5", 2, "0"},
      {"0.03", "0.5", 2, "0.02"},
      {"0.010001", "0.5", 2, "0.01"},
      {"1.00", "149.53", 0, "150"},
      {"1.00", "149.5", 0, "150"},
      {"1.00", "148.5", 0, "148"},
      {"1.00", "0.30745", 3, "0.307"},
      {"1.00", "0.3075", 3, "0.308"},
      {"0.15", "0.79", 6, "0.1185"},
      {"0.15", "0.79", 2, "0.12"},
      {"999999999", "9000", 6, "8999999991000"},
      // Rounded to micros first it would be 0.0050000, and then 0.00 or 0.01 by another rule.
      {"0.009999", "0.50001", 2, "0"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(convert(money(c.amount), rate(c.by), c.decimals).value_or(-1), money(c.expected))
        << c.amount << " at " << c.by << " to " << c.decimals;
  }
}

TEST(Exchange, AgreesWithExactArithmeticOnRandomAmounts) {
  ManualEnv env(20261126);
  for (int i = 0; i < 100'000; ++i) {
    const auto amount = static_cast<int64_t>(env.random_below(2'000'000'000'001)) - 1'000'000'000'000;
    const auto by = ExchangeRate{static_cast<int64_t>(1 + env.random_below(2'000'000'000'000))};
    const __int128 exact = static_cast<__int128>(amount) * by.picos;  // of 10^12
    const __int128 off = static_cast<__int128>(*convert(amount, by)) * 1'000'000'000'000 - exact;
    ASSERT_LE(off < 0 ? -off : off, 500'000'000'000) << amount << " at " << by.str();
  }
}

TEST(Exchange, OverflowIsAnError) {
  EXPECT_FALSE(convert(kMax, rate("1.000001")));
  EXPECT_TRUE(convert(kMax, rate("1")));
  EXPECT_FALSE(convert(kMax, rate("1"), 2)) << "the next pence is beyond";
  EXPECT_FALSE(convert(std::numeric_limits<int64_t>::min(), rate("2")));
}

TEST(Exchange, APairServesBothDirections) {
  const auto rates =
      ExchangeRates::of({{"USD", "GBP", rate("0.79")}, {"EUR", "GBP", rate("0.85")}, {"GBP", "EUR", rate("1.17")}});
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->find("USD", "GBP")->str(), "0.79");
  EXPECT_EQ(rates->find("GBP", "USD")->str(), "1.26582278481");
  EXPECT_EQ(rates->find("GBP", "EUR")->str(), "1.17") << "what is configured goes before what follows";
  EXPECT_EQ(rates->find("EUR", "GBP")->str(), "0.85");
  EXPECT_FALSE(rates->find("USD", "EUR")) << "nothing is derived over a third currency";
  EXPECT_FALSE(ExchangeRates().find("USD", "GBP"));
  EXPECT_FALSE(ExchangeRates::of({{"USD", "GBP", rate("0.79")}, {"USD", "GBP", rate("0.79")}}));
  EXPECT_FALSE(ExchangeRates::of({{"AAA", "BBB", rate("0.0000001")}}));
  EXPECT_TRUE(ExchangeRates::of({{"AAA", "BBB", rate("0.0000001")}, {"BBB", "AAA", rate("1000000")}}));
}

}  // namespace
}  // namespace tallygate
