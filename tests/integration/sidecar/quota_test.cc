// The cap is exact, denials are free, and what a response says about it (A2, A4, A5).
#include "core/time_text.h"
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

TEST(HardCap, ExactForOne) {
  World world;
  world.ready(100, 100);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 150), 100);
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 100; }));
}

// Both counted in one window of a day's seconds that the ledger's clock begins afresh, so that no minute ends
// meanwhile.
void begin_a_minute(World& world) { world.pass_s(60 - world.clock.wall_s() % 60); }

TEST(HardCap, AMinutesBurstIsNoHigherCap) {
  World world;
  world.ready(1000, 1000);
  auto t = world.tenant(1000);
  t.limits.push_back(world.limit("minute", 5));
  t.limits.back().window = tenant::WindowKind::kMinute;
  t.limits.back().burst = 10;
  world.op.put(t);
  begin_a_minute(world);
  EXPECT_EQ(world.admitted_of(world.pod(), 20), 5);
}

TEST(SoftCap, AMinutesSoftLimitLetsPassWhatItsGraceAllows) {
  World world;
  world.ready(1000, 1000);
  auto t = world.tenant(1000);
  for (const int64_t capacity : {int64_t{7}, tenant::kUnbounded}) {
    t.limits.push_back(world.limit("minute" + std::to_string(capacity), 5));
    t.limits.back().window = tenant::WindowKind::kMinute;
    t.limits.back().cap = tenant::Cap::kSoft;
    t.limits.back().capacity = capacity;
    world.op.put(t);
    begin_a_minute(world);
    EXPECT_EQ(world.admitted_of(world.pod(), 20), capacity == 7 ? 7 : 20);
    t.limits.pop_back();
  }
}

TEST(HardCap, ExactForSeveralAtOnce) {
  World world;
  world.ready(500, 500);
  for (int i = 0; i < 4; ++i) world.pod();
  int64_t admitted = 0, denied = 0;
  const auto end = [&](Pod& pod, Call& call) {
    if (call.admitted()) {
      pod.settle(call);
      ++admitted;
    } else {
      EXPECT_EQ(call.reason(), "QuotaExhausted");
      ++denied;
    }
  };
  std::vector<std::pair<Pod*, Call*>> open;
  for (int round = 0; round < 100; ++round) {
    for (auto& pod : world.pods) {
      for (int i = 0; i < 3; ++i) open.emplace_back(pod.get(), &pod->begin());
    }
    world.turn(0);
    std::erase_if(open, [&](const auto& entry) {
      if (entry.second->waits()) return false;
      end(*entry.first, *entry.second);
      return true;
    });
  }
  ASSERT_TRUE(world.until([&] {
    for (const auto& [pod, call] : open) {
      if (call->waits()) return false;
    }
    return true;
  }));
  for (const auto& [pod, call] : open) {
    end(*pod, *call);
  }
  EXPECT_EQ(admitted + denied, 1200);
  // What one has leased and another lacks comes back and is spent, to the last unit.
  ASSERT_TRUE(world.until([&] {
    for (auto& pod : world.pods) admitted += world.outcome(*pod) == "admitted" ? 1 : 0;
    return admitted >= 500;
  })) << admitted;
  world.run_ms(300);
  for (auto& pod : world.pods) EXPECT_EQ(world.outcome(*pod), "429 QuotaExhausted");
  EXPECT_EQ(admitted, 500);
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 500; }));
}

// What a burst left in a purse goes back while only a trickle needs it: others get it.
TEST(HardCap, AfterABurstATrickleKeepsNoMoreThanItNeeds) {
  World world;
  world.ready(100'000, 100'000);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 2000), 2000);
  const auto held = [&] {
    world.admitted_of(pod, 1);
    int64_t held = 0;
    for (const char* total : {"g:", "r:"}) {
      const int64_t units = world.op.field(kTenant, world.bucket(), total + pod.log->incarnation());
      held = total[0] == 'g' ? units : held - units;
    }
    return held - 2000;
  };
  int64_t spent = 0;
  ASSERT_TRUE(world.until([&] { return held() - ++spent > 64; })) << "a burst's worth";
  // By halves, each after a second and a half.
  EXPECT_TRUE(world.until(
      [&] {
        world.run_ms(100);
        return held() - ++spent <= 16;
      },
      60'000));
}

// Another sidecar has leased what is left: that is not used up, and the caller need not wait for the window's end.
TEST(HardCap, WhatLiesUnspentWithOthersIsNotUsedUp) {
  World world;
  world.ready(100, 100);
  Pod::Options keeps_all;
  keeps_all.escrow.target_min = 80;
  keeps_all.escrow.idle_return_ms = keeps_all.escrow.idle_return_scarce_ms = 3'600'000;
  Pod& holder = world.pod(keeps_all);
  Pod& other = world.pod();
  EXPECT_EQ(world.admitted_of(holder, 40), 40);
  EXPECT_EQ(world.admitted_of(other, 1), 1);
  int64_t admitted = 1;
  ASSERT_TRUE(world.until([&] {
    admitted += world.admitted_of(other, 1);
    return world.op.field(kTenant, world.bucket(), "free") == 0 && world.outcome(other) != "admitted";
  }));
  const auto of_holder = [&](const char* total) {
    return world.op.field(kTenant, world.bucket(), total + holder.log->incarnation());
  };
  const int64_t held = of_holder("g:") - of_holder("r:") - 40;
  ASSERT_GT(held, 0);
  Call& denied = other.begin();
  ASSERT_TRUE(world.until([&] { return !denied.waits(); }));
  EXPECT_EQ(denied.reason(), "QuotaExhausted");
  const int64_t remaining = denied.body()["remaining"];
  EXPECT_GE(remaining, held);
  EXPECT_LE(remaining, held + 40) << "as the holder last told";
  EXPECT_EQ(denied.body()["used"], 100 - remaining);
  EXPECT_NE(denied.denial.headers.find("Retry-After: 1\r\n"), std::string::npos) << denied.denial.headers;
  EXPECT_NE(denied.denial.headers.find("X-RateLimit-Remaining: " + std::to_string(remaining) + "\r\n"),
            std::string::npos);
  EXPECT_NE(denied.body()["detail"].get<std::string>().find("other sidecars"), std::string::npos);
  // Spent there, it is used up here: with the window's end, in figures that a client can act on.
  EXPECT_EQ(world.admitted_of(holder, 100), held);
  EXPECT_TRUE(world.until([&] { return world.op.field(kTenant, world.bucket(), "lying") == 0; }));
  world.run_ms(300);
  Call& last = other.begin();
  ASSERT_TRUE(world.until([&] { return !last.waits(); }));
  EXPECT_EQ(last.body()["remaining"], 0);
  EXPECT_EQ(last.body()["used"], 100);
  EXPECT_EQ(last.denial.headers.find("Retry-After: 1\r\n"), std::string::npos) << last.denial.headers;
}

TEST(HardCap, ADenialChangesNothing) {
  World world;
  world.ready(10, 10);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 10), 10);
  EXPECT_EQ(world.outcome(pod), "429 QuotaExhausted");
  ASSERT_TRUE(world.until([&] { return pod.log->outbox().empty() && world.op.booked(kTenant, world.bucket()) == 10; }));
  const std::string before = world.op.hash(kTenant, world.bucket());
  const auto spent = pod.log->spent();
  const size_t records = world.op.records.size();
  EXPECT_EQ(world.admitted_of(pod, 100), 0);
  world.run_ms(600);
  EXPECT_EQ(world.admitted_of(pod, 10), 0);
  EXPECT_EQ(world.op.hash(kTenant, world.bucket()), before);
  EXPECT_EQ(pod.log->spent(), spent);
  EXPECT_EQ(pod.log->in_flight(), 0u);
  EXPECT_EQ(world.op.records.size(), records);
}

TEST(SeveralLimits, TheStricterDecidesAndNothingIsTakenOfTheOther) {
  World world;
  world.ready(1000, 1000);
  auto t = world.tenant(1000);
  t.limits.push_back(world.limit("strict", 5));
  world.op.put(t);
  world.op.fund(kTenant, world.bucket("strict"), 5);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 20), 5);
  Call& call = world.ask(pod);
  EXPECT_EQ(call.body()["limitName"], "strict");
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 5; }));
  // What the loose one had leased goes back in full.
  EXPECT_TRUE(world.until([&] { return world.op.field(kTenant, world.bucket(), "free") == 995; }))
      << world.op.hash(kTenant, world.bucket());
}

TEST(SeveralLimits, OfSeveralChargesAllOrNothing) {
  World world;
  world.policy.default_route.charges = {charge("api_calls", 2), charge("llm_tokens", 30)};
  world.ready(100, 100);
  auto t = world.tenant(100);
  t.meters.push_back(meter("llm_tokens"));
  t.limits.push_back(world.limit("tokens", 100, "llm_tokens"));
  world.op.put(t);
  world.op.fund(kTenant, world.bucket("tokens"), 100);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 10), 3);
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket("tokens")) == 90; }));
  EXPECT_EQ(world.op.booked(kTenant, world.bucket()), 6);
}

// A request that wants more than is left says nothing about one that wants less.
TEST(HardCap, AFatRequestDoesNotDenyAThinOne) {
  World world;
  world.policy.routes = {route("fat", "/fat", {charge("api_calls", 10)})};
  world.ready(8, 8);
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod, {"/fat"}), "429 QuotaExhausted");
  EXPECT_EQ(world.admitted_of(pod, 10), 8);
}

TEST(HardCap, AFatRequestThatWaitsDoesNotHoldUpThinOnes) {
  World world;
  world.policy.routes = {route("fat", "/fat", {charge("api_calls", 10)})};
  world.basics(100);
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 8, /*last=*/false);
  Pod& pod = world.pod();
  Call& fat = pod.begin({"/fat"});
  world.run_ms(200);
  EXPECT_TRUE(fat.waits()) << fat.denial.body;
  EXPECT_EQ(world.admitted_of(pod, 8), 8);
  world.op.fund(kTenant, world.bucket(), 18);
  EXPECT_TRUE(world.until([&] { return !fat.waits(); }));
  EXPECT_TRUE(fat.admitted()) << fat.denial.body;
}

TEST(HardCap, MoreThanThereIsAtOnceIsServedInFull) {
  World world;
  world.ready(50, 50);
  Pod& pod = world.pod();
  std::vector<Call*> calls;
  for (int i = 0; i < 80; ++i) calls.push_back(&pod.begin());
  ASSERT_TRUE(
      world.until([&] { return std::none_of(calls.begin(), calls.end(), [](Call* c) { return c->waits(); }); }));
  EXPECT_EQ(std::count_if(calls.begin(), calls.end(), [](Call* c) { return c->admitted(); }), 50);
}

TEST(Headers, TellLimitRemainderAndReset) {
  World world;
  world.ready(10, 10);
  Pod& pod = world.pod();
  Call& call = world.ask(pod);
  const std::string text = pod.headers(call);
  EXPECT_NE(text.find("RateLimit-Policy: \"calls\";q=10;w=101000\r\n"), std::string::npos) << text;
  EXPECT_NE(text.find("RateLimit: \"calls\";r=9;t="), std::string::npos) << text;
  EXPECT_NE(text.find("X-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: 9\r\nX-RateLimit-Reset: "), std::string::npos)
      << text;
  EXPECT_NE(text.find("X-Tallygate-Cap-State: ok\r\n"), std::string::npos) << text;
  pod.settle(call);
  EXPECT_EQ(world.admitted_of(pod, 7), 7);
  Call& ninth = world.ask(pod);
  EXPECT_NE(pod.headers(ninth).find("Cap-State: warned"), std::string::npos);
  pod.settle(ninth);
  Call& last = world.ask(pod);
  EXPECT_NE(pod.headers(last).find("r=0;"), std::string::npos);
  EXPECT_NE(pod.headers(last).find("Cap-State: hard"), std::string::npos);
  pod.settle(last);
}

TEST(Headers, ASoftCapGoesThroughItsStates) {
  World world;
  world.ready(10, 0);
  auto t = world.tenant(10);
  t.limits[0].cap = tenant::Cap::kSoft;
  t.limits[0].capacity = 12;
  world.op.put(t);
  world.op.fund(kTenant, world.bucket(), 12);
  Pod& pod = world.pod();
  std::vector<std::string> states;
  for (int i = 0; i < 12; ++i) {
    Call& call = world.ask(pod);
    ASSERT_TRUE(call.admitted()) << call.denial.body;
    const std::string text = pod.headers(call);
    const size_t at = text.find("Cap-State: ") + 11;
    const std::string state = text.substr(at, text.find('\r', at) - at);
    if (states.empty() || states.back() != state) states.push_back(state);
    pod.settle(call);
  }
  EXPECT_EQ(states, (std::vector<std::string>{"ok", "warned", "grace", "hard"}));
  Call& over = world.ask(pod);
  EXPECT_EQ(over.reason(), "QuotaExhausted");
  EXPECT_NE(over.denial.headers.find("Cap-State: hard"), std::string::npos) << over.denial.headers;
}

TEST(Problem, OfAnExhaustedQuotaHasAllFacts) {
  World world;
  world.ready(3, 3);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 3), 3);
  Call& call = world.ask(pod);
  const auto body = call.body();
  EXPECT_EQ(call.denial.status, 429);
  EXPECT_EQ(body["type"], "https://tallygate.dev/problems/QuotaExhausted");
  EXPECT_EQ(body["status"], 429);
  EXPECT_EQ(body["reason"], "QuotaExhausted");
  EXPECT_EQ(body["tenant"], kTenant);
  EXPECT_EQ(body["meter"], "api_calls");
  EXPECT_EQ(body["limitName"], "calls");
  EXPECT_EQ(body["limit"], 3);
  EXPECT_EQ(body["used"], 3);
  EXPECT_EQ(body["remaining"], 0);
  EXPECT_EQ(body["requestId"], "request-3");
  EXPECT_TRUE(body.contains("title") && body.contains("detail") && body.contains("resetAt"));
  for (const char* name :
       {"Retry-After: ", "RateLimit: \"calls\";r=0", "RateLimit-Policy: ", "X-RateLimit-Remaining: 0"}) {
    EXPECT_NE(call.denial.headers.find(name), std::string::npos) << name;
  }
}

// A client that comes back when it is told to is not told to come back once more.
TEST(Problem, TellsOfTheLimitThatResetsLast) {
  World world;
  world.basics(3);
  auto t = world.tenant(3);
  t.limits = {world.limit("soon", 3), world.limit("last", 3), world.limit("later", 3)};
  for (size_t i = 0; i < 3; ++i) t.limits[i].boundaries_s[1] -= std::array<int64_t, 3>{90'000, 0, 50'000}[i];
  world.op.put(t);
  world.op.open();
  for (const auto& limit : t.limits) {
    world.op.fund(kTenant,
                  limit.name.str() + "@" + std::to_string(world.start_s) + "+" +
                      std::to_string(limit.boundaries_s[1] - world.start_s),
                  3);
  }
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 3), 3);
  for (int i = 0; i < 5; ++i) {
    Call& call = world.ask(pod);
    ASSERT_EQ(call.reason(), "QuotaExhausted");
    EXPECT_EQ(call.body()["limitName"], "last") << i;
    EXPECT_EQ(call.body()["resetAt"], rfc3339(world.end_s));
    const int64_t left_s = world.end_s - world.env.wall_s();
    const auto told_s = [&](const std::string& name) {
      return std::stoll(call.denial.headers.substr(call.denial.headers.find(name) + name.size()));
    };
    EXPECT_NEAR(static_cast<double>(told_s("Retry-After: ")), static_cast<double>(left_s), 2.0);
    EXPECT_NEAR(static_cast<double>(told_s("X-RateLimit-Reset: ")), static_cast<double>(left_s), 2.0);
    world.run_ms(100);
  }
}

TEST(Problem, SaysWhatWasAskedAndWhatIsLeft) {
  World world;
  world.policy.routes = {route("fat", "/fat", {charge("api_calls", 100)}),
                         route("half", "/half", {charge("api_calls", 64)})};
  world.ready(100, 100);
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod, {"/half"}), "admitted");
  Call& call = world.ask(pod, {"/fat"});
  ASSERT_EQ(call.reason(), "QuotaExhausted");
  EXPECT_EQ(call.body()["requested"], 100);
  EXPECT_EQ(call.body()["remaining"], 36);
  EXPECT_EQ(call.body()["used"], 64);
  EXPECT_EQ(call.body()["detail"], "limit calls of meter api_calls has 36 left until " + rfc3339(world.end_s) +
                                       ", and this request needs 100");
}

TEST(Problem, OfAnEmptyWalletIs402) {
  World world;
  world.ready(1000, 1000);
  auto t = world.tenant(1000);
  t.meters = {meter("api_calls", tenant::Settlement::kWallet)};
  world.op.put(t);
  world.op.fund(kTenant, "api_calls$", 4);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 4), 4);
  EXPECT_EQ(world.outcome(pod), "402 BalanceExhausted");
  // Topped up while nobody asks: the next request passes, whatever was known long ago.
  world.op.fund(kTenant, "api_calls$", 10);
  world.run_ms(400);
  EXPECT_EQ(world.outcome(pod), "admitted");
}

}  // namespace
}  // namespace tallygate::testing
