#include "operator/api/settings.h"

#include <gtest/gtest.h>

namespace tallygate::api {
namespace {

struct Read {
  ApiSettings settings;
  std::vector<config::Fault> faults;
};
Read read(const std::vector<std::string>& args) {
  Read out;
  config::OptionSet options;
  declare_api(options, out.settings);
  out.faults = options.parse(args, [](const std::string&) { return std::nullopt; });
  return out;
}

TEST(ApiSettings, ReadExchangeRates) {
  const Read in = read({"--exchange-rates", "USD/GBP=0.79,EUR/GBP=0.85", "--exchange-rates=USD/JPY=149.53"});
  ASSERT_TRUE(in.faults.empty()) << to_string(in.faults[0]);
  ASSERT_EQ(in.settings.exchange_rates.size(), 3u);
  EXPECT_EQ(in.settings.exchange_rates[1].pair(), "EUR/GBP");
  EXPECT_EQ(in.settings.exchange_rates[2].rate.str(), "149.53");
  EXPECT_EQ(in.settings.quote_lifetime_ms, 900'000);
}

TEST(ApiSettings, TellEveryRateThatIsWrongAtOnce) {
  const Read in = read({"--exchange-rates", "USD/GBP,usd/GBP=1,GBP/GBP=1", "--exchange-rates", "EUR/GBP=1e3",
                        "--exchange-rates", "CHF/GBP=0", "--quote-lifetime", "1ms"});
  ASSERT_EQ(in.faults.size(), 2u);
  const std::string told = to_string(in.faults[0]);
  for (const char* item : {"\"USD/GBP\"", "usd/GBP=1", "GBP/GBP=1", "EUR/GBP=1e3", "CHF/GBP=0"}) {
    EXPECT_NE(told.find(item), std::string::npos) << item << ": " << told;
  }
  EXPECT_NE(told.find("write pairs such as USD/GBP=0.79"), std::string::npos) << told;
  EXPECT_EQ(in.faults[1].field, "quote-lifetime");
}

TEST(ApiSettings, RefuseAPairWithTwoRates) {
  const Read in = read({"--exchange-rates", "USD/GBP=0.79,USD/GBP=0.80"});
  ASSERT_EQ(in.faults.size(), 1u);
  EXPECT_EQ(in.faults[0].field, "exchange-rates");
  EXPECT_NE(in.faults[0].problem.find("USD/GBP has two rates"), std::string::npos);
}

}  // namespace
}  // namespace tallygate::api
