// What providers report, in a real ledger: the life of a call for each adapter, repetition, order, races, and calls
// that cannot be paid.
#include <algorithm>

#include "core/telemetry/log.h"
#include "tests/integration/api/provider_world.h"

namespace tallygate::testing {
namespace {

using World = ProviderWorld;

TEST(ProviderCalls, LifeOfAStandardCall) {
  World world;
  world.credit("shop/acme", 10'000'000);
  const Answer starting = world.send(World::standard("call.starting", World::of("c-1")));
  ASSERT_EQ(starting.status, 200) << starting.body;
  EXPECT_EQ(starting.member("allowed"), "true");
  EXPECT_EQ(starting.member("amount"), "1.50");
  EXPECT_EQ(starting.member("effective"), "8.50");
  EXPECT_EQ(world.status_of("dialer", "c-1"), "reserved");
  EXPECT_EQ(world.reserved(), 1'500'000);
  EXPECT_EQ(world.get("/v1/reservations/dialer%3Ac-1").member("state"), "pending");
  EXPECT_EQ(world.send(World::standard("call.status", World::of("c-1"))).member("endCall"), "false");
  const Answer ended = world.send(World::standard(
      "call.ended",
      World::of("c-1") + R"(,"cost":0.0213,"startedAt":"2026-11-21T10:07:50Z","endedAt":"2026-11-21T10:09:40Z")"));
  ASSERT_EQ(ended.status, 200) << ended.body;
  EXPECT_EQ(ended.member("status"), "settled");
  EXPECT_EQ(ended.member("duplicate"), "false");
  EXPECT_EQ(ended.member("amount"), "0.0213");
  EXPECT_EQ(ended.member("effective"), "9.9787");
  EXPECT_EQ(world.balance(), 9'978'700);
  EXPECT_EQ(world.reserved(), 0);
  EXPECT_EQ(world.status_of("dialer", "c-1"), "committed");
  EXPECT_EQ(world.text("select ended_at at time zone 'UTC' from provider_calls"), "2026-11-21 10:09:40");
  EXPECT_EQ(world.number("select cost_micros from provider_calls where transaction_id is not null"), 21'300);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderCalls, LifeOfAVapiCallWithBothAmountsOnRecord) {
  World world;
  world.credit("shop/acme", 10'000'000);
  const Answer starting = world.send(World::vapi("assistant-request", "v-1"));
  EXPECT_EQ(starting.body, R"({"assistantId":"a-1"})");
  EXPECT_EQ(world.reserved(), 1'896'000) << "2.00 USD × 0.79 × 1.20";
  EXPECT_EQ(world.send(World::vapi("status-update", "v-1", R"(,"status":"in-progress")")).body, "{}");
  EXPECT_EQ(world.send(World::vapi("speech-update", "v-1")).body, "{}");
  const Answer ended = world.send(World::vapi("end-of-call-report", "v-1", R"(,"cost":1.843e-1,"endedReason":"x")"));
  EXPECT_EQ(ended.status, 200);
  EXPECT_EQ(ended.body, "{}");
  EXPECT_EQ(world.balance(), 10'000'000 - 174'716) << "0.1843 USD × 0.79 × 1.20 = 0.1747164";
  EXPECT_EQ(world.text("select doc - 'reason' from provider_calls"),
            R"({"cost": "0.1843", "kind": "call", "rate": "0.79", "markup": "1.2", "currency": "USD"})");
  EXPECT_EQ(
      world.text("select concat_ws(' ', actor, action, tenant, details ->> 'cost', details ->> 'currency', details ->> "
                 "'charged_micros', details ->> 'charged_currency', details ->> 'call') from audit_log"),
      "provider:voice provider.commit shop/acme 0.1843 USD 174716 GBP voice:v-1");
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderCalls, LifeOfMessages) {
  World world;
  world.credit("shop/acme", 1'000'000);
  const auto reserve = [&](const std::string& id) {
    const Answer held = world.post("/v1/reservations", R"({"callId":"sms:)" + id + R"(","amount":"0.04"})", "r-" + id);
    ASSERT_EQ(held.status, 201) << held.body;
  };
  for (const char* id : {"delivered", "failed", "priced"}) reserve(id);
  EXPECT_EQ(world.reserved(), 120'000);
  EXPECT_EQ(world.send(World::twilio("queued", "delivered")).status, 204);
  EXPECT_EQ(world.reserved(), 120'000);
  EXPECT_EQ(world.send(World::twilio("delivered", "delivered")).status, 204);
  EXPECT_EQ(world.balance(), 960'000) << "what was on hold";
  EXPECT_EQ(world.send(World::twilio("undelivered", "failed", {{"ErrorCode", "30003"}})).status, 204);
  EXPECT_EQ(world.balance(), 960'000);
  EXPECT_EQ(world.send(World::twilio("sent", "priced", {{"Price", "-0.0079"}, {"PriceUnit", "USD"}})).status, 204);
  EXPECT_EQ(world.balance(), 960'000 - 6'241) << "0.0079 USD × 0.79";
  EXPECT_EQ(world.reserved(), 0);
  EXPECT_EQ(world.status_of("sms", "delivered") + world.status_of("sms", "failed") + world.status_of("sms", "priced"),
            "committedreleasedcommitted");
  const Answer unknown = world.send(World::twilio("delivered", "nobodys"));
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(unknown.member("reason"), "UnknownReservation");
  EXPECT_EQ(
      world.send(World::standard("message.status", R"("messageId":"m","status":"sent")", "intercom", kIntercomSecret))
          .body,
      R"({"status":"ignored"})");
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderCalls, EventsThatComeAgainChangeNothing) {
  World world;
  world.credit("shop/acme", 10'000'000);
  world.credit("shop/globex", 10'000'000);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"sms:m","amount":"0.04"})", "r").status, 201);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"sms:f","amount":"0.04"})", "f").status, 201);
  const std::vector<Ask> events = {World::standard("call.starting", World::of("c")),
                                   World::standard("call.status", World::of("c")),
                                   World::standard("call.ended", World::of("c") + R"(,"cost":"0.5")"),
                                   World::vapi("assistant-request", "v", "", "ext-globex"),
                                   World::vapi("end-of-call-report", "v", R"(,"cost":0.25)", "ext-globex"),
                                   World::twilio("sent", "m"),
                                   World::twilio("delivered", "m"),
                                   World::twilio("failed", "f")};
  for (const auto& event : events) {
    const Answer first = world.send(event);
    ASSERT_LT(first.status, 300) << first.body;
    const std::string books = world.books();
    for (int i = 0; i < 2; ++i) {
      const Answer again = world.send(event);
      EXPECT_EQ(again.status, first.status) << again.body;
      EXPECT_EQ(again.member("amount"), first.member("amount")) << event.body;
      EXPECT_EQ(world.books(), books) << event.body;
    }
  }
  // All of them once more, from the first on: late repetitions.
  const std::string books = world.books();
  for (const auto& event : events) EXPECT_LT(world.send(event).status, 300);
  EXPECT_EQ(world.books(), books);
  EXPECT_EQ(world.balance(), 10'000'000 - 500'000 - 40'000);
  EXPECT_EQ(world.balance("shop/globex"), 10'000'000 - 237'000);
}

TEST(ProviderCalls, ComeInAnyOrder) {
  World world;
  world.credit("shop/acme", 10'000'000);
  EXPECT_EQ(world.send(World::standard("call.ended", World::of("c") + R"(,"cost":"0.5")")).member("status"), "settled");
  const std::string books = world.books();
  const Answer late = world.send(World::standard("call.starting", World::of("c")));
  EXPECT_EQ(late.member("allowed"), "true");
  EXPECT_EQ(late.member("duplicate"), "true");
  EXPECT_EQ(world.send(World::standard("call.status", World::of("c"))).member("endCall"), "false");
  EXPECT_EQ(world.books(), books) << "no hold for a call that is over";
  EXPECT_EQ(world.send(World::standard("call.ended", World::of("dear") + R"(,"cost":"99")")).member("status"),
            "unpaid");
  EXPECT_EQ(world.send(World::standard("call.starting", World::of("dear"))).member("duplicate"), "true");
  EXPECT_EQ(world.reserved(), 0) << "nor for one that is over and unpaid";
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"sms:m","amount":"0.04"})", "r").status, 201);
  EXPECT_EQ(world.send(World::twilio("delivered", "m")).status, 204);
  EXPECT_EQ(world.send(World::twilio("undelivered", "m")).status, 204);
  EXPECT_EQ(world.status_of("sms", "m"), "committed") << "what was charged stays charged";
  EXPECT_EQ(world.balance(), 9'460'000);
}

TEST(ProviderCalls, AnotherCostForAChargedCallIsToldAndChangesNothing) {
  World world;
  world.credit("shop/acme", 10'000'000);
  ASSERT_EQ(world.send(World::standard("call.ended", World::of("c") + R"(,"cost":"0.5")")).status, 200);
  const std::string books = world.books();
  const Answer other = world.send(World::standard("call.ended", World::of("c") + R"(,"cost":"0.6")"));
  EXPECT_EQ(other.status, 200);
  EXPECT_EQ(other.member("reason"), "IdempotencyMismatch");
  EXPECT_EQ(other.member("amount"), "0.50");
  EXPECT_EQ(world.books(), books);
  EXPECT_EQ(world.send(World::standard("call.ended", World::of("c") + R"(,"cost":5e-1)")).member("reason"), "")
      << "the same cost";
}

TEST(ProviderCalls, ACallThatWasCommittedByHandIsNotChargedAgain) {
  World world;
  world.credit("shop/acme", 10'000'000);
  ASSERT_EQ(world.send(World::standard("call.starting", World::of("c"))).status, 200);
  ASSERT_EQ(world
                .send({.method = "POST",
                       .path = "/v1/reservations/dialer%3Ac/commit",
                       .body = R"({"cost":"0.5"})",
                       .token = kAdminToken,
                       .key = "k",
                       .tenant = "shop/acme"})
                .status,
            200);
  const Answer ended = world.send(World::standard("call.ended", World::of("c") + R"(,"cost":"0.5")"));
  EXPECT_EQ(ended.member("status"), "settled");
  EXPECT_EQ(ended.member("duplicate"), "true");
  EXPECT_EQ(world.status_of("dialer", "c"), "committed");
  EXPECT_EQ(world.balance(), 9'500'000);
}

TEST(ProviderRaces, OfFiftyDeliveriesOfOneEventOneHasAnEffect) {
  World world;
  world.credit("shop/acme", 10'000'000);
  const auto duplicates = [](const std::vector<Answer>& answers) {
    return std::count_if(answers.begin(), answers.end(), [](const Answer& answer) {
      EXPECT_EQ(answer.status, 200) << answer.body;
      return answer.member("duplicate") == "true";
    });
  };
  EXPECT_EQ(duplicates(world.at_once(50, [](int) { return World::standard("call.starting", World::of("c")); })), 49);
  EXPECT_EQ(world.reserved(), 1'500'000);
  const auto ended = [](int) { return World::standard("call.ended", World::of("c") + R"(,"cost":"0.5")"); };
  EXPECT_EQ(duplicates(world.at_once(50, ended)), 49);
  const auto without_hold = [](int) { return World::standard("call.ended", World::of("d") + R"(,"cost":"0.25")"); };
  EXPECT_EQ(duplicates(world.at_once(50, without_hold)), 49);
  EXPECT_EQ(world.balance(), 9'250'000);
  EXPECT_EQ(world.reserved(), 0);
  EXPECT_EQ(world.number("select count(*) from provider_calls"), 2);
  EXPECT_EQ(world.number("select count(*) from audit_log where action = 'provider.commit'"), 2);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderRaces, StartsAndEndsAtOnceNeitherDeadlockNorChargeTwice) {
  World world;
  world.credit("shop/acme", 100'000'000);
  const auto answers = world.at_once(60, [](int i) {
    const std::string call = "c-" + std::to_string(i / 6);
    if (i % 3 == 0) return World::standard("call.starting", World::of(call));
    if (i % 3 == 1) return World::standard("call.status", World::of(call));
    return World::standard("call.ended", World::of(call) + R"(,"cost":"0.5")");
  });
  for (const auto& answer : answers) EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(world.balance(), 100'000'000 - 10 * 500'000);
  EXPECT_EQ(world.reserved(), 0);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ProviderCalls, TheKillSwitchCountsTheCallsOwnHold) {
  World world;
  world.credit("shop/acme", 1'500'000);
  ASSERT_EQ(world.send(World::standard("call.starting", World::of("c"))).member("allowed"), "true");
  EXPECT_EQ(world.send(World::standard("call.status", World::of("c"))).member("endCall"), "false")
      << "its own hold pays";
  EXPECT_EQ(world.send(World::standard("call.status", World::of("another"))).member("endCall"), "true");
  ASSERT_EQ(world.send(World::standard("call.ended", World::of("other") + R"(,"cost":"1.499999")")).status, 200);
  EXPECT_EQ(world.send(World::standard("call.status", World::of("c"))).member("endCall"), "false");
  ASSERT_EQ(world.send(World::standard("call.ended", World::of("last") + R"(,"cost":"0.000001")")).status, 200);
  const Answer end = world.send(World::standard("call.status", World::of("c")));
  EXPECT_EQ(end.member("endCall"), "true");
  EXPECT_EQ(end.member("reason"), "ZeroBalance");
  EXPECT_EQ(world.send(World::vapi("status-update", "v", R"(,"status":"in-progress")")).body, R"({"endCall":true})");
}

TEST(ProviderCalls, ACallThatCannotBePaidIsKeptAndChargedOnceThereIsMoney) {
  std::vector<std::string> lines;
  log::start({.level = log::Level::kError, .sink = [&](std::string_view line) { lines.emplace_back(line); }},
             system_env());
  World world;
  world.credit("shop/acme", 2'000'000);
  ASSERT_EQ(world.send(World::standard("call.starting", World::of("c"))).status, 200);
  const Ask report = World::standard("call.ended", World::of("c") + R"(,"cost":"7.01")");
  const Answer unpaid = world.send(report);
  EXPECT_EQ(unpaid.status, 200) << "the provider is not to send it for ever";
  EXPECT_EQ(unpaid.member("status"), "unpaid");
  EXPECT_EQ(unpaid.member("reason"), "DebtLimitExceeded");
  EXPECT_EQ(unpaid.member("amount"), "7.01");
  EXPECT_EQ(world.status_of("dialer", "c"), "unpaid");
  EXPECT_EQ(world.number("select cost_micros from provider_calls"), 7'010'000);
  EXPECT_EQ(world.balance(), 2'000'000);
  EXPECT_EQ(world.number("select count(*) from audit_log where action = 'provider.unpaid'"), 1);
  const std::string books = world.books();
  EXPECT_EQ(world.send(report).member("status"), "unpaid");
  EXPECT_EQ(world.books(), books);
  EXPECT_NE(
      world.registry->text().find(R"(tallygate_operator_provider_events_total{provider="dialer",result="unpaid"} 2)"),
      std::string::npos)
      << world.registry->text();
  world.credit("shop/acme", 10'000);
  const Answer paid = world.send(report);
  EXPECT_EQ(paid.member("status"), "settled") << paid.body;
  EXPECT_EQ(paid.member("duplicate"), "false");
  EXPECT_EQ(world.status_of("dialer", "c"), "committed");
  EXPECT_EQ(world.balance(), -5'000'000);
  EXPECT_EQ(world.send(report).member("duplicate"), "true");
  EXPECT_EQ(world.balance(), -5'000'000);
  log::stop();
  ASSERT_EQ(lines.size(), 2u);
  for (const char* part :
       {"dialer:c", "shop/acme", "DebtLimitExceeded", "7.01", "top up the wallet: then it is charged by itself"}) {
    EXPECT_NE(lines[0].find(part), std::string::npos) << part << " in " << lines[0];
  }
}

TEST(ProviderCalls, WhatWasUnpaidStaysAtTheRateOfItsFirstReport) {
  World world;
  const auto report = [&](const std::string& micros, const std::string& cost) {
    return world.text(
        "select reason || ' ' || coalesce(committed_micros, 0) from provider_call_ended('shop/acme', 'p', 'c', "
        "'GBP', " +
        micros + ", '', '{\"cost\": \"" + cost + "\", \"currency\": \"USD\"}', null, null, 'r', now())");
  };
  EXPECT_EQ(report("9000000", "10"), "DebtLimitExceeded 0");
  world.credit("shop/acme", 20'000'000);
  EXPECT_EQ(report("7000000", "10"), " 9000000") << "the rate has changed";
  EXPECT_EQ(world.balance(), 11'000'000);
}

TEST(ProviderCalls, ACostThatCannotBeConvertedIsKept) {
  World world;
  world.credit("shop/acme", 20'000'000);
  const Answer foreign = world.send(World::standard("call.ended", World::of("c") + R"(,"cost":"1","currency":"EUR")"));
  EXPECT_EQ(foreign.member("status"), "unpaid");
  EXPECT_EQ(foreign.member("reason"), "NoRate");
  EXPECT_EQ(world.text("select doc ->> 'currency' || (cost_micros is null) from provider_calls"), "EURtrue");
  EXPECT_EQ(world.send(World::vapi("end-of-call-report", "v")).status, 200);
  EXPECT_EQ(world.text("select status || (doc ->> 'reason') from provider_calls where provider = 'voice'"),
            "unpaidNoCost");
  EXPECT_EQ(world.send(World::vapi("end-of-call-report", "v", R"(,"cost":1)")).status, 200);
  EXPECT_EQ(world.status_of("voice", "v"), "committed") << "the next report has it";
  EXPECT_EQ(world.balance(), 20'000'000 - 948'000);
}

TEST(ProviderCalls, AMessageThatIsDeliveredAfterItsHoldWasFreedIsCharged) {
  World world;
  world.credit("shop/acme", 1'000'000);
  ASSERT_EQ(world.post("/v1/reservations", R"({"callId":"sms:m","amount":"0.04"})", "r").status, 201);
  EXPECT_EQ(world.send(World::twilio("failed", "m")).status, 204);
  EXPECT_EQ(world.send(World::twilio("delivered", "m")).status, 204);
  EXPECT_EQ(world.status_of("sms", "m"), "committed");
  EXPECT_EQ(world.balance(), 960'000) << "what was on hold";
  EXPECT_EQ(world.send(World::twilio("failed", "m")).status, 204);
  EXPECT_EQ(world.balance(), 960'000);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

}  // namespace
}  // namespace tallygate::testing
