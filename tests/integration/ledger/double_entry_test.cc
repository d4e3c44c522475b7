#include "tests/integration/ledger/world.h"

namespace tallygate::testing {
namespace {

TEST(DoubleEntry, RefusesATransferThatDoesNotSumToZero) {
  LedgerWorld w;
  const auto result = w.session.transact([](ledger::Transaction& t) -> Result<void> {
    for (const char* sql :
         {"insert into ledger_transfers (kind, source, posted_at) values ('test', 's1', now())",
          "insert into ledger_postings select t.id, ledger_account(null, 'a', 'GBP'), 5 from ledger_transfers t",
          "insert into ledger_postings select t.id, ledger_account(null, 'b', 'GBP'), -4 from ledger_transfers t"}) {
      if (const auto done = t.exec(sql); !done) return tl::unexpected(done.error());
    }
    return {};
  });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().errc, Errc::kInvalid);
  EXPECT_NE(result.error().message.find("ZeroSum"), std::string::npos) << result.error().message;
  EXPECT_EQ(w.number("select count(*) from ledger_transfers"), 0);
}

TEST(DoubleEntry, BalancesEachCommodityByItself) {
  LedgerWorld w;
  const auto result = w.session.exec(
      "with t as (insert into ledger_transfers (kind, source, posted_at) values ('test', 's1', now()) returning id), "
      "a as (select ledger_account(null, 'a', 'GBP') as gbp, ledger_account(null, 'a', 'USD') as usd) "
      "insert into ledger_postings select t.id, gbp, 5 from t, a union all select t.id, usd, -5 from t, a");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("ZeroSum"), std::string::npos) << result.error().message;
}

TEST(DoubleEntry, PostsASourceOnce) {
  LedgerWorld w;
  const std::string post =
      "select ledger_post('test', 'invoice/1', '', now(), ledger_account(null, 'a', 'GBP'), ledger_account(null, 'b', "
      "'GBP'), 7)";
  EXPECT_GT(w.number(post), 0);
  EXPECT_TRUE(must(w.session.exec(post)).is_null(0, 0));
  EXPECT_EQ(
      w.number("select sum(amount) from ledger_postings p join ledger_accounts a on a.id = p.account where kind = 'b'"),
      7);
  EXPECT_EQ(w.number("select sum(amount) from ledger_postings"), 0);
}

TEST(DoubleEntry, IsAppendOnly) {
  LedgerWorld w;
  w.number(
      "select ledger_post('test', 's', '', now(), ledger_account(null, 'a', 'GBP'), ledger_account(null, 'b', 'GBP'), "
      "7)");
  for (const char* sql :
       {"update ledger_postings set amount = 8", "delete from ledger_postings", "truncate ledger_postings",
        "update ledger_transfers set memo = 'x'", "delete from ledger_transfers"}) {
    const auto result = w.session.exec(sql);
    ASSERT_FALSE(result) << sql;
    EXPECT_NE(result.error().message.find("append-only"), std::string::npos) << result.error().message;
  }
}

TEST(Rating, IsExactHoweverUsageIsCut) {
  LedgerWorld w;
  // 0.15 per million, then 0.07 per million from 1000 units on: fractions of a micro-unit are carried.
  const std::string tiers = R"('[{"up_to": 1000, "price_micros": 150000}, {"price_micros": 70000}]'::jsonb)";
  EXPECT_EQ(w.number("select rated(" + tiers + ", 1000000, 1000)"), 150);
  EXPECT_EQ(w.number("select rated(" + tiers + ", 1000000, 1010)"), 151);  // 150.7
  EXPECT_EQ(w.number("select sum(rated(" + tiers + ", 1000000, n + 1) - rated(" + tiers +
                     ", 1000000, n)) from generate_series(0, 4999) n"),
            w.number("select rated(" + tiers + ", 1000000, 5000)"));
  EXPECT_EQ(w.number("select half_even(5, 10)"), 0);
  EXPECT_EQ(w.number("select half_even(15, 10)"), 2);
  // A hold covers whatever is booked out of it, in every order of roundings.
  EXPECT_EQ(w.number("select count(*) from generate_series(0, 40) b, generate_series(1, 40) h where rated_hold(" +
                     tiers + ", 1000000, b * 37, h * 13) < rated(" + tiers + ", 1000000, b * 37 + h * 13) - rated(" +
                     tiers + ", 1000000, b * 37)"),
            0);
  // As many as can be afforded, and not one more.
  EXPECT_EQ(w.number("select count(*) from generate_series(0, 30) b, generate_series(0, 30) m, "
                     "lateral affordable_units(" +
                     tiers + ", 1000000, b * 41, m * 11) u where rated_hold(" + tiers +
                     ", 1000000, b * 41, u) > m * 11 or rated_hold(" + tiers + ", 1000000, b * 41, u + 1) <= m * 11"),
            0);
}

}  // namespace
}  // namespace tallygate::testing
