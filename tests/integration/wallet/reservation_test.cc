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
  EXPECT_EQ(w.api.reserve("c", 300).reason, "IdempotencyMismatch");
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
