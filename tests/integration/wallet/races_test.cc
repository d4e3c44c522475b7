// B8: many at once, straight in SQL. Any error at all, a deadlock or a serialization fault among them, fails the test.
#include <atomic>
#include <thread>

#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

constexpr int kConnections = 40;

struct Tally {
  std::atomic<int> succeeded = 0, duplicates = 0, refused = 0, faults = 0;
};

// Calls `one(caller, i)` for i in 0 … count − 1 over all connections at once.
template <class Fn>
void race(const std::string& tenant, int count, Tally& tally, Fn one, const std::string& setup = kApiSetup) {
  std::atomic<int> next = 0, ready = 0;
  const int connections = std::min(count, kConnections);
  std::vector<std::thread> threads;
  for (int n = 0; n < connections; ++n) {
    threads.emplace_back([&] {
      WalletCaller caller(tenant, setup);
      if (!caller.session.exec("select 1")) ++tally.faults;
      ++ready;
      while (ready < connections) std::this_thread::yield();
      for (int i = next++; i < count; i = next++) {
        const Result<Answer> a = one(caller, i);
        if (!a) {
          ++tally.faults;
          ADD_FAILURE() << a.error().message;
        } else if (a->duplicate) {
          ++tally.duplicates;
        } else {
          ++(a->success ? tally.succeeded : tally.refused);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

class Races : public ::testing::TestWithParam<int> {};

TEST_P(Races, OnePurchaseOfAllSucceeds) {
  WalletWorld w(1000, 500);
  Tally tally;
  race(w.tenant, GetParam(), tally, [&](WalletCaller& c, int i) {
    return c.call("check_balance_and_deduct_asset_cost($1, $2, null, null, 1000, '', $3)",
                  {w.tenant, "p" + std::to_string(i), kNow});
  });
  EXPECT_EQ(tally.succeeded, 1);
  EXPECT_EQ(tally.refused, GetParam() - 1);
  EXPECT_EQ(tally.faults, 0);
  EXPECT_EQ(w.api.facts().balance, 0);
}

TEST_P(Races, OneReservationOfACallTheOthersAreDuplicates) {
  WalletWorld w(1000);
  const int count = GetParam() == 100 ? 50 : GetParam();
  Tally tally;
  race(w.tenant, count, tally, [&](WalletCaller& c, int i) {
    return c.call("reserve_call_credits($1, $2, null, null, 'call', 600, $3, '', $4)",
                  {w.tenant, "r" + std::to_string(i), kLater, kNow});
  });
  EXPECT_EQ(tally.succeeded, 1);
  EXPECT_EQ(tally.duplicates, count - 1);
  EXPECT_EQ(tally.faults, 0);
  EXPECT_EQ(w.api.facts().reserved, 600);
}

TEST_P(Races, PurchasesAndReservationsNeverAddUpPastTheBalance) {
  WalletWorld w(1000, 500);
  const int count = GetParam() == 100 ? 50 : GetParam();
  Tally tally;
  race(w.tenant, count, tally, [&](WalletCaller& c, int i) {
    const std::string id = std::to_string(i);
    if (i % 2 == 0)
      return c.call("check_balance_and_deduct_asset_cost($1, $2, null, null, 500, '', $3)", {w.tenant, "p" + id, kNow});
    return c.call("reserve_call_credits($1, null, null, null, $2, 500, $3, '', $4)",
                  {w.tenant, "c" + id, kLater, kNow});
  });
  EXPECT_EQ(tally.succeeded, 2);
  EXPECT_EQ(tally.faults, 0);
  EXPECT_EQ(w.api.facts().effective, 0);
}

TEST_P(Races, OneTopUpOfOneKey) {
  WalletWorld w(1000);
  Tally tally;
  const auto top_up = [&](WalletCaller& c, int) {
    return c.call("add_wallet_credits($1, 'cs_1', null, 'USD', 5, '', $2)",
                  {w.tenant, kNow});  // the wallet is made on the way
  };
  race(w.tenant, GetParam(), tally, top_up, "set role tallygate_admin");
  EXPECT_EQ(tally.succeeded, 1);
  EXPECT_EQ(tally.duplicates, GetParam() - 1);
  EXPECT_EQ(tally.faults, 0);
}

TEST_P(Races, CommitsToTheFloorAndNotBelow) {
  WalletWorld w(1000, 500);
  Tally tally;
  race(w.tenant, GetParam(), tally, [&](WalletCaller& c, int i) {
    return c.call("commit_reserved_credits($1, null, null, null, $2, 100, '', $3)",
                  {w.tenant, "c" + std::to_string(i), kNow});
  });
  EXPECT_EQ(tally.succeeded, 15);
  EXPECT_EQ(tally.faults, 0);
  EXPECT_EQ(w.api.facts().balance, -500);
}

// Commit, release and expiry of the same holds at once: each hold ends one way.
TEST_P(Races, EachHoldEndsOnce) {
  WalletWorld w(1000);
  constexpr int kCalls = 10;
  for (int i = 0; i < kCalls; ++i) w.api.reserve("c" + std::to_string(i), 100);
  Tally tally;
  race(w.tenant, GetParam(), tally, [&](WalletCaller& c, int i) -> Result<Answer> {
    const std::string call = "c" + std::to_string(i / 3 % kCalls);
    if (i % 3 == 0)
      return c.call("commit_reserved_credits($1, null, null, null, $2, 50, '', $3)", {w.tenant, call, kNow});
    if (i % 3 == 1) return c.call("release_reserved_credits($1, null, null, $2, '', $3)", {w.tenant, call, kNow});
    ledger::Session loop(owner_url());
    const auto rows = loop.exec("select * from cleanup_expired_reservations($1, 2)", {kLater});
    if (!rows) return tl::unexpected(rows.error());
    return Answer{.success = true};
  });
  EXPECT_EQ(tally.faults, 0);
  EXPECT_EQ(w.number("select count(*) from ledger_transfers where tenant = $1 and resolves is not null", {w.tenant}),
            kCalls);
  EXPECT_EQ(w.api.facts().reserved, 0);
}

INSTANTIATE_TEST_SUITE_P(AtOnce, Races, ::testing::Values(100, 1000));

}  // namespace
}  // namespace tallygate::testing
