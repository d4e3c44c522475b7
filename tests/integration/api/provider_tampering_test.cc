// A provider's signed report outranks what was done to its call's id: every order of a tenant's, an operator's and the
// provider's doings charges the call what the report says, once, and leaves nothing on hold.
#include <algorithm>

#include "tests/integration/api/provider_world.h"

namespace tallygate::testing {
namespace {

using World = ProviderWorld;

Answer by_admin(World& world, const std::string& verb, const std::string& id, const std::string& body,
                const std::string& key) {
  return world.send({.method = "POST",
                     .path = "/v1/reservations/" + id + "/" + verb,
                     .body = body,
                     .token = kAdminToken,
                     .key = key,
                     .tenant = "shop/acme"});
}

Answer ended(World& world, const std::string& call, const std::string& cost) {
  return world.send(World::standard("call.ended", World::of(call) + R"(,"cost":")" + cost + '"'));
}

TEST(ProviderIds, AreClosedToATenantsCommitAndRelease) {
  World world;
  world.credit("shop/acme", 20'000'000);
  ASSERT_EQ(world.send(World::standard("call.starting", World::of("c"))).member("allowed"), "true");
  const std::string books = world.books();
  for (const char* id : {"dialer%3Ac", "dialer:c", "voice:never-seen", "sms%3am"}) {
    for (const char* verb : {"commit", "release"}) {
      const Answer refused =
          world.post("/v1/reservations/" + std::string(id) + "/" + verb, R"({"cost":"0"})", std::string("k") + id);
      EXPECT_EQ(refused.status, 403) << id << ' ' << verb << ' ' << refused.body;
      EXPECT_EQ(refused.member("reason"), "ScopeMissing");
    }
  }
  EXPECT_EQ(world.books(), books);
  EXPECT_EQ(world.get("/v1/reservations/dialer%3Ac").member("state"), "pending");
  // Ids of nobody's are the app's own, and messages are reserved for by it.
  for (const char* id : {"dialler:c", "c", ":c", "dialer", "Dialer:c"}) {
    EXPECT_EQ(
        world.post("/v1/reservations/" + std::string(id) + "/commit", R"({"cost":"0.01"})", std::string("own") + id)
            .status,
        200)
        << id;
  }
  EXPECT_EQ(world.post("/v1/reservations", R"({"callId":"sms:m","amount":"0.04"})", "r").status, 201);
  EXPECT_EQ(by_admin(world, "commit", "dialer%3Ac", R"({"cost":"0.5"})", "by-hand").status, 200);
}

// What may be done to a call's id before and beside its report, in all orders.
class Tamperings {
 public:
  Tamperings(World& world, std::string commit) : world_(world), commit_(std::move(commit)) {}
  void run(const std::string& call, char step) {
    const std::string id = "dialer%3A" + call;
    switch (step) {
      case 'R':  // next to nothing
        world_.post("/v1/reservations", R"({"callId":"dialer:)" + call + R"(","amount":"0.000001"})", "r-" + call);
        break;
      case 'C':  // as a tenant could before its ids were closed
        by_admin(world_, "commit", id, R"({"cost":")" + commit_ + "\"}", "c-" + call);
        break;
      case 'L':
        by_admin(world_, "release", id, "", "l-" + call);
        break;
      case 'X':  // its hold expires
        ASSERT_TRUE(world_.session.exec("select cleanup_expired_reservations(now() + interval '8 days', 100)"));
        break;
      case 'S':
        EXPECT_EQ(world_.send(World::standard("call.starting", World::of(call))).status, 200);
        break;
      default:
        EXPECT_EQ(ended(world_, call, "9.00").member("status"), "settled") << call;
    }
  }

 private:
  World& world_;
  const std::string commit_;
};

void charge_in_every_order(const std::string& commit, std::string steps) {
  World world;
  int64_t expected = 10'000'000'000;
  world.credit("shop/acme", expected);
  std::sort(steps.begin(), steps.end());
  do {
    SCOPED_TRACE(steps + " with a commit of " + commit);
    const std::string call = commit + steps;
    Tamperings tamperings(world, commit);
    for (const char step : steps) tamperings.run(call, step);
    EXPECT_EQ(world.balance(), expected -= 9'000'000);
    const Answer again = ended(world, call, "9.00");
    EXPECT_EQ(again.member("duplicate"), "true") << again.body;
    EXPECT_EQ(again.member("amount"), "9.00") << again.body;
    EXPECT_EQ(world.balance(), expected);
    ASSERT_EQ(world.reserved(), 0);
    if (::testing::Test::HasFailure()) return;
  } while (std::next_permutation(steps.begin(), steps.end()));
  EXPECT_EQ(world.number("select count(*) from provider_calls where status <> 'committed' or cost_micros <> 9000000"),
            0);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderTampering, AReportIsChargedWhateverCameBeforeItInEveryOrder) { charge_in_every_order("0", "RCSEX"); }
TEST(ProviderTampering, ReleasesChangeNothingInEveryOrder) { charge_in_every_order("0", "RLSEX"); }
TEST(ProviderTampering, WhatWasCommittedIsPartOfIt) { charge_in_every_order("2.50", "RLCSE"); }

TEST(ProviderTampering, ASmallHoldIsRaisedToWhatTheCallNeedsOrTheCallDoesNotStart) {
  World world;
  world.credit("shop/acme", 1'400'000);
  const auto reserve = [&](const std::string& call, const std::string& amount) {
    return world.post("/v1/reservations", R"({"callId":"dialer:)" + call + R"(","amount":")" + amount + "\"}", call)
        .status;
  };
  const auto starting = [&](const std::string& call) {
    return world.send(World::standard("call.starting", World::of(call)));
  };
  ASSERT_EQ(reserve("c", "0.000001"), 201);
  const std::string books = world.books();
  const Answer poor = starting("c");
  EXPECT_EQ(poor.member("allowed"), "false");
  EXPECT_EQ(poor.member("reason"), "InsufficientBalance");
  EXPECT_EQ(world.books(), books) << "a refusal changes nothing";
  world.credit("shop/acme", 1'600'000);  // for two
  EXPECT_EQ(starting("c").member("allowed"), "true");
  EXPECT_EQ(starting("c").member("duplicate"), "true");
  EXPECT_EQ(world.reserved(), 1'500'000);
  EXPECT_EQ(world.get("/v1/reservations/dialer%3Ac").member("amount"), "1.50");
  // As much as is wanted, or more: it is the hold.
  ASSERT_EQ(reserve("own", "1.50"), 201);
  EXPECT_EQ(starting("own").member("duplicate"), "true");
  EXPECT_EQ(world.reserved(), 3'000'000);
  EXPECT_EQ(starting("third").member("allowed"), "false");
  EXPECT_EQ(ended(world, "c", "1.25").member("status"), "settled");
  EXPECT_EQ(world.reserved(), 1'500'000);
  EXPECT_EQ(world.balance(), 1'750'000);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderTampering, AnIdThatWasUsedUpStartsNoCallAndAnExpiredHoldIsMadeAnew) {
  World world;
  world.credit("shop/acme", 10'000'000);
  for (const char* call : {"committed", "released", "expired"}) {
    ASSERT_EQ(
        world.post("/v1/reservations", R"({"callId":"dialer:)" + std::string(call) + R"(","amount":"2"})", call).status,
        201);
  }
  EXPECT_EQ(by_admin(world, "commit", "dialer%3Acommitted", R"({"cost":"0"})", "c").status, 200);
  EXPECT_EQ(by_admin(world, "release", "dialer%3Areleased", "", "l").status, 200);
  ASSERT_TRUE(world.session.exec("select cleanup_expired_reservations(now() + interval '8 days', 100)"));
  const auto starting = [&](const std::string& call) {
    const Answer answer = world.send(World::standard("call.starting", World::of(call)));
    return answer.member("allowed") + answer.member("reason");
  };
  EXPECT_EQ(starting("committed"), "falseAlreadyCommitted");
  EXPECT_EQ(starting("released"), "falseAlreadyReleased");
  EXPECT_EQ(starting("expired"), "true");
  EXPECT_EQ(world.reserved(), 1'500'000);
  ASSERT_TRUE(world.session.exec("select cleanup_expired_reservations(now() + interval '8 days', 100)"));
  EXPECT_EQ(world.reserved(), 0) << "a hold may expire twice";
  for (const char* call : {"committed", "released", "expired"}) {
    EXPECT_EQ(ended(world, call, "1.00").member("status"), "settled") << call;
  }
  EXPECT_EQ(world.balance(), 7'000'000);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderTampering, TheRestThatCannotBePaidIsKeptAndChargedOnce) {
  World world;
  world.credit("shop/acme", 2'000'000);
  ASSERT_EQ(by_admin(world, "commit", "dialer%3Ac", R"({"cost":"1"})", "c").status, 200);
  const Answer unpaid = ended(world, "c", "9.00");
  EXPECT_EQ(unpaid.member("status") + unpaid.member("reason"), "unpaidDebtLimitExceeded") << unpaid.body;
  EXPECT_EQ(world.balance(), 1'000'000);
  const auto settle = [&] { return world.number("select count(*) from settle_unpaid_calls(now(), 10)"); };
  world.credit("shop/acme", 1'999'999);
  EXPECT_EQ(settle(), 0) << "8.00 against 2.999999 and a debt limit of 5.00";
  world.credit("shop/acme", 1);
  EXPECT_EQ(settle(), 1);
  EXPECT_EQ(settle(), 0);
  EXPECT_EQ(world.balance(), -5'000'000);
  EXPECT_EQ(world.status_of("dialer", "c"), "committed");
  EXPECT_EQ(ended(world, "c", "9.00").member("duplicate"), "true");
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderTampering, WhatAReleasedHoldLeftUnpaidIsChargedAfterAnUpgrade) {
  World world;
  world.credit("shop/acme", 20'000'000);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"dialer:c","amount":"2"})", "r").status, 201);
  ASSERT_EQ(by_admin(world, "release", "dialer%3Ac", "", "l").status, 200);
  ASSERT_TRUE(world.session.exec(
      "insert into provider_calls (provider, call_id, tenant, status, currency, cost_micros, doc) values ('dialer', "
      "'c', "
      R"('shop/acme', 'unpaid', 'GBP', 9000000, '{"cost": "9", "currency": "GBP", "reason": "AlreadyReleased"}'))"));
  EXPECT_EQ(world.number("select count(*) from settle_unpaid_calls(now(), 10)"), 1);
  EXPECT_EQ(world.balance(), 11'000'000);
  EXPECT_EQ(ended(world, "c", "9").member("duplicate"), "true");
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderTampering, AHoldInACurrencyThatNoCostCanBePutIntoPaysForNothing) {
  World world;
  world.credit("shop/acme", 20'000'000);
  ASSERT_TRUE(
      world.session.exec("insert into wallets (tenant, currency) values ('shop/acme', 'JPY')"));  // of an earlier plan
  ASSERT_TRUE(world.session.exec("select add_wallet_credits('shop/acme', 'jpy', null, 'JPY', 5000000000, '', now())"));
  const auto reserve = [&](const std::string& id) {
    return world.post("/v1/reservations", R"({"callId":")" + id + R"(","amount":"100","currency":"JPY"})", id).status;
  };
  ASSERT_EQ(reserve("dialer:c"), 201);
  const Answer starting = world.send(World::standard("call.starting", World::of("c")));
  EXPECT_EQ(starting.member("allowed") + starting.member("reason"), "falseCurrencyMismatch") << starting.body;
  EXPECT_EQ(ended(world, "c", "9.00").member("status"), "settled");
  EXPECT_EQ(world.number("select balance_micros from wallets where tenant = 'shop/acme' and currency = 'GBP'"),
            11'000'000);
  EXPECT_EQ(ended(world, "c", "9.00").member("duplicate"), "true");
  // A message's price is its hold's, in any currency; a price that is told is its own.
  ASSERT_EQ(reserve("sms:m"), 201);
  EXPECT_EQ(world.send(World::twilio("delivered", "m")).status, 204);
  EXPECT_EQ(world.number("select balance_micros from wallets where tenant = 'shop/acme' and currency = 'JPY'"),
            4'900'000'000);
  ASSERT_EQ(reserve("sms:n"), 201);
  EXPECT_EQ(world.send(World::twilio("delivered", "n", {{"Price", "-1"}, {"PriceUnit", "USD"}})).status, 204);
  EXPECT_EQ(world.number("select balance_micros from wallets where tenant = 'shop/acme' and currency = 'GBP'"),
            10'210'000);
  // Charged by hand in another currency: a person looks at the rest.
  ASSERT_EQ(reserve("dialer:d"), 201);
  ASSERT_EQ(by_admin(world, "commit", "dialer%3Ad", R"({"cost":"50"})", "by-hand").status, 200);
  EXPECT_EQ(ended(world, "d", "9.00").member("reason"), "CurrencyMismatch");
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderTampering, APriceThatComesAfterTheHoldWasTakenIsChargedAsFarAsItIsAbove) {
  World world;
  world.credit("shop/acme", 20'000'000);
  for (const char* id : {"low", "high"}) {
    ASSERT_EQ(
        world.post("/v1/reservations", R"({"callId":"sms:)" + std::string(id) + R"(","amount":"0.04"})", id).status,
        201);
    EXPECT_EQ(world.send(World::twilio("sent", id)).status, 204);
  }
  const auto priced = [](const char* id, const char* price) {
    return World::twilio("delivered", id, {{"Price", price}, {"PriceUnit", "USD"}});
  };
  EXPECT_EQ(world.send(priced("low", "-0.01")).status, 204);
  EXPECT_EQ(world.balance(), 19'920'000);
  EXPECT_EQ(world.send(priced("high", "-1")).status, 204);
  EXPECT_EQ(world.balance(), 19'170'000) << "0.79 in all";
  const std::string books = world.books();
  EXPECT_EQ(world.send(priced("high", "-1")).status, 204);
  EXPECT_EQ(world.send(priced("high", "-2")).status, 204);
  EXPECT_EQ(world.books(), books);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

// The provider says that it failed, then that it did not, and only then what it cost.
TEST(ProviderTampering, APriceThatComesAfterAReleasedHoldWasChargedIsChargedAsFarAsItIsAbove) {
  World world;
  world.credit("shop/acme", 20'000'000);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"sms:u","amount":"0.04"})", "u").status, 201);
  EXPECT_EQ(world.send(World::twilio("undelivered", "u")).status, 204);
  EXPECT_EQ(world.balance(), 20'000'000);
  EXPECT_EQ(world.send(World::twilio("delivered", "u")).status, 204);
  EXPECT_EQ(world.balance(), 19'960'000);
  EXPECT_EQ(world.send(World::twilio("delivered", "u", {{"Price", "-1"}, {"PriceUnit", "USD"}})).status, 204);
  EXPECT_EQ(world.balance(), 19'210'000) << "0.79 in all";
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

// The API's role may call what charges the rest of a call: it takes, and gives nothing back.
TEST(ProviderTampering, TheRestOfACallIsNeverBelowNothing) {
  World world;
  world.credit("shop/acme", 20'000'000);
  ASSERT_EQ(ended(world, "x", "9.00").status, 200);
  const std::string books = world.books();
  for (const char* call : {"charge_call_rest('shop/acme', 'GBP', 'dialer:x', 0, now(), false)",
                           "charge_call_rest('shop/acme', 'GBP', 'dialer:x', 1000000, now(), false)"}) {
    EXPECT_EQ(world.number("select count(*) from (select set_config('tallygate.tenant', 'shop/acme', true)) s, " +
                           std::string(call) + " r where r.success"),
              0)
        << call;
  }
  EXPECT_EQ(world.books(), books);
}

TEST(ProviderTampering, ReportsAndTamperingsAtOnceChargeEachCallOnce) {
  World world;
  world.credit("shop/acme", 1'000'000'000);
  const auto answers = world.at_once(90, [](int i) {
    const std::string call = "c-" + std::to_string(i / 9);
    switch (i % 3) {
      case 0:
        return Ask{.method = "POST",
                   .path = "/v1/reservations",
                   .body = R"({"callId":"dialer:)" + call + R"(","amount":"0.000001"})",
                   .token = kAcmeToken,
                   .key = "k" + std::to_string(i)};
      case 1:
        return Ask{.method = "POST",
                   .path = "/v1/reservations/dialer%3A" + call + (i % 2 == 0 ? "/commit" : "/release"),
                   .body = i % 2 == 0 ? R"({"cost":"0"})" : "{}",
                   .token = kAdminToken,
                   .key = "k" + std::to_string(i),
                   .tenant = "shop/acme"};
      default:
        return World::standard(i % 9 == 2 ? "call.starting" : "call.ended",
                               World::of(call) + (i % 9 == 2 ? "" : R"(,"cost":"9.00")"));
    }
  });
  for (const auto& answer : answers) EXPECT_LT(answer.status, 500) << answer.body;
  EXPECT_EQ(world.balance(), 1'000'000'000 - 10 * 9'000'000);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

}  // namespace
}  // namespace tallygate::testing
