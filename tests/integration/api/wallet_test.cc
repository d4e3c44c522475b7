// Wallet, purchases, reservations, the kill switch and adjustments through the API, on a real PostgreSQL.
#include <atomic>
#include <cstdlib>
#include <set>
#include <thread>

#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

std::string amount(const std::string& text) { return R"({"amount":")" + text + R"("})"; }
std::string reservation(const std::string& call, const std::string& text) {
  return R"({"callId":")" + call + R"(","amount":")" + text + R"("})";
}

TEST(ApiWallet, ShowsTheBalanceAndWhatIsOnHold) {
  ApiWorld world;
  world.credit("shop/acme", 20'000'000);
  ASSERT_EQ(world.post("/v1/reservations", reservation("call-1", "4.50"), "k1").status, 201);
  const Answer answer = world.get("/v1/wallet");
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.member("balance"), "20.00");
  EXPECT_EQ(answer.member("reserved"), "4.50");
  EXPECT_EQ(answer.member("effective"), "15.50");
  EXPECT_EQ(answer.member("debtLimit"), "5.00");
  EXPECT_EQ(answer.member("tenant"), "shop/acme");
}

TEST(ApiWallet, PurchaseSucceedsOnceAndItsRepetitionGivesTheFirstAnswer) {
  ApiWorld world;
  world.credit("shop/acme", 10'000'000);
  const Answer first = world.post("/v1/deductions", amount("2.50"), "buy-1");
  ASSERT_EQ(first.status, 201) << first.body;
  EXPECT_EQ(first.member("duplicate"), "false");
  EXPECT_EQ(first.member("balance"), "7.50");
  ASSERT_EQ(world.post("/v1/deductions", amount("1.00"), "buy-2").status, 201);
  const Answer again = world.post("/v1/deductions", amount("2.50"), "buy-1");
  EXPECT_EQ(again.status, 201);
  EXPECT_EQ(again.member("duplicate"), "true");
  EXPECT_TRUE(again.replayed());
  EXPECT_EQ(again.member("transactionId"), first.member("transactionId"));
  EXPECT_EQ(again.member("balance"), "7.50") << "the first answer's";
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "6.50");
}

TEST(ApiWallet, SameKeyWithAnotherBodyIs422AndChangesNothing) {
  ApiWorld world;
  world.credit("shop/acme", 10'000'000);
  ASSERT_EQ(world.post("/v1/deductions", amount("2.50"), "one").status, 201);
  const Answer other = world.post("/v1/deductions", amount("2.51"), "one");
  EXPECT_EQ(other.status, 422);
  EXPECT_EQ(other.member("reason"), "IdempotencyMismatch");
  EXPECT_EQ(world.post("/v1/reservations", reservation("c", "2.50"), "one").status, 422);
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "7.50");
}

TEST(ApiWallet, PurchaseBeyondTheBalanceIs402WithItsShortfallAndTheKeyMaySucceedLater) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  const Answer refused = world.post("/v1/deductions", amount("1.01"), "later");
  EXPECT_EQ(refused.status, 402);
  EXPECT_EQ(refused.member("reason"), "InsufficientBalance");
  EXPECT_EQ(refused.member("shortfall"), "0.01");
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "1.00");
  world.credit("shop/acme", 10'000);
  EXPECT_EQ(world.post("/v1/deductions", amount("1.01"), "later").status, 201);
}

TEST(ApiWallet, HistoryComesInPagesNewestFirst) {
  ApiWorld world;
  world.credit("shop/acme", 100'000'000);
  for (int i = 0; i < 7; ++i) ASSERT_EQ(world.post("/v1/deductions", amount("1"), "p" + std::to_string(i)).status, 201);
  std::set<std::string> keys;
  std::string path = "/v1/wallet/transactions?limit=3";
  int pages = 0;
  for (; !path.empty(); ++pages) {
    const Answer page = world.get(path);
    ASSERT_EQ(page.status, 200) << page.body;
    for (size_t at = page.body.find("\"idempotencyKey\":\""); at != std::string::npos;
         at = page.body.find("\"idempotencyKey\":\"", at + 1)) {
      const size_t begin = at + 18;
      EXPECT_TRUE(keys.insert(page.body.substr(begin, page.body.find('"', begin) - begin)).second);
    }
    const std::string next = page.member("nextCursor");
    path = next.empty() ? "" : "/v1/wallet/transactions?limit=3&cursor=" + next;
  }
  EXPECT_EQ(keys.size(), 8u);
  EXPECT_EQ(pages, 3);
}

TEST(ApiReservations, LifeOfAHold) {
  ApiWorld world;
  world.credit("shop/acme", 10'000'000);
  const Answer held = world.post("/v1/reservations", reservation("call-9", "4.00"), "r");
  ASSERT_EQ(held.status, 201) << held.body;
  EXPECT_EQ(held.member("state"), "pending");
  EXPECT_EQ(held.member("effective"), "6.00");
  const Answer seen = world.get("/v1/reservations/call-9");
  EXPECT_EQ(seen.status, 200);
  EXPECT_EQ(seen.member("amount"), "4.00");
  const Answer committed = world.post("/v1/reservations/call-9/commit", R"({"cost":"1.25"})", "c");
  ASSERT_EQ(committed.status, 200) << committed.body;
  EXPECT_EQ(committed.member("committed"), "1.25");
  EXPECT_EQ(committed.member("released"), "2.75");
  EXPECT_EQ(committed.member("balance"), "8.75");
  const Answer again = world.post("/v1/reservations/call-9/commit", R"({"cost":"1.25"})", "c");
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.member("duplicate"), "true");
  EXPECT_EQ(world.post("/v1/reservations/call-9/release", "{}", "x").status, 409);
  EXPECT_EQ(world.get("/v1/reservations?state=committed").status, 200);
  EXPECT_EQ(world.get("/v1/reservations/none").status, 404);
}

// Operations go to the ledger as rows of an array: what quotes, escapes and brackets say there is text like any other.
TEST(ApiReservations, TextsComeBackAsTheyWere) {
  ApiWorld world;
  world.credit("shop/acme", 10'000'000);
  const std::string call = R"x(a "b\" {c},(d) \\ é 'e' NULL)x", description = R"x("){"\"(,)"})x";
  const std::string key = R"x(key(){},"\)x";
  const auto quoted = [](std::string text) {
    for (size_t at = 0; (at = text.find_first_of("\"\\", at)) != std::string::npos; at += 2) text.insert(at, 1, '\\');
    return "\"" + text + "\"";
  };
  const Answer held = world.post(
      "/v1/reservations",
      "{\"amount\":\"1.00\",\"callId\":" + quoted(call) + ",\"description\":" + quoted(description) + "}", key);
  ASSERT_EQ(held.status, 201) << held.body;
  const auto rows = world.session.exec(
      "select call_id = $1, description = $2, idempotency_key = $3 from credit_transactions where kind = 'reserve'",
      {call, description, key});
  ASSERT_TRUE(rows && rows->size() == 1);
  for (size_t column = 0; column < 3; ++column) EXPECT_TRUE(rows->boolean(0, column)) << column;
  EXPECT_NE(held.body.find(quoted(call)), std::string::npos) << held.body;
}

TEST(ApiReservations, ReleaseFreesTheHoldAndACommitWithoutOneBillsDirectly) {
  ApiWorld world;
  world.credit("shop/acme", 10'000'000);
  ASSERT_EQ(world.post("/v1/reservations", reservation("a", "4.00"), "r1").status, 201);
  ASSERT_EQ(world.post("/v1/reservations/a/release", "", "r2").status, 200);
  EXPECT_EQ(world.get("/v1/wallet").member("effective"), "10.00");
  ASSERT_EQ(world.post("/v1/reservations/b/commit", R"({"cost":"3.00"})", "r3").status, 200);
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "7.00");
}

TEST(ApiReservations, CommitDrawsTheDebtLimitToItsEndAndNoFurther) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000);
  EXPECT_EQ(world.post("/v1/reservations/d/commit", R"({"cost":"6.01"})", "over").status, 402);
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "1.00");
  EXPECT_EQ(world.post("/v1/reservations/d/commit", R"({"cost":"6.00"})", "at").status, 200);
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "-5.00");
  const Answer status = world.post("/v1/status-check", "{}");
  EXPECT_EQ(status.member("endCall"), "true");
}

TEST(ApiStatusCheck, TellsWhetherTheCallMustEnd) {
  ApiWorld world;
  EXPECT_EQ(world.post("/v1/status-check", "").member("endCall"), "true");
  world.credit("shop/acme", 1'000'000);
  const Answer status = world.post("/v1/status-check", R"({"callId":"x"})");
  EXPECT_EQ(status.status, 200);
  EXPECT_EQ(status.member("endCall"), "false");
  EXPECT_EQ(status.member("balance"), "1.00");
}

TEST(ApiAdjustments, AreForAdministratorsAndAudited) {
  ApiWorld world;
  const std::string body = R"({"amount":"-1.50","currency":"GBP","reason":"double charge"})";
  world.credit("shop/acme", 5'000'000);
  EXPECT_EQ(world.post("/v1/wallet/adjustments", body, "adj").status, 403);
  const Ask ask{.method = "POST",
                .path = "/v1/wallet/adjustments",
                .body = body,
                .token = kAdminToken,
                .key = "adj",
                .tenant = "shop/acme"};
  const Answer done = world.send(ask);
  ASSERT_EQ(done.status, 201) << done.body;
  EXPECT_EQ(done.member("balance"), "3.50");
  EXPECT_EQ(world.send(ask).member("duplicate"), "true");
  EXPECT_EQ(world.number("select count(*) from audit_log where actor = 'token:admin' and reason = 'double charge'"), 1);
}

// B8: what comes at once.
std::map<int, int> at_once(ApiWorld& world, int count, const std::function<Ask(int)>& ask) {
  std::vector<std::unique_ptr<ApiClient>> clients;
  for (int i = 0; i < count; ++i) clients.push_back(std::make_unique<ApiClient>(world.server->port()));
  for (int i = 0; i < count; ++i) clients[static_cast<size_t>(i)]->start(ask(i));
  std::map<int, int> statuses;
  for (auto& client : clients) {
    const Answer answer = client->finish();
    ++statuses[answer.status == 201 && answer.replayed() ? 1201 : answer.status];
  }
  return statuses;
}

TEST(ApiRaces, OfAHundredPurchasesOfTheWholeBalanceOneSucceeds) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000'000);
  const auto statuses = at_once(world, 100, [](int i) {
    return Ask{.method = "POST",
               .path = "/v1/deductions",
               .body = amount("1000"),
               .token = kAcmeToken,
               .key = "p" + std::to_string(i)};
  });
  EXPECT_EQ(statuses, (std::map<int, int>{{201, 1}, {402, 99}}));
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "0.00");
}

TEST(ApiRaces, OfFiftyReservationsOfOneCallOneIsNewAndTheOthersAreDuplicates) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000'000);
  const auto statuses = at_once(world, 50, [](int i) {
    return Ask{.method = "POST",
               .path = "/v1/reservations",
               .body = reservation("one", "10"),
               .token = kAcmeToken,
               .key = "k" + std::to_string(i)};
  });
  EXPECT_EQ(statuses, (std::map<int, int>{{201, 1}, {1201, 49}}));
  EXPECT_EQ(world.get("/v1/wallet").member("reserved"), "10.00");
}

TEST(ApiRaces, TwentyFivePurchasesAndTwentyFiveReservationsNeverSpendMoreThanThereIs) {
  ApiWorld world;
  world.credit("shop/acme", 2'000'000'000);
  const auto statuses = at_once(world, 50, [](int i) {
    const std::string n = std::to_string(i);
    if (i % 2 == 0)
      return Ask{
          .method = "POST", .path = "/v1/deductions", .body = amount("1000"), .token = kAcmeToken, .key = "p" + n};
    return Ask{.method = "POST",
               .path = "/v1/reservations",
               .body = reservation("c" + n, "1000"),
               .token = kAcmeToken,
               .key = "r" + n};
  });
  EXPECT_EQ(statuses, (std::map<int, int>{{201, 2}, {402, 48}}));
  EXPECT_EQ(world.get("/v1/wallet").member("effective"), "0.00");
}

TEST(ApiRaces, OneKeySentManyTimesAtOnceHasOneEffect) {
  ApiWorld world;
  world.credit("shop/acme", 1'000'000'000);
  const auto statuses = at_once(world, 60, [](int) {
    return Ask{.method = "POST", .path = "/v1/deductions", .body = amount("7"), .token = kAcmeToken, .key = "same"};
  });
  EXPECT_EQ(statuses, (std::map<int, int>{{201, 1}, {1201, 59}}));
  EXPECT_EQ(world.get("/v1/wallet").member("balance"), "993.00");
}

// Every id that is taken can be named in a path.
TEST(ApiReservations, AnIdThatNoPathCanNameIsRefused) {
  ApiWorld world;
  world.credit("shop/acme", 10'000'000);
  int n = 0;
  for (const char* id : {".", ".."}) {
    const Answer refused =
        world.post("/v1/reservations", std::string(R"({"amount":"0.01","callId":")") + id + "\"}", std::to_string(++n));
    EXPECT_EQ(refused.status, 422);
    EXPECT_EQ(refused.member("field"), "callId");
  }
  const std::pair<const char*, const char*> kIds[] = {{"...", "..."},   {".a", ".a"}, {"a/b", "a%2Fb"},
                                                      {"%2e", "%252e"}, {"?", "%3F"}, {"-", "-"}};
  for (const auto& [id, path] : kIds) {
    EXPECT_EQ(
        world.post("/v1/reservations", std::string(R"({"amount":"0.01","callId":")") + id + "\"}", std::to_string(++n))
            .status,
        201)
        << id;
    EXPECT_EQ(world.get(std::string("/v1/reservations/") + path).status, 200) << id;
  }
}

TEST(ApiReservations, OfACallWhoseHoldIsGoneIs409) {
  ApiWorld world;
  world.credit("shop/acme", 10'000'000);
  const auto reserve = [&](const std::string& key) {
    return world.post("/v1/reservations", R"({"amount":"1.00","callId":"c"})", key);
  };
  ASSERT_EQ(reserve("k1").status, 201);
  EXPECT_EQ(reserve("k2").member("duplicate"), "true") << "it is there";
  ASSERT_EQ(world.post("/v1/reservations/c/release", "", "k3").status, 200);
  const Answer gone = reserve("k4");
  EXPECT_EQ(gone.status, 409) << gone.body;
  EXPECT_EQ(gone.member("reason"), "AlreadyReleased");
  EXPECT_TRUE(reserve("k1").replayed());
  EXPECT_EQ(world.get("/v1/wallet").member("reserved"), "0.00");
}

TEST(ApiWallet, ACurrencyIsOneOfIso4217AndOfThePlan) {
  ApiWorld world;
  const auto adjust = [&](const std::string& currency) {
    return world.send({.method = "POST",
                       .path = "/v1/wallet/adjustments",
                       .body = R"({"amount":"1","reason":"r","currency":")" + currency + "\"}",
                       .token = kAdminToken,
                       .key = "a-" + currency,
                       .tenant = "shop/acme"});
  };
  for (const char* currency : {"GPB", "XXX", "XTS", "BTC", "gbp"}) {
    const Answer refused = adjust(currency);
    EXPECT_EQ(refused.status, 422) << currency;
    EXPECT_EQ(refused.member("reason"), "InvalidFields") << currency;
  }
  for (const char* currency : {"NOK", "JPY"}) {
    const Answer refused = adjust(currency);
    EXPECT_EQ(refused.status, 422) << currency;
    EXPECT_EQ(refused.member("reason"), "CurrencyNotDeclared") << currency;
  }
  EXPECT_EQ(adjust("GBP").status, 201);
  EXPECT_EQ(world.number("select count(*) from wallets where tenant = 'shop/acme'"), 1);
}

// Numbers that a tenant sees say nothing of what others do, and still name one thing each.
TEST(ApiWallet, NumbersTellNothingOfOtherTenants) {
  ApiWorld world;
  for (const char* tenant : {"shop/acme", "shop/globex"}) world.credit(tenant, 10'000'000);
  const auto deduct = [&](const std::string& token, const std::string& key) {
    return world
        .send({.method = "POST", .path = "/v1/deductions", .body = R"({"amount":"0.01"})", .token = token, .key = key})
        .member("transactionId");
  };
  std::vector<int64_t> acme;
  std::set<std::string> all;
  for (int i = 0; i < 8; ++i) {
    const std::string key = std::to_string(i);
    acme.push_back(std::stoll(deduct(kAcmeToken, key)));
    all.insert({std::to_string(acme.back()), deduct(kGlobexToken, key)});
    EXPECT_EQ(deduct(kAcmeToken, key), std::to_string(acme.back())) << "the same again";
  }
  EXPECT_EQ(all.size(), 16u);
  int near = 0;
  for (size_t i = 1; i < acme.size(); ++i) near += std::abs(acme[i] - acme[i - 1]) < 1'000'000 ? 1 : 0;
  EXPECT_LE(near, 1) << "no sequence";
  std::set<std::string> listed;
  std::string path = "/v1/wallet/transactions?limit=3";
  while (!path.empty()) {
    const Answer page = world.get(path);
    for (size_t at = 0; (at = page.body.find(R"({"id":")", at)) != std::string::npos; ++at) {
      EXPECT_TRUE(listed.insert(page.body.substr(at + 7, page.body.find('"', at + 7) - at - 7)).second);
    }
    const std::string next = page.member("nextCursor");
    path = next.empty() ? "" : "/v1/wallet/transactions?limit=3&cursor=" + next;
  }
  EXPECT_EQ(listed.size(), 9u);
  for (const int64_t id : acme) EXPECT_TRUE(listed.contains(std::to_string(id)));
}

}  // namespace
}  // namespace tallygate::testing
