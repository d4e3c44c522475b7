// Money that is lent to sidecars as float pays for purchases through the API: real Redis, PostgreSQL, epochs, funding
// and pump; the sidecar's side of the contract is played by hand. shop/acme pays an SMS with 0.04 of its wallet and may
// go into debt by 5.00 for usage, not for purchases.
#include <signal.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/integration/api/world.h"
#include "tests/integration/ledger/loops_world.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kUnit = 40'000;  // micros
constexpr int64_t kDebtLimit = 5'000'000;

struct RecallWorld {
  RecallWorld() {
    loops.bucket = "sms$";
    loops.start();
    for (const char* name : {"a", "b"}) loops.send(hello(loops.shard, name));
    EXPECT_TRUE(loops.registered("a") && loops.registered("b"));
  }
  Answer buy(const std::string& text, const std::string& key) {
    return api.post("/v1/deductions", R"({"amount":")" + text + R"("})", key);
  }
  int64_t fact(const std::string& name) {
    return api.number("select " + name + " from wallet_facts('shop/acme', 'GBP')");
  }
  // What is lent is in Redis, idle, but for `units` that sidecar "a" has leased.
  void lend(int64_t units) {
    EXPECT_EQ(loops.lease_patiently("a", units).granted, units);
    EXPECT_GE(loops.eventually([&] { return fact("float_micros") > units * kUnit; }), 0);
  }
  LoopsWorld loops;
  ApiWorld api{ApiWorld::Options{.url = loops.url, .redis = loops.redis.endpoint()}};
};

TEST(ApiRecall, IdleFloatPaysForAPurchaseAndWhatASidecarHoldsDoesNot) {
  RecallWorld w;
  w.api.credit("shop/acme", 10'000'000);
  w.lend(20);
  ASSERT_LT(w.fact("effective_micros"), 8'000'000) << "nothing is lent";
  const Answer bought = w.buy("8.00", "p1");
  ASSERT_EQ(bought.status, 201) << bought.body;
  EXPECT_EQ(bought.member("balance"), "2.00");
  // 2.00 are left; 20 units of 0.04 are the sidecar's, on debt or not.
  const int64_t left = 2'000'000 - std::max<int64_t>(0, 20 * kUnit);
  const Answer beyond = w.buy("1.21", "p2");
  EXPECT_EQ(beyond.status, 402) << beyond.body;
  EXPECT_EQ(beyond.member("shortfall"), "0.01") << beyond.body;
  EXPECT_EQ(w.buy("1.20", "p3").status, 201) << "all but what the sidecar holds: " << left;
  w.loops.send(usage(w.loops.shard, "a", 2, "shop/acme", 20, {"sms$"}, 1, "sms"));
  EXPECT_GE(w.loops.eventually([&] { return w.fact("balance_micros") == 0; }), 0) << w.fact("balance_micros");
  EXPECT_EQ(w.api.number("select count(*) from ledger_audit()"), 0);
}

// A correction by hand reaches the money that is lent as well, down to the debt limit and not beyond.
TEST(ApiRecall, AnAdjustmentDownwardsTakesIdleFloat) {
  RecallWorld w;
  w.api.credit("shop/acme", 10'000'000);
  w.lend(20);
  const auto adjust = [&](const std::string& amount, const std::string& key) {
    return w.api.send({.method = "POST",
                       .path = "/v1/wallet/adjustments",
                       .body = R"({"amount":")" + amount + R"(","reason":"credited twice"})",
                       .token = kAdminToken,
                       .key = key,
                       .tenant = "shop/acme"});
  };
  ASSERT_LT(w.fact("effective_micros") + kDebtLimit, 14'000'000) << "nothing is lent";
  const Answer done = adjust("-14.00", "a1");
  ASSERT_EQ(done.status, 201) << done.body;
  EXPECT_EQ(done.member("balance"), "-4.00");
  const Answer beyond = adjust("-0.21", "a2");  // 20 units of 0.04 are the sidecar's
  EXPECT_EQ(beyond.status, 402) << beyond.body;
  EXPECT_EQ(beyond.member("shortfall"), "0.01");
  EXPECT_EQ(adjust("-0.20", "a3").status, 201);
  EXPECT_EQ(w.api.number("select count(*) from ledger_audit()"), 0);
}

// For two seconds money comes in small amounts, two clients buy and two sidecars lease as fast as they can.
TEST(ApiRecall, PurchasesAndSidecarsTogetherNeverPassTheFloor) {
  RecallWorld w;
  w.api.credit("shop/acme", 1'000'000);
  std::atomic<bool> stop = false;
  std::atomic<int64_t> bought = 0, refused = 0;
  std::vector<std::thread> clients;
  for (int client = 0; client < 2; ++client) {
    clients.emplace_back([&, client] {
      ApiClient connection(w.api.server->port());
      for (int i = 0; !stop; ++i) {
        const int64_t cents = 1 + i % 60;
        const std::string text = "0." + std::string(cents < 10 ? "0" : "") + std::to_string(cents);
        const Answer answer = connection.send({.method = "POST",
                                               .path = "/v1/deductions",
                                               .body = R"({"amount":")" + text + R"("})",
                                               .token = kAcmeToken,
                                               .key = std::to_string(client) + "-" + std::to_string(i)});
        EXPECT_TRUE(answer.status == 201 || answer.status == 402) << answer.body;
        (answer.status == 201 ? bought : refused) += answer.status == 201 ? cents * 10'000 : 1;
      }
    });
  }
  int64_t leased[2] = {0, 0}, credited = 1'000'000;
  const int64_t until_ms = system_env().mono_ms() + 2'000;
  for (int turn = 0; system_env().mono_ms() < until_ms; ++turn) {
    const int who = turn % 2;
    const auto lease = w.loops.lease(who == 0 ? "a" : "b", leased[who] + 1);
    if (lease.status == "GRANT") leased[who] = lease.granted;
    if (turn % 4 == 0) {
      w.api.credit("shop/acme", 300'000);
      credited += 300'000;
    }
    system_env().sleep_ms(10);
  }
  stop = true;
  for (auto& client : clients) client.join();
  const int64_t used = leased[0] + leased[1];
  std::printf("%ld credited; %ld bought, %ld refused; %ld units leased\n", static_cast<long>(credited),
              static_cast<long>(bought.load()), static_cast<long>(refused.load()), static_cast<long>(used));
  EXPECT_GT(bought, 0);
  EXPECT_GT(used, 0);
  EXPECT_LE(bought + used * kUnit, credited + kDebtLimit);
  // What is left is idle, in the ledger or in Redis, and all of it can be bought; not a penny more.
  if (const int64_t pence = (credited - bought - used * kUnit) / 10'000; pence > 0) {
    const auto text = [](int64_t n) {
      return std::to_string(n / 100) + "." + std::to_string(n / 10 % 10) + std::to_string(n % 10);
    };
    EXPECT_EQ(w.buy(text(pence + 1), "beyond").status, 402);
    EXPECT_EQ(w.buy(text(pence), "rest").status, 201);
    bought += pence * 10'000;
  }
  // Every leased unit is used, and booked.
  for (int who = 0; who < 2; ++who) {
    if (leased[who] == 0) continue;
    w.loops.send(usage(w.loops.shard, who == 0 ? "a" : "b", 2, "shop/acme", leased[who], {"sms$"}, 1, "sms"));
  }
  EXPECT_GE(w.loops.eventually([&] { return w.fact("balance_micros") == credited - bought - used * kUnit; }), 0)
      << w.fact("balance_micros");
  EXPECT_GE(w.fact("balance_micros"), -kDebtLimit);
  EXPECT_EQ(w.api.number("select count(*) from ledger_audit()"), 0);
}

// Away in both ways: nothing listens; it listens and is silent.
TEST(ApiRecall, WithRedisAwayTheLedgerAnswersFromWhatItHasInTime) {
  for (const bool silent : {false, true}) {
    RecallWorld w;
    w.api.credit("shop/acme", 10'000'000);
    w.lend(20);
    const int64_t effective = w.fact("effective_micros");
    silent ? static_cast<void>(::kill(w.loops.redis.pid(), SIGSTOP)) : w.loops.redis.kill();
    const int64_t began_ms = system_env().mono_ms();
    std::vector<std::unique_ptr<ApiClient>> clients;
    for (int i = 0; i < 40; ++i) {
      clients.push_back(std::make_unique<ApiClient>(w.api.server->port()));
      clients.back()->start({.method = "POST",
                             .path = "/v1/deductions",
                             .body = R"({"amount":"8.00"})",
                             .token = kAcmeToken,
                             .key = "away-" + std::to_string(i)});
    }
    for (auto& client : clients) {
      const Answer answer = client->finish();
      EXPECT_EQ(answer.status, 402) << answer.body;
      EXPECT_NE(answer.member("shortfall"), "");
      EXPECT_EQ(answer.member("balance"), "10.00");
    }
    const int64_t took_ms = system_env().mono_ms() - began_ms;
    std::printf("Redis %s: 40 purchases beyond %ld answered in %ld ms\n", silent ? "silent" : "away",
                static_cast<long>(effective), static_cast<long>(took_ms));
    EXPECT_LT(took_ms, 2'500);
    if (silent) {
      ::kill(w.loops.redis.pid(), SIGCONT);
      EXPECT_GE(w.loops.eventually([&] { return w.buy("8.00", "back").status == 201; }), 0) << "it recovers by itself";
      EXPECT_EQ(w.api.number("select count(*) from ledger_audit()"), 0);
    }
  }
}

}  // namespace
}  // namespace tallygate::testing
