// Plans change and windows end under traffic (A6).
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

TEST(Edit, ARaisedLimitLetsRequestsPassAgain) {
  World world;
  world.ready(5, 5);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 8), 5);
  world.op.fund(kTenant, world.bucket(), 12);
  world.op.put(world.tenant(12));
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
  EXPECT_EQ(world.admitted_of(pod, 20), 6);
}

TEST(Edit, ALimitThatGoesNoLongerBindsAndOneThatComesDoes) {
  World world;
  world.ready(5, 5);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 8), 5);
  auto t = world.tenant(5);
  t.limits.clear();
  world.op.put(t);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
  EXPECT_EQ(world.admitted_of(pod, 100), 100);
  t.limits = {world.limit("other", 7)};
  world.op.fund(kTenant, world.bucket("other"), 7);
  world.op.put(t);
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "429 QuotaExhausted"; }));
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket("other")) == 7; }));
}

TEST(Edit, ARequestInFlightSurvivesItsPlan) {
  World world;
  world.ready(50, 50);
  Pod& pod = world.pod();
  Call& old = world.ask(pod);
  for (int i = 0; i < 3; ++i) {
    world.op.put(world.tenant(60 + i));
    ASSERT_TRUE(world.until(
        [&] { return pod.headers(world.ask(pod)).find("q=" + std::to_string(60 + i)) != std::string::npos; }));
  }
  EXPECT_NE(pod.headers(old).find("q=50"), std::string::npos);
  pod.settle(old);
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 1; }));
}

// The head that waits was rid of the old policy's headers of identity; what it has of the new one's is the client's
// word.
TEST(Edit, WhoWaitsWhileTheHeadersOfIdentityChangeAsksAgain) {
  for (const auto enforcement : {tenant::Enforcement::kEnforce, tenant::Enforcement::kShadow}) {
    World world;
    world.policy.identity = {api_key_source()};
    world.policy.routes = {route("chat", "/chat", {charge("api_calls")})};
    world.basics(10);
    world.op.open();
    Pod& pod = world.pod();
    Call& named = pod.begin({"/", {{"X-Api-Key", kKey}, {"X-Whose", "globex"}}});
    world.run_ms(50);
    ASSERT_TRUE(named.waits());
    world.policy.tenant_header = "X-Whose";
    world.policy.enforcement = enforcement;
    world.op.put(world.policy);
    ASSERT_TRUE(world.until([&] { return pod.directory->policy()->tenant_header == "X-Whose"; }));
    Call& other = pod.begin();
    world.op.fund(kTenant, world.bucket(), 10);
    ASSERT_TRUE(world.until([&] { return !named.waits() && !other.waits(); }));
    EXPECT_FALSE(named.admitted());
    EXPECT_EQ(named.reason(), "PolicyUnavailable");
    EXPECT_NE(named.denial.headers.find("Retry-After: 1\r\n"), std::string::npos);
    EXPECT_TRUE(other.admitted()) << other.denial.body;
    pod.settle(other);
  }
}

// A request that waited is decided by the policy of the moment.
TEST(Edit, ARouteThatClosesRefusesWhoWaitsForIt) {
  World world;
  world.policy.routes = {route("chat", "/chat", {charge("api_calls")})};
  world.basics(10);
  world.op.open();
  Pod& pod = world.pod();
  Call& call = pod.begin({"/chat"});
  world.run_ms(50);
  ASSERT_TRUE(call.waits());
  world.policy.routes[0].action = tenant::RouteAction::kDeny;
  world.policy.routes[0].charges.clear();
  world.op.put(world.policy);
  ASSERT_TRUE(world.until([&] { return !call.waits(); }));
  EXPECT_EQ(call.reason(), "RouteDenied");
}

// Its path is on its way as it came; another is not matched in its place.
TEST(Edit, APolicyThatBeginsToNormaliseRefusesWhoWaitsWithAnotherPath) {
  World world;
  world.policy.routes = {route("chat", "/chat", {charge("api_calls")})};
  world.basics(10);
  world.op.open();
  Pod& pod = world.pod();
  Call& other = pod.begin({"/chat/a/../b"});
  Call& plain = pod.begin({"/chat/b"});
  world.run_ms(50);
  ASSERT_TRUE(other.waits());
  ASSERT_TRUE(plain.waits());
  world.policy.paths.ambiguous = tenant::AmbiguousPath::kNormalise;
  world.op.put(world.policy);
  ASSERT_TRUE(world.until([&] { return !other.waits(); }));
  EXPECT_EQ(other.reason(), "MalformedPath");
  EXPECT_NE(plain.reason(), "MalformedPath");
}

TEST(Edit, WindowsEndWithoutAStormOfDenials) {
  World world;
  world.end_s = world.env.wall_s() + 1000;
  world.ready(100, 100);
  const std::string first = world.bucket();
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 30), 30);
  Call& across = world.ask(pod);
  // The next window begins; the operator has funded nothing there yet, and does once it is asked.
  world.pass_s(1001);
  world.run_ms(40);
  std::vector<Call*> calls;
  for (int i = 0; i < 50; ++i) calls.push_back(&pod.begin());
  world.run_ms(100);
  for (Call* c : calls) EXPECT_TRUE(c->waits()) << c->denial.body;
  const std::string second = "calls@" + std::to_string(world.end_s) + "+100000";
  world.op.fund(kTenant, second, 100);
  ASSERT_TRUE(
      world.until([&] { return std::all_of(calls.begin(), calls.end(), [](Call* c) { return c->admitted(); }); }));
  for (Call* c : calls) pod.settle(*c);
  pod.settle(across);
  EXPECT_EQ(world.admitted_of(pod, 100), 50);
  EXPECT_TRUE(
      world.until([&] { return world.op.booked(kTenant, first) == 31 && world.op.booked(kTenant, second) == 100; }));
}

TEST(Edit, SecondsAreMintedBySidecarsAndLeaveNothingBehind) {
  World world;
  world.ready(5, 0);
  auto t = world.tenant(5);
  t.limits[0].window = tenant::WindowKind::kSecond;
  t.limits[0].boundaries_s.clear();
  world.op.put(t);
  Pod& pod = world.pod();
  std::map<int64_t, int64_t> per_second;
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 30; ++k) {
      Call& call = world.ask(pod);
      if (!call.admitted()) {
        EXPECT_EQ(call.reason(), "QuotaExhausted");
        continue;
      }
      pod.settle(call);
    }
    world.pass_s(1);
    world.run_ms(60);
  }
  world.pass_s(5);
  ASSERT_TRUE(world.until([&] { return pod.log->outbox().empty(); }));
  std::map<std::string, int64_t> booked;
  for (const auto& [key, r] : world.op.records) {
    if (r.kind == redis_contract::RecordKind::kUsage) booked[r.buckets.at(0)] += r.units;
  }
  EXPECT_GE(booked.size(), 4u);
  for (const auto& [bucket, units] : booked) EXPECT_LE(units, 5) << bucket;
  // The windows are over: what was remembered of each goes.
  world.pass_s(3 * 3600);
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.run_ms(200);
  EXPECT_LE(pod.log->definitions(), 2u);
}

}  // namespace
}  // namespace tallygate::testing
