// B2, B4, B5, B6: purchases, the debt limit, the kill switch, history.
#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kPound = 1'000'000;
constexpr int64_t kPenny = 10'000;

TEST(Purchase, Successful) {
  WalletWorld w(10 * kPound);
  const Answer a = w.api.purchase("p1", 4 * kPound);
  EXPECT_TRUE(a.success && !a.duplicate);
  EXPECT_EQ(a.balance, 6 * kPound);
  EXPECT_EQ(w.number("select sum(amount) from ledger_postings p join credit_transactions t on t.transfer = p.transfer "
                     "where t.id = $1",
                     {a.transaction}),
            0);
  EXPECT_EQ(w.number("select count(*) from ledger_postings p join credit_transactions t on t.transfer = p.transfer "
                     "where t.id = $1",
                     {a.transaction}),
            2);
}

TEST(Purchase, InsufficientNeverUsesTheDebtLimit) {
  WalletWorld w(10 * kPound, 5 * kPound);
  const Answer a = w.api.purchase("p1", 10 * kPound + kPenny);
  EXPECT_FALSE(a.success);
  EXPECT_EQ(a.reason, "InsufficientBalance");
  EXPECT_EQ(a.shortfall, kPenny);
  EXPECT_EQ(a.balance, 10 * kPound);
  EXPECT_EQ(w.api.facts().balance, 10 * kPound);
  // What was refused left no trace: after a top-up the same key succeeds.
  w.api.credit("more", kPenny);
  EXPECT_TRUE(w.api.purchase("p1", 10 * kPound + kPenny).success);
  EXPECT_EQ(w.api.facts().balance, 0);
}

TEST(Purchase, DoubleIsTheFirstResult) {
  WalletWorld w(10 * kPound);
  const Answer first = w.api.purchase("p1", 4 * kPound);
  w.api.purchase("p2", kPound);
  const Answer again = w.api.purchase("p1", 4 * kPound);
  EXPECT_TRUE(again.success && again.duplicate);
  EXPECT_EQ(again.balance, first.balance);
  EXPECT_EQ(again.transaction, first.transaction);
  EXPECT_EQ(w.api.purchase("p1", 5 * kPound).reason, "IdempotencyMismatch");
  EXPECT_EQ(w.api.facts().balance, 5 * kPound);
}

TEST(Purchase, ClearReasons) {
  WalletWorld w(kPound);
  EXPECT_EQ(w.api.purchase("", 1).reason, "InvalidKey");
  EXPECT_EQ(w.api.purchase("~dispute/x", 1).reason, "InvalidKey");
  for (const int64_t amount : {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX})
    EXPECT_EQ(w.api.purchase("k", amount).reason, "InvalidAmount");
  WalletCaller stranger("wallets/nobody");
  EXPECT_EQ(stranger.purchase("k", 1).reason, "UnknownTenant");
  w.publish(0, true);
  EXPECT_EQ(w.api.purchase("k", 1).reason, "Suspended");
  must(w.owner.exec("update tenants set suspended = false, deleted_at = now() where id = $1", {w.tenant}));
  EXPECT_EQ(w.api.purchase("k", 1).reason, "TenantDeleted");
  must(w.owner.exec("update tenants set deleted_at = null where id = $1", {w.tenant}));
  EXPECT_TRUE(w.api.credit("yen", 1, "JPY").success);
  EXPECT_EQ(w.api.purchase("k", 1).reason, "CurrencyRequired");
}

TEST(DebtLimit, Within) {
  WalletWorld w(kPound, 5 * kPound);
  const Answer a = w.api.commit("call", 6 * kPound - kPenny);
  EXPECT_TRUE(a.success);
  EXPECT_EQ(a.balance, -5 * kPound + kPenny);
}

TEST(DebtLimit, ExactlyAt) {
  WalletWorld w(kPound, 5 * kPound);
  const Answer a = w.api.commit("call", 6 * kPound);
  EXPECT_TRUE(a.success);
  EXPECT_EQ(a.balance, -5 * kPound);
}

TEST(DebtLimit, OneMinorUnitOverIsRefusedAndNothingChanges) {
  WalletWorld w(kPound, 5 * kPound);
  const Answer a = w.api.commit("call", 6 * kPound + kPenny);
  EXPECT_EQ(a.reason, "DebtLimitExceeded");
  EXPECT_EQ(a.shortfall, kPenny);
  EXPECT_EQ(a.balance, kPound);
  EXPECT_EQ(w.api.facts().balance, kPound);
  EXPECT_EQ(w.number("select count(*) from credit_transactions where tenant = $1", {w.tenant}), 1);
}

TEST(DebtLimit, DefaultsByCurrency) {
  WalletWorld w(0);
  for (const auto& [currency, limit] : std::vector<std::pair<std::string, int64_t>>{
           {"USD", 5'000'000}, {"JPY", 500'000'000}, {"KWD", 1'500'000}, {"SEK", 5'000'000}}) {
    EXPECT_TRUE(w.api.credit("open " + currency, 1, currency).success);
    EXPECT_EQ(
        w.number("select debt_limit_micros from wallets where tenant = $1 and currency = $2", {w.tenant, currency}),
        limit);
  }
}

struct Check {
  bool end;
  std::string reason;
  int64_t effective;
};
Check status(WalletWorld& w, ledger::Param call = std::nullopt) {
  const auto rows = must(w.api.session.exec("select end_call, reason, effective_micros from status_check($1, null, $2)",
                                            {w.tenant, call}));
  return {rows.boolean(0, 0), std::string(rows.text(0, 1)), rows.integer(0, 2)};
}

TEST(KillSwitch, OnAtAndBelowZero) {
  WalletWorld w(kPound, 5 * kPound);
  w.api.purchase("all", kPound);
  EXPECT_TRUE(status(w).end);
  EXPECT_EQ(status(w).reason, "ZeroBalance");
  w.api.commit("call", kPound);
  EXPECT_TRUE(status(w).end);
  EXPECT_EQ(status(w).effective, -kPound);
}

TEST(KillSwitch, OffAboveZero) {
  WalletWorld w(1);
  EXPECT_FALSE(status(w).end);
}

TEST(KillSwitch, FactsAndTheCallsOwnHold) {
  WalletWorld w(kPound);
  w.api.reserve("mine", kPound);
  EXPECT_EQ(status(w).effective, 0);
  EXPECT_TRUE(status(w).end);
  EXPECT_FALSE(status(w, "mine").end);
  EXPECT_TRUE(status(w, "another").end);
  w.publish(0, true);
  EXPECT_EQ(status(w, "mine").reason, "Suspended");
}

TEST(History, NewestFirstWithCursor) {
  WalletWorld w(10 * kPound);
  for (int i = 0; i < 7; ++i) w.api.purchase("p" + std::to_string(i), kPenny);
  std::vector<int64_t> seen;
  ledger::Param before = std::nullopt;
  while (true) {
    const auto page = must(w.api.session.exec(
        "select place, balance_after_micros from wallet_transactions($1, null, $2, 3)", {w.tenant, before}));
    if (page.empty()) break;
    for (size_t i = 0; i < page.size(); ++i) seen.push_back(page.integer(i, 0));
    before = page.integer(page.size() - 1, 0);
  }
  EXPECT_EQ(seen.size(), 8U);
  EXPECT_TRUE(std::is_sorted(seen.rbegin(), seen.rend()));
}

}  // namespace
}  // namespace tallygate::testing
