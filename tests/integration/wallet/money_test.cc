// B11, B12 and the floats of sidecars: adjustments, refunds, disputes, recall.
#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

constexpr const char* kLoop = "set role tallygate_pipeline";

TEST(Credits, KnownCaseOnce) {
  WalletWorld w(56'900);
  EXPECT_EQ(w.api.credit("cs_1", 5'000).balance, 61'900);
  EXPECT_TRUE(w.api.credit("cs_1", 5'000).duplicate);
  EXPECT_EQ(w.api.facts().balance, 61'900);
}

TEST(Adjustment, NeedsReasonAndActorAndIsAudited) {
  WalletWorld w(1000, 500);
  WalletCaller admin(w.tenant, "set role tallygate_admin");
  const auto adjust = [&](const std::string& key, int64_t amount, const std::string& reason, const std::string& actor) {
    return must(admin.call("adjust_wallet($1, $2, null, null, $3, $4, $5, 'req', $6)",
                           {w.tenant, key, amount, reason, actor, kNow}));
  };
  EXPECT_EQ(adjust("a", 5, "", "ann").reason, "ReasonRequired");
  EXPECT_EQ(adjust("a", 5, "missed", " ").reason, "ReasonRequired");
  EXPECT_EQ(adjust("a", 0, "missed", "ann").reason, "InvalidAmount");
  EXPECT_EQ(adjust("a", INT64_MIN, "missed", "ann").reason, "InvalidAmount");
  EXPECT_EQ(adjust("a", 5, "missed credit", "ann").balance, 1005);
  EXPECT_TRUE(adjust("a", 5, "missed credit", "ann").duplicate);
  EXPECT_EQ(adjust("b", -1506, "wrong", "ann").shortfall, 1);
  EXPECT_EQ(adjust("b", -1505, "wrong", "ann").balance, -500);
  EXPECT_EQ(w.number("select count(*) from audit_log where tenant = $1 and actor = 'ann' and action = 'wallet.adjust'",
                     {w.tenant}),
            2);
  // Not for the API's role.
  EXPECT_FALSE(w.api.call("adjust_wallet($1, 'x', null, null, 5, 'r', 'a', '', $2)", {w.tenant, kNow}));
}

// A plan priced in GBP: a typing error opens no wallet.
TEST(Credits, OpenAWalletInACurrencyOfThePlanAlone) {
  WalletWorld w(1000);
  must(w.owner.exec(
      "insert into tenant_meters (tenant, meter, settlement, currency, per_units, tiers, stripe_customer_id) "
      "values ($1, 'sms', 'wallet', 'GBP', 1, '[{\"price_micros\": 40000}]', '')",
      {w.tenant}));
  for (const char* currency : {"GPB", "EUR", "JPY"}) {
    const Answer no = w.api.credit(std::string("c-") + currency, 500, currency);
    EXPECT_FALSE(no.success);
    EXPECT_EQ(no.reason, "CurrencyNotDeclared");
  }
  WalletCaller admin(w.tenant, "set role tallygate_admin");
  const auto adjust = [&](const char* key, const char* currency, int64_t amount) {
    return must(
        admin.call("adjust_wallet($1, $2, null, $3, $4, 'r', 'ann', '', $5)", {w.tenant, key, currency, amount, kNow}));
  };
  EXPECT_EQ(adjust("a1", "CHF", 1).reason, "CurrencyNotDeclared");
  EXPECT_EQ(adjust("a1", "CHF", -1).reason, "NoWallet");
  EXPECT_EQ(w.number("select count(*) from wallets where tenant = $1", {w.tenant}), 1);
  EXPECT_TRUE(w.api.credit("c-GBP", 500).success);
  must(w.owner.exec("update tenant_meters set currency = 'USD' where tenant = $1", {w.tenant}));
  EXPECT_TRUE(w.api.credit("c-USD", 500, "USD").success) << "the plan's now";
  EXPECT_TRUE(w.api.credit("c-GBP2", 500, "GBP").success) << "and the wallet of before is still there";
}

TEST(Wallet, ThatIsEmptyCanBeClosedAndACreditOpensItAgain) {
  WalletWorld w(1000);
  ASSERT_TRUE(w.api.credit("typo", 500, "GPB").success) << "as before currencies were looked at";
  must(w.owner.exec(
      "insert into tenant_meters (tenant, meter, settlement, currency, per_units, tiers, stripe_customer_id) "
      "values ($1, 'sms', 'wallet', 'GBP', 1, '[{\"price_micros\": 40000}]', '')",
      {w.tenant}));
  WalletCaller admin(w.tenant, "set role tallygate_admin");
  const auto close = [&](const ledger::Param& currency, const char* reason = "typed wrongly") {
    return must(admin.call("close_wallet($1, $2, $3, 'ann', $4)", {w.tenant, currency, reason, kNow}));
  };
  const auto adjust = [&](const char* key, int64_t amount) {
    return must(
        admin.call("adjust_wallet($1, $2, null, 'GPB', $3, 'r', 'ann', '', $4)", {w.tenant, key, amount, kNow}));
  };
  EXPECT_EQ(close("GPB").reason, "WalletInUse");
  EXPECT_EQ(close(std::nullopt).reason, "CurrencyRequired");
  ASSERT_TRUE(adjust("back", -500).success);
  EXPECT_EQ(close("GPB", " ").reason, "ReasonRequired");
  EXPECT_FALSE(w.api.call("close_wallet($1, 'GPB', 'r', 'a', $2)", {w.tenant, kNow})) << "not for the API's role";
  EXPECT_TRUE(close("GPB").success);
  EXPECT_TRUE(close("GPB").duplicate);
  EXPECT_EQ(w.api.facts().balance, 1000) << "no currency is asked for any more";
  EXPECT_TRUE(w.api.purchase("p", 100).success);
  EXPECT_EQ(w.number("select count(*) from audit_log where tenant = $1 and action = 'wallet.close' and actor = 'ann'",
                     {w.tenant}),
            1);
  EXPECT_EQ(adjust("more", 5).reason, "CurrencyNotDeclared");
  must(admin.call("adjust_wallet($1, 'empty', null, 'GBP', -900, 'r', 'ann', '', $2)", {w.tenant, kNow}));
  EXPECT_EQ(close("GBP").reason, "WalletInUse") << "of the plan";
  EXPECT_EQ(close("EUR").reason, "NoWallet");
  // Money that comes all the same opens it: a refund's dispute, won.
  must(w.owner.exec("update wallets set balance_micros = 7 where tenant = $1 and currency = 'GPB'", {w.tenant}));
  EXPECT_EQ(w.api.facts().reason, "CurrencyRequired");
  must(w.owner.exec("update wallets set balance_micros = 0 where tenant = $1 and currency = 'GPB'", {w.tenant}));
}

TEST(Refund, OnceByItsOwnIdAndBelowTheFloor) {
  WalletWorld w(100, 50);
  WalletCaller loop(w.tenant, kLoop);
  for (int i = 0; i < 3; ++i) {
    const Answer a = must(loop.call("post_refund($1, 're_1', null, 1000, '', $2)", {w.tenant, kNow}));
    EXPECT_TRUE(a.success);
    EXPECT_EQ(a.duplicate, i > 0);
    EXPECT_EQ(a.balance, -900);
  }
  EXPECT_EQ(w.api.commit("c", 1).reason, "DebtLimitExceeded");
}

TEST(Dispute, SuspendsAndReCreditsWhenWon) {
  WalletWorld w(100);
  WalletCaller loop(w.tenant, kLoop);
  const auto open = [&](const char* id) {
    return must(loop.call("post_dispute($1, $2, null, 1000, true, '', $3)", {w.tenant, id, kNow}));
  };
  const auto close = [&](const char* id, bool won) {
    return must(loop.call("close_dispute($1, $2, $3, $4)", {w.tenant, id, won, kNow}));
  };
  EXPECT_EQ(close("d1", true).reason, "UnknownDispute");
  EXPECT_EQ(open("d1").balance, -900);
  EXPECT_TRUE(open("d1").duplicate);
  open("d2");
  w.api.credit("more", 5000);
  EXPECT_EQ(w.api.purchase("p", 1).reason, "Suspended");
  EXPECT_EQ(close("d1", true).balance, 4100);
  EXPECT_TRUE(close("d1", true).duplicate);
  EXPECT_EQ(close("d1", false).reason, "IdempotencyMismatch");
  EXPECT_EQ(w.api.purchase("p", 1).reason, "Suspended");
  EXPECT_EQ(close("d2", false).balance, 4100);
  EXPECT_EQ(w.api.purchase("p", 1).reason, "Suspended");
  EXPECT_TRUE(must(loop.call("resume_wallet($1, null, 'paid', 'ann', $2)", {w.tenant, kNow})).success);
  EXPECT_TRUE(w.api.purchase("p", 1).success);
}

// 100 units at 0.05 each are funded out of 10.00; a purchase of 8.00 takes 60 of them back, and the rest stays.
TEST(Recall, APurchaseTakesIdleFloatBack) {
  WalletWorld w(10'000'000);
  must(w.owner.exec("insert into tenant_meters values ($1, 'sms', 'wallet', 'GBP', 1, '[{\"price_micros\": 50000}]')",
                    {w.tenant}));
  const int64_t epoch = w.number(
      "select o_number from epoch_open(array[1], array[(select number from shard_epochs where shard = 1)], "
      "clock_timestamp() + interval '1 hour')");
  EXPECT_EQ(w.number("select o_granted from fund(1, $1, $2, 'sms$', 0, 0, 0, 100, 100, $3)", {epoch, w.tenant, kNow}),
            100);
  EXPECT_EQ(w.api.facts().effective, 5'000'000);
  EXPECT_EQ(w.api.purchase("p", 10'000'001).reason, "InsufficientBalance");
  const Answer short_of = w.api.purchase("p", 8'000'000);
  EXPECT_EQ(short_of.reason, "RecallFloat");
  EXPECT_NE(short_of.recall.find("\"target\": 60"), std::string::npos) << short_of.recall;
  const auto retry = [&](int64_t total, bool may_recall) {
    return must(
        w.api.call("check_balance_and_deduct_asset_cost($1, 'p', null, null, 8000000, '', $2, jsonb_build_array("
                   "jsonb_build_object('account', (select id from escrow_accounts where tenant = $1), 'epoch', "
                   "$3::bigint, 'total', $4::bigint)), $5)",
                   {w.tenant, kNow, epoch, total, may_recall}));
  };
  EXPECT_EQ(retry(30, true).reason, "RecallFloat");
  EXPECT_EQ(retry(30, false).reason, "InsufficientBalance");
  EXPECT_EQ(must(w.api.call("wallet_facts($1, null)", {w.tenant})).effective, 6'500'000);
  const Answer done = retry(60, true);
  EXPECT_TRUE(done.success);
  EXPECT_EQ(done.effective, 0);
  EXPECT_EQ(done.balance, 2'000'000);
  EXPECT_EQ(w.number("select available(id, $2) from escrow_accounts where tenant = $1", {w.tenant, kNow}), 0);
}

TEST(Recall, AProvidersReportTakesIdleFloatBackAndLeavesNothingBeforeIt) {
  WalletWorld w(10'000'000);
  must(w.owner.exec("insert into tenant_meters values ($1, 'sms', 'wallet', 'GBP', 1, '[{\"price_micros\": 50000}]')",
                    {w.tenant}));
  const int64_t epoch = w.number("select number from shard_epochs where shard = 1");
  EXPECT_EQ(w.number("select o_granted from fund(1, $1, $2, 'sms$', 0, 0, 0, 100, 100, $3)", {epoch, w.tenant, kNow}),
            100);
  const auto report = [&](const std::string& recalled, bool may_recall) {
    return must(
        w.api.call("provider_call_ended($1, 'p', $1, 'GBP', 8000000, '', '{\"cost\": \"8\"}', null, null, '', $2, " +
                       recalled + ", $3)",
                   {w.tenant, kNow, may_recall}));
  };
  const std::string of_tenant = " from provider_calls where tenant = $1";
  EXPECT_EQ(report("null", true).reason, "RecallFloat");
  EXPECT_EQ(w.number("select count(*)" + of_tenant, {w.tenant}), 0);
  EXPECT_EQ(report("null", false).reason, "DebtLimitExceeded");
  EXPECT_EQ(w.number("select count(*)" + of_tenant + " and status = 'unpaid'", {w.tenant}), 1);
  const Answer done = report(
      "jsonb_build_array(jsonb_build_object('account', (select id from escrow_accounts where tenant = $1), "
      "'epoch', " +
          std::to_string(epoch) + ", 'total', 60))",
      true);
  EXPECT_TRUE(done.success) << done.reason;
  EXPECT_EQ(done.balance, 2'000'000);
  EXPECT_EQ(w.number("select count(*)" + of_tenant + " and status = 'committed'", {w.tenant}), 1);
}

TEST(Recall, ReservationsAreNotSoldToSidecars) {
  WalletWorld w(1'000'000);
  must(w.owner.exec("insert into tenant_meters values ($1, 'sms', 'wallet', 'GBP', 1, '[{\"price_micros\": 50000}]')",
                    {w.tenant}));
  w.api.reserve("c", 900'000);
  const int64_t epoch = w.number("select number from shard_epochs where shard = 1");
  EXPECT_EQ(w.number("select o_granted from fund(1, $1, $2, 'sms$', 0, 0, 0, 100, 100, $3)", {epoch, w.tenant, kNow}),
            2);
  EXPECT_EQ(w.api.facts().effective, 0);
}

}  // namespace
}  // namespace tallygate::testing
