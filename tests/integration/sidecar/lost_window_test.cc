// A window of a minute lives in Redis alone. With Redis' data what was used of it is lost: nobody knows what is left,
// so a hard cap grants nothing more of it (I1), and the denial says why and until when (docs/adr/0010).
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

using tenant::OnUnavailable;

struct LostWindow : ::testing::Test {
  World world;
  tenant::Tenant terms;

  // So many a minute, with half a minute left at the least.
  void begin(int64_t amount, tenant::Cap cap = tenant::Cap::kHard) {
    world.ready(1'000'000, 0);
    terms = world.tenant(amount);
    terms.limits[0].window = tenant::WindowKind::kMinute;
    terms.limits[0].boundaries_s.clear();
    terms.limits[0].cap = cap;
    world.op.put(terms);
    if (world.clock.wall_s() % 60 > 30) next_minute();
  }
  void next_minute() { world.pass_s(60 - world.clock.wall_s() % 60); }
  void lose() {
    world.op.call({"FLUSHALL"});
    world.op.forget_streams();
    world.basics(1'000'000);
    world.op.put(terms);
    world.op.open();
  }
};

TEST_F(LostWindow, AHardCapIsNotGrantedAgainHoweverOftenRedisIsLost) {
  begin(50);
  Pod& pod = world.pod();
  int64_t admitted = world.admitted_of(pod, 20);
  EXPECT_EQ(admitted, 20);
  for (int i = 0; i < 3; ++i) {
    lose();
    ASSERT_TRUE(world.until([&] {
      const std::string outcome = world.outcome(pod);
      admitted += outcome == "admitted" ? 1 : 0;
      return outcome == "503 QuotaUnavailable";
    }));
  }
  EXPECT_LE(admitted, 50);
  const int64_t left_s = 60 - world.clock.wall_s() % 60;
  Call& denied = world.ask(pod);
  EXPECT_NE(denied.body()["detail"].get<std::string>().find("Redis has lost what was used of limit"), std::string::npos)
      << denied.denial.body;
  EXPECT_FALSE(denied.body().contains("used")) << "nobody knows";
  const std::string& headers = denied.denial.headers;
  EXPECT_TRUE(headers.find("Retry-After: " + std::to_string(left_s)) != std::string::npos ||
              headers.find("Retry-After: " + std::to_string(left_s - 1)) != std::string::npos)
      << headers;
  next_minute();
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; })) << "it hears of the time each second";
  EXPECT_EQ(world.admitted_of(pod, 60), 49) << "the next window is a whole one";
}

TEST_F(LostWindow, ASoftLimitIsGrantedAgainForItOnlyCounts) {
  begin(5, tenant::Cap::kSoft);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 4), 4);
  const int shard = redis_contract::shard_of(kTenant);
  const int64_t lost = pod.escrow->epoch(shard);
  lose();
  ASSERT_TRUE(world.until([&] { return pod.escrow->epoch(shard) > lost; })) << "what it still held is void now";
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(LostWindow, WhoAllowsGoesOnWithinTheAllowance) {
  begin(50);
  terms.on_unavailable_quota = OnUnavailable::kAllow;
  terms.allowance_per_pod = 7;
  world.op.put(terms);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 20), 20);
  lose();
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "503 QuotaUnavailable"; }));
  EXPECT_EQ(pod.admission->counters().allowed_units.load(), 7u);
}

}  // namespace
}  // namespace tallygate::testing
