// B3: the life of a reservation.
#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

TEST(Reservation, LifecycleReleasesTheRest) {
  WalletWorld w(1000);
  const Answer held = w.api.reserve("c", 400);
  EXPECT_TRUE(held.success);
  EXPECT_EQ(held.balance, 1000);
  EXPECT_EQ(held.reserved, 400);
  EXPECT_EQ(held.effective, 600);
  EXPECT_EQ(w.number("select count(*) from ledger_transfer_states where tenant = $1 and state = 'pending'", {w.tenant}),
            1);
  const Answer done = w.api.commit("c", 300);
  EXPECT_TRUE(done.success);
  EXPECT_EQ(done.balance, 700);
  EXPECT_EQ(done.reserved, 0);
  EXPECT_EQ(done.released, 100);
  EXPECT_EQ(
      w.number("select count(*) from ledger_transfer_states where tenant = $1 and kind = 'hold' and state = 'posted'",
               {w.tenant}),
      1);
}

TEST(Reservation, RejectedAtZeroEffectiveBalance) {
  WalletWorld w(1000, 500);
  EXPECT_TRUE(w.api.reserve("a", 1000).success);
  const Answer no = w.api.reserve("b", 1);
  EXPECT_EQ(no.reason, "InsufficientBalance");
  EXPECT_EQ(no.shortfall, 1);
}

TEST(Reservation, DuplicateIsTheFirstWhateverTheKey) {
  WalletWorld w(1000);
  const Answer first = w.api.reserve("c", 400, "k1");
  for (const char* key : {"k1", "k2"}) {
    const Answer again = w.api.reserve("c", 400, key);
    EXPECT_TRUE(again.success && again.duplicate);
    EXPECT_EQ(again.reservation, first.reservation);
    EXPECT_EQ(again.transaction, first.transaction);
  }
  EXPECT_EQ(w.api.reserve("c", 401, "k3").reason, "IdempotencyMismatch");
  EXPECT_EQ(w.api.reserve("d", 400, "k1").reason, "IdempotencyMismatch");
  EXPECT_EQ(w.api.facts().reserved, 400);
}

TEST(Reservation, ReleaseIsIdempotentAndFinal) {
  WalletWorld w(1000);
  w.api.reserve("c", 400);
  EXPECT_EQ(w.api.release("c").effective, 1000);
  EXPECT_TRUE(w.api.release("c").duplicate);
  EXPECT_TRUE(w.api.release("c", "other").duplicate);
  EXPECT_EQ(w.api.commit("c", 1).reason, "AlreadyReleased");
  EXPECT_EQ(w.api.release("unknown").reason, "UnknownReservation");
  EXPECT_EQ(w.api.facts().balance, 1000);
}

TEST(Reservation, CommitRepeatedIsIdempotent) {
  WalletWorld w(1000);
  w.api.reserve("c", 400);
  const Answer first = w.api.commit("c", 300);
  for (ledger::Param key : {ledger::Param(std::nullopt), ledger::Param("other")}) {
    const Answer again = w.api.commit("c", 300, key);
    EXPECT_TRUE(again.success && again.duplicate);
    EXPECT_EQ(again.transaction, first.transaction);
  }
  EXPECT_EQ(w.api.commit("c", 299, "third").reason, "IdempotencyMismatch");
  EXPECT_EQ(w.api.release("c").reason, "AlreadyCommitted");
  EXPECT_EQ(w.api.facts().balance, 700);
}

// An operation without a key has its call's, by SHA-256. Earlier ones had it by MD5: what was done then is repeated to nobody,
// and what was done to a call whose id has the same MD5 is another's.
TEST(Reservation, TheKeyOfACallIsItsOwn) {
  WalletWorld w(1000);
  const std::string now(must(w.owner.exec("select pg_get_functiondef('call_key'::regproc)")).text(0, 0));
  // A commit of the call, under the key that another id had by then.
  const auto commit_as_before = [&](const std::string& call, const std::string& id, int64_t cost) {
    must(w.owner.exec("create or replace function call_key(p_tenant text, p_operation text, p_call_id text) returns text "
                      "language sql stable as $f$ select '~' || p_operation || '/' || md5('" + id + "') $f$"));
    const Answer done = w.api.commit(call, cost);
    must(w.owner.exec(now));
    return done;
  };
  w.api.reserve("before", 400);
  const Answer first = commit_as_before("before", "before", 300);
  const Answer again = w.api.commit("before", 300);
  EXPECT_TRUE(again.success && again.duplicate);
  EXPECT_EQ(again.transaction, first.transaction);

  w.api.reserve("x", 100);
  const Answer of_x = commit_as_before("x", "y", 50);
  w.api.reserve("y", 100);
  const Answer of_y = w.api.commit("y", 50);
  EXPECT_TRUE(of_x.success && of_y.success && !of_y.duplicate) << of_y.reason;
  EXPECT_NE(of_y.transaction, of_x.transaction);
  EXPECT_EQ(w.api.facts().balance, 600);
  EXPECT_EQ(w.number("select count(*) from credit_transactions where tenant = $1 and idempotency_key = '~commit/' || "
                     "encode(sha256(convert_to('y', 'UTF8')), 'hex')",
                     {w.tenant}),
            1);
}

TEST(Reservation, CommitAboveTheHoldDrawsBalanceThenDebt) {
  WalletWorld w(1000, 500);
  w.api.reserve("other", 200);
  w.api.reserve("c", 400);
  // 400 on hold, 400 free, 500 of debt; the other call's hold is not touched.
  const Answer over = w.api.commit("c", 1301);
  EXPECT_EQ(over.reason, "DebtLimitExceeded");
  EXPECT_EQ(over.shortfall, 1);
  EXPECT_EQ(over.reserved, 600);
  const Answer done = w.api.commit("c", 1300);
  EXPECT_TRUE(done.success);
  EXPECT_EQ(done.balance, -300);
  EXPECT_EQ(done.effective, -500);
  EXPECT_TRUE(w.api.commit("other", 200).success);
}

TEST(Reservation, DirectBillingWithoutAHoldOnce) {
  WalletWorld w(1000);
  EXPECT_EQ(w.api.commit("c", 300).balance, 700);
  EXPECT_TRUE(w.api.commit("c", 300, "again").duplicate);
  EXPECT_EQ(w.api.reserve("c", 300).reason, "AlreadyCommitted");
  EXPECT_EQ(w.api.facts().balance, 700);
}

TEST(Reservation, ExpiryFreesTheHoldAndALateCommitBillsDirectly) {
  WalletWorld w(1000);
  w.api.reserve("c", 400);
  w.api.reserve("long", 100, std::nullopt, "2026-11-22 00:00:00+00");
  EXPECT_EQ(
      w.number("select count(*) from cleanup_expired_reservations('2026-11-21 12:59:00+00', 100) where tenant = $1",
               {w.tenant}),
      0);
  EXPECT_EQ(
      w.number("select count(*) from cleanup_expired_reservations($2, 100) where tenant = $1", {w.tenant, kLater}), 1);
  EXPECT_EQ(
      w.number("select count(*) from cleanup_expired_reservations($2, 100) where tenant = $1", {w.tenant, kLater}), 0);
  EXPECT_EQ(w.api.facts().effective, 900);
  EXPECT_TRUE(w.api.release("c").duplicate);
  const Answer late = w.api.commit("c", 300);
  EXPECT_TRUE(late.success);
  EXPECT_EQ(late.balance, 700);
  EXPECT_TRUE(w.api.commit("c", 300, "again").duplicate);
  EXPECT_EQ(w.api.release("c").reason, "AlreadyCommitted") << "its cost was taken: nothing of it comes back";
}

// Whoever hears "pending" counts on a hold.
TEST(Reservation, WhoseHoldIsGoneGetsNoneUnderAnotherKey) {
  WalletWorld w(1000);
  w.api.reserve("freed", 400, "f1");
  w.api.release("freed");
  w.api.reserve("paid", 100, "p1");
  w.api.commit("paid", 50);
  w.api.reserve("late", 200, "l1");
  w.api.reserve("unkeyed", 10);
  w.api.release("unkeyed");
  const auto reserve_at = [&](const char* call, const ledger::Param& key, int64_t amount, const std::string& now) {
    return must(w.api.call("reserve_call_credits($1, $2, null, null, $3, $4, '2026-11-21 15:00:00+00', '', $5)",
                           {w.tenant, key, call, amount, now}));
  };
  EXPECT_TRUE(reserve_at("late", "l2", 200, "2026-11-21 12:59:59.999999+00").duplicate);
  EXPECT_EQ(reserve_at("late", "l3", 200, kLater).reason, "AlreadyReleased")
      << "at its expiry, before anybody frees it";
  w.number("select count(*) from cleanup_expired_reservations($1, 100)", {kLater});
  EXPECT_EQ(reserve_at("late", "l4", 200, kLater).reason, "AlreadyReleased");
  for (const int64_t amount : {400, 401}) {
    const Answer no = w.api.reserve("freed", amount, "f2");
    EXPECT_FALSE(no.success || no.duplicate);
    EXPECT_EQ(no.reason, "AlreadyReleased");
    EXPECT_EQ(no.state, "released");
  }
  EXPECT_EQ(w.api.reserve("paid", 100, "p2").reason, "AlreadyCommitted");
  EXPECT_EQ(w.api.reserve("unkeyed", 10).reason, "AlreadyReleased")
      << "the ledger's own key says no more than a new one";
  EXPECT_TRUE(w.api.reserve("freed", 400, "f1").duplicate) << "the answer that this key was given";
  EXPECT_EQ(w.api.facts().reserved, 0);
  EXPECT_EQ(w.api.facts().balance, 950);
}

// A key was answered: a wallet that was opened since changes nothing of it.
TEST(Reservation, AKeyIsAnsweredBeforeACurrencyIsAskedFor) {
  WalletWorld w(1000);
  const Answer bought = w.api.purchase("d1", 100);
  w.api.reserve("c", 50, "r1");
  w.api.commit("c", 30, "c1");
  w.api.reserve("open", 50, "r2");
  ASSERT_TRUE(w.api.credit("usd", 500, "USD").success);
  const Answer again = w.api.purchase("d1", 100);
  EXPECT_TRUE(again.success && again.duplicate);
  EXPECT_EQ(again.transaction, bought.transaction);
  EXPECT_EQ(w.api.purchase("d1", 101).reason, "IdempotencyMismatch");
  EXPECT_EQ(w.api.purchase("d2", 100).reason, "CurrencyRequired");
  EXPECT_TRUE(w.api.reserve("c", 50, "r1").duplicate);
  EXPECT_TRUE(w.api.commit("c", 30, "c1").duplicate);
  EXPECT_TRUE(w.api.commit("open", 20, "c2").success) << "in the currency of its hold";
  WalletCaller admin(w.tenant, "set role tallygate_admin");
  const auto adjust = [&](const char* key, const ledger::Param& currency, int64_t amount) {
    return must(
        admin.call("adjust_wallet($1, $2, null, $3, $4, 'r', 'ann', '', $5)", {w.tenant, key, currency, amount, kNow}));
  };
  WalletWorld one(1000);
  WalletCaller other(one.tenant, "set role tallygate_admin");
  const auto first = [&] {
    return must(other.call("adjust_wallet($1, 'a1', null, null, 5, 'r', 'ann', '', $2)", {one.tenant, kNow}));
  };
  EXPECT_FALSE(first().duplicate);
  ASSERT_TRUE(one.api.credit("usd", 500, "USD").success);
  EXPECT_TRUE(first().duplicate);
  EXPECT_EQ(adjust("a2", std::nullopt, 5).reason, "CurrencyRequired");
}

TEST(Reservation, ACallThatIsUnderWayKeepsTheWalletOfItsHold) {
  WalletWorld w(1000);
  w.api.reserve("live", 1000);
  ASSERT_TRUE(w.api.credit("usd", 500, "USD").success);
  const auto check = [&](const char* call, const ledger::Param& currency) {
    const auto rows =
        must(w.api.session.exec("select end_call, reason, currency, call_hold_micros from status_check($1, $2, $3)",
                                {w.tenant, currency, call}));
    return std::string(rows.text(0, 0)) + " " + std::string(rows.text(0, 1)) + " " + std::string(rows.text(0, 2)) +
           " " + std::string(rows.text(0, 3));
  };
  EXPECT_EQ(check("live", std::nullopt), "f  GBP 1000");
  EXPECT_EQ(check("live", "USD"), "f  USD 0");
  EXPECT_EQ(check("none", std::nullopt), "t CurrencyRequired  0");
}

TEST(Reservation, ACommitWithinItsHoldIsAlwaysTaken) {
  WalletWorld w(1000);
  w.api.reserve("c", 1000);
  WalletCaller loop(w.tenant, "set role tallygate_pipeline");
  EXPECT_EQ(must(loop.call("post_refund($1, 'r1', null, 700, '', $2)", {w.tenant, kNow})).effective, -700);
  EXPECT_EQ(w.api.commit("c", 1000).balance, -700);
}

TEST(Reservation, ZeroCostFreesTheHold) {
  WalletWorld w(1000);
  w.api.reserve("c", 400);
  const Answer done = w.api.commit("c", 0);
  EXPECT_TRUE(done.success);
  EXPECT_EQ(done.effective, 1000);
}

}  // namespace
}  // namespace tallygate::testing
