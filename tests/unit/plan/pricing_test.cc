#include "operator/plan/pricing.h"

#include <gtest/gtest.h>

#include "core/env.h"

namespace tallygate::plan {
namespace {

using manifest::Tier;

UnitPrices flat(const char* price, int64_t per_units) {
  return {per_units, {Tier{std::nullopt, parse_money(price).value()}}};
}

// 1,000,000 free, then 2.00 per million up to 5,000,000, then 1.50.
UnitPrices graduated() {
  return {1'000'000, {Tier{1'000'000, 0}, Tier{5'000'000, 2'000'000}, Tier{std::nullopt, 1'500'000}}};
}

TEST(Pricing, FifteenPencePerMillionIsExact) {
  const UnitPrices prices = flat("0.15", 1'000'000);
  EXPECT_EQ(cost(prices, 0, 1'000'000).value(), (ExactMicros{150'000, 0, 1'000'000}));
  EXPECT_EQ(cost(prices, 0, 1).value(), (ExactMicros{0, 150'000, 1'000'000}));  // 0.15 micro-units
  EXPECT_EQ(cost(prices, 0, 7).value(), (ExactMicros{1, 50'000, 1'000'000}));
}

TEST(Pricing, APriceWithSixDecimalsPerBillionIsExact) {
  const UnitPrices prices = flat("0.000001", 1'000'000'000);
  EXPECT_EQ(cost(prices, 0, kMaxInteger).value(), (ExactMicros{9'007'199, 254'740'991, 1'000'000'000}));
}

TEST(Pricing, EachUnitCostsThePriceOfItsTier) {
  struct Case {
    int64_t units;
    Micros expected;
  };
  for (const Case& c : {Case{0, 0}, Case{1'000'000, 0}, Case{1'000'001, 2}, Case{2'000'000, 2'000'000},
                        Case{5'000'000, 8'000'000}, Case{5'000'002, 8'000'003}, Case{7'000'000, 11'000'000}}) {
    const ExactMicros exact = cost(graduated(), 0, c.units).value();
    EXPECT_EQ(exact, (ExactMicros{c.expected, 0, 1'000'000})) << c.units;
  }
  EXPECT_EQ(cost(graduated(), 0, 5'000'001).value(), (ExactMicros{8'000'001, 500'000, 1'000'000}));
}

TEST(Pricing, TheCostOfPartsIsTheCostOfTheWhole) {
  ManualEnv rng(17);
  for (int round = 0; round < 500; ++round) {
    UnitPrices prices;
    prices.per_units = 1 + static_cast<int64_t>(rng.random_below(1'000'003));
    int64_t up_to = 0;
    for (uint64_t n = rng.random_below(5); n > 0; --n) {
      up_to += 1 + static_cast<int64_t>(rng.random_below(1'000'000));
      prices.tiers.push_back({up_to, static_cast<Micros>(rng.random_below(3'000'000))});
    }
    prices.tiers.push_back({std::nullopt, static_cast<Micros>(rng.random_below(3'000'000))});
    ExactMicros sum{0, 0, prices.per_units};
    int64_t used = 0;
    for (int part = 0; part < 10; ++part) {
      const auto units = static_cast<int64_t>(rng.random_below(800'000));
      sum = add(sum, cost(prices, used, units).value()).value();
      used += units;
    }
    const ExactMicros whole = cost(prices, 0, used).value();
    EXPECT_EQ(sum.whole, whole.whole);
    EXPECT_EQ(sum.part, whole.part);
  }
}

TEST(Pricing, RoundingIsHalfToEvenOrUp) {
  EXPECT_EQ((ExactMicros{2, 1, 2}).rounded().value(), 2);
  EXPECT_EQ((ExactMicros{3, 1, 2}).rounded().value(), 4);
  EXPECT_EQ((ExactMicros{3, 1, 3}).rounded().value(), 3);
  EXPECT_EQ((ExactMicros{3, 2, 3}).rounded().value(), 4);
  EXPECT_EQ((ExactMicros{3, 1, 3}).rounded_up().value(), 4);
  EXPECT_EQ((ExactMicros{3, 0, 3}).rounded_up().value(), 3);
  EXPECT_FALSE((ExactMicros{INT64_MAX, 2, 3}).rounded());
}

TEST(Pricing, OverflowIsAnErrorAndNothingElseIs) {
  const UnitPrices dear = flat("1000000000", 1);
  EXPECT_FALSE(cost(dear, 0, kMaxInteger));
  EXPECT_TRUE(cost(dear, 0, 9'000));
  EXPECT_TRUE(cost(dear, kMaxInteger - 10, 10));
  EXPECT_FALSE(cost(dear, kMaxInteger, 1));
  EXPECT_FALSE(cost(dear, -1, 1));
  EXPECT_FALSE(cost(dear, 0, -1));
}

TEST(Pricing, NoTiersIsFree) {
  EXPECT_EQ(cost({}, 0, kMaxInteger).value(), (ExactMicros{0, 0, 1}));
  EXPECT_EQ(included_units({}), kMaxInteger);
}

TEST(Pricing, OverageIsWhatIsAboveTheIncludedQuota) {
  EXPECT_EQ(included_units(graduated()), 1'000'000);
  EXPECT_EQ(included_units(flat("0.05", 1)), 0);
  EXPECT_EQ(included_units(flat("0", 1)), kMaxInteger);
  EXPECT_EQ(overage_cost(graduated(), 1'000'000, 900'000).value().whole, 0);
  EXPECT_EQ(overage_cost(graduated(), 1'000'000, 1'000'000).value().whole, 0);
  EXPECT_EQ(overage_cost(graduated(), 1'000'000, 1'500'000).value().whole, 1'000'000);
  EXPECT_EQ(overage_cost(graduated(), 2'000'000, 6'000'000).value().whole,
            7'500'000);  // a larger quota than the free tier
}

TEST(Pricing, FractionsOfDifferentPricesDoNotAddUp) {
  EXPECT_FALSE(add({1, 1, 3}, {1, 1, 4}));
  EXPECT_EQ(add({1, 1, 3}, {1, 0, 4}).value(), (ExactMicros{2, 1, 3}));
  EXPECT_EQ(add({1, 2, 3}, {1, 2, 3}).value(), (ExactMicros{3, 1, 3}));
}

TEST(Pricing, AmountsAreFormattedWithTheirCurrency) {
  EXPECT_EQ(format_amount(1'230'000, "GBP"), "GBP 1.23");
  EXPECT_EQ(format_amount(-5'000'000, "GBP"), "GBP -5.00");
  EXPECT_EQ(format_amount(400, "GBP"), "GBP 0.0004");
  EXPECT_EQ(format_amount(150'000'000, "JPY"), "JPY 150");
  EXPECT_EQ(format_amount(1'500'000, "KWD"), "KWD 1.500");
  EXPECT_EQ(format_amount(0, "USD"), "USD 0.00");
}

}  // namespace
}  // namespace tallygate::plan
