// The ledger's periodic jobs on a real database (requirement B3 expiry, B7, issue: self-audit).
#include "operator/jobs/housekeeper.h"

#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kTwoPmNs = 1'795'269'600'000'000'000;  // 2026-11-21 14:00 UTC, an hour after kLater

class HousekeeperTest : public ::testing::Test {
 protected:
  ManualEnv env{1, kTwoPmNs};
  metrics::Registry registry;
  jobs::Housekeeper keeper{env, owner_url(), {}, [] { return true; }, registry};
};

TEST_F(HousekeeperTest, FreesExpiredHoldsOnceAndLeavesOthers) {
  WalletWorld world(10'000'000);
  ASSERT_TRUE(world.api.reserve("late", 4'000'000).success);
  ASSERT_TRUE(world.api.reserve("open", 3'000'000, std::nullopt, "2026-11-21 15:00:00+00").success);
  EXPECT_EQ(must(keeper.expire()), 1);
  EXPECT_EQ(must(keeper.expire()), 0);
  const auto rows = must(world.owner.exec(
      "select call_id, state from credit_reservations where tenant = $1 order by call_id", {world.tenant}));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows.text(0, 1), "expired");
  EXPECT_EQ(rows.text(1, 1), "pending");
  EXPECT_EQ(must(keeper.audit()), 0);
}

TEST_F(HousekeeperTest, AuditTellsOfABalanceThatNoPostingExplains) {
  WalletWorld world(10'000'000);
  EXPECT_EQ(must(keeper.audit()), 0);
  must(world.owner.exec("update wallets set balance_micros = balance_micros + 1 where tenant = $1", {world.tenant}));
  EXPECT_EQ(must(keeper.audit()), 2);  // against the postings, and against the history
  EXPECT_NE(registry.text().find("tallygate_operator_ledger_differences 2"), std::string::npos) << registry.text();
  must(world.owner.exec("update wallets set balance_micros = balance_micros - 1 where tenant = $1", {world.tenant}));
  EXPECT_EQ(must(keeper.audit()), 0);
}

TEST_F(HousekeeperTest, ChargesUnpaidCallsOnceThereIsMoneyAndOnlyThose) {
  WalletWorld world(0, 5'000'000), poor(0, 5'000'000);
  const auto report = [](WalletWorld& of, const std::string& call, int64_t micros) {
    return must(of.owner.exec(
        "select reason from provider_call_ended($1, 'p', $2, 'GBP', $3, '', '{\"cost\": \"1\"}', null, null, "
        "'r', $4)",
        {of.tenant, of.tenant + call, micros, kNow}));
  };
  EXPECT_EQ(report(world, "small", 6'000'000).text(0, 0), "DebtLimitExceeded");
  EXPECT_EQ(report(world, "large", 60'000'000).text(0, 0), "DebtLimitExceeded");
  EXPECT_EQ(report(poor, "none", 6'000'000).text(0, 0), "DebtLimitExceeded");
  EXPECT_EQ(must(keeper.settle()), 0);
  EXPECT_NE(registry.text().find("tallygate_operator_unpaid_calls 3"), std::string::npos) << registry.text();
  must(world.owner.exec("select add_wallet_credits($1, 'top-up', null, 'GBP', 1000000, '', $2)", {world.tenant, kNow}));
  EXPECT_EQ(must(keeper.settle()), 1);
  EXPECT_EQ(must(keeper.settle()), 0);
  EXPECT_EQ(world.number("select balance_micros from wallets where tenant = $1", {world.tenant}), -5'000'000);
  EXPECT_EQ(world.number("select count(*) from provider_calls where status = 'unpaid'"), 2);
  EXPECT_TRUE(report(world, "small", 6'000'000).text(0, 0).empty()) << "reported again: charged before";
  EXPECT_EQ(world.number("select balance_micros from wallets where tenant = $1", {world.tenant}), -5'000'000);
  EXPECT_FALSE(world.api.session.exec("select * from settle_unpaid_calls(now(), 1)"));
  EXPECT_EQ(must(keeper.audit()), 0);
}

TEST_F(HousekeeperTest, DropsOldQuotesThatNothingWasChargedAt) {
  WalletWorld world(10'000'000);
  const auto quote = [&](int n, const char* expires) {
    const std::string digits = std::to_string(n), id = "qt_" + std::string(32 - digits.size(), '0') + digits;
    must(world.owner.exec("insert into quotes values ($1, $2, $1, '', 'USD', 'GBP', 790000000000, null, null, $3, $3)",
                          {id, world.tenant, expires}));
    return id;
  };
  // Of 30 days and a second ago, all expired in the same moment; and one that is a second younger.
  const char *old = "2026-10-22 13:59:59+00", *young = "2026-10-22 14:00:00+00";
  for (int n = 1; n <= 25; ++n) quote(n, old);
  const std::string used = quote(26, old), kept = quote(27, young);
  must(world.owner.exec("insert into quoted_amounts values ($1, $2, $3, 1000000)",
                        {world.api.purchase("p", 790'000).transaction, world.tenant, used}));
  EXPECT_FALSE(world.owner.exec("delete from quotes where id = $1", {used}))
      << "what was charged at it is told for ever";
  EXPECT_FALSE(world.owner.exec("update quotes set rate_picos = 1"));
  EXPECT_FALSE(world.api.session.exec("delete from quotes"));
  const auto left = [&] { return world.number("select count(*) from quotes where tenant = $1", {world.tenant}); };

  jobs::Housekeeper small(
      env, owner_url(), {.trim_batch = 10}, [] { return true; }, registry);
  EXPECT_EQ(must(small.drop_quotes()), 25) << "in batches";
  EXPECT_EQ(left(), 2);
  EXPECT_EQ(must(small.drop_quotes()), 0);
  env.advance_ms(1'000);
  EXPECT_EQ(must(small.drop_quotes()), 1) << kept << " was not looked at before";
  EXPECT_EQ(must(keeper.drop_quotes()), 0) << "one that starts anew";
  EXPECT_EQ(left(), 1);
  EXPECT_NE(registry.text().find("tallygate_operator_quotes_dropped_total 26"), std::string::npos) << registry.text();
}

TEST_F(HousekeeperTest, RetentionDropsNothingThatIsYoung) { EXPECT_EQ(must(keeper.retain()), 0); }

}  // namespace
}  // namespace tallygate::testing
