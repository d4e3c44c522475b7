// Costs as providers write them: exact, and converted with one rounding.
#include <gtest/gtest.h>

#include "operator/api/provider/decimal.h"

namespace tallygate::api {
namespace {

Decimal decimal(const std::string& text) {
  const auto parsed = Decimal::parse(text);
  EXPECT_TRUE(parsed) << text;
  return parsed.value_or(Decimal());
}

TEST(ProviderDecimal, EqualNumbersHaveOneText) {
  const std::pair<const char*, const char*> rows[] = {{"0", "0"},
                                                      {"-0", "0"},
                                                      {"0.000", "0"},
                                                      {"0e99", "0"},
                                                      {"1", "1"},
                                                      {"100", "100"},
                                                      {"1.50", "1.5"},
                                                      {"0.0213", "0.0213"},
                                                      {"2.13e-2", "0.0213"},
                                                      {"2.13E-2", "0.0213"},
                                                      {"213e-4", "0.0213"},
                                                      {"1e3", "1000"},
                                                      {"1.5e+1", "15"},
                                                      {"-0.0075", "-0.0075"},
                                                      {"1e-7", "0.0000001"},
                                                      {"0.021300000000000003", "0.021300000000000003"},
                                                      {"999999999999999999", "999999999999999999"}};
  for (const auto& [written, text] : rows) EXPECT_EQ(decimal(written).text(), text) << written;
  EXPECT_EQ(decimal("2.13e-2"), decimal("0.02130"));
}

TEST(ProviderDecimal, RefusesWhatIsNoNumberOfJsonOrBeyondItsBounds) {
  for (const char* bad : {"",
                          "-",
                          "+1",
                          ".5",
                          "1.",
                          "01",
                          "-01",
                          "1e",
                          "1e+",
                          "1.e1",
                          "0x10",
                          "1,5",
                          "1 ",
                          " 1",
                          "1_000",
                          "NaN",
                          "nan",
                          "Infinity",
                          "-Infinity",
                          "1e100",
                          "1e-100",
                          "1e41",
                          "1e-41",
                          "1000000000000000000000",
                          "1.0000000000000000001",
                          "0.00000000000000000000000000000000000000001",
                          "1e1e1",
                          "--1",
                          "1-1",
                          "\xD9\xA1"}) {
    EXPECT_FALSE(Decimal::parse(bad)) << bad;
  }
  EXPECT_FALSE(Decimal::parse(std::string(1000, '1')));
  EXPECT_FALSE(Decimal::parse("0." + std::string(1000, '0')));
}

TEST(ProviderDecimal, ConvertsExactlyWithOneRoundingHalfToEven) {
  struct Row {
    const char *cost, *rate, *markup;
    Micros micros;
  };
  const Row rows[] = {{"1", "0.79", "1", 790'000},
                      {"0.0213", "0.79", "1.20", 20'192},  // 20192.4
                      {"0.1843", "0.79", "1", 145'597},
                      {"2.13e-2", "0.79", "1.2", 20'192},
                      {"0.0000005", "1", "1", 0},  // half: to even
                      {"0.0000015", "1", "1", 2},
                      {"0.00000050000000001", "1", "1", 1},
                      {"0.000001", "0.5", "1", 0},  // rounding rate and markup apart would give 0, then 0
                      {"0.000001", "0.5", "3", 2},  // 1.5: to even, once
                      {"0.021300000000000003", "0.79", "1.2", 20'192},
                      {"-0.0000015", "1", "1", -2},
                      {"0", "0.79", "1.2", 0},
                      {"1e-40", "0.000000001", "0.000000001", 0},
                      {"1", "149.53", "1", 149'530'000},
                      {"999999999999", "1", "1", 999'999'999'999'000'000}};
  for (const auto& row : rows) {
    const auto micros = to_micros(decimal(row.cost), decimal(row.rate), decimal(row.markup));
    ASSERT_TRUE(micros) << row.cost;
    EXPECT_EQ(*micros, row.micros) << row.cost << " × " << row.rate << " × " << row.markup;
  }
}

TEST(ProviderDecimal, TellsWhatIsOutOfRange) {
  for (const auto& [cost, rate, markup] :
       {std::tuple("999999999999999999", "1", "1"), std::tuple("999999999999999999", "999999999", "999999999"),
        std::tuple("9223372036855", "1", "1")}) {
    EXPECT_FALSE(to_micros(decimal(cost), decimal(rate), decimal(markup))) << cost;
  }
  EXPECT_EQ(to_micros(decimal("9223372036854"), decimal("1"), decimal("1")).value_or(0), 9'223'372'036'854'000'000);
}

}  // namespace
}  // namespace tallygate::api
