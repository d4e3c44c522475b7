// Redis is away: the lease held, then onUnavailable; recovery by itself (A8).
#include <signal.h>

#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

using tenant::OnUnavailable;

class Outage : public ::testing::Test {
 protected:
  Pod::Options options() { return {.folder = "", .admission = {.wait_ms = 400, .waiting_max = 1000}}; }
  tenant::Tenant allowing(int64_t allowance) {
    auto t = world.tenant(1000);
    t.on_unavailable_quota = OnUnavailable::kAllow;
    t.allowance_per_pod = allowance;
    return t;
  }
  // Admits until the first other outcome; says which that was.
  std::string drain(Pod& pod, int64_t* admitted, const Ask& ask = {}) {
    for (*admitted = 0; *admitted < 5000; ++*admitted) {
      const std::string outcome = world.outcome(pod, ask);
      if (outcome != "admitted") return outcome;
    }
    return "no end";
  }
  World world;
};

TEST_F(Outage, TheLeaseHeldGoesOnThenItIsDeniedAndHealsByItself) {
  world.ready(1000, 1000);
  Pod& pod = world.pod(options());
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.run_ms(20);
  world.pause();
  int64_t admitted = 0;
  EXPECT_EQ(drain(pod, &admitted), "503 QuotaUnavailable");
  EXPECT_GT(admitted, 0);
  EXPECT_LE(admitted, 1000);
  world.resume();
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(Outage, AllowIsBoundedPerWindowAndPodAndRememberedByASuccessor) {
  world.ready(1000, 1000);
  world.op.put(allowing(20));
  auto o = options();
  o.folder = world.temporary_folder();
  Pod* pod = &world.pod(o);
  world.warm(*pod);
  world.operating = false;
  world.own_server->kill();
  ASSERT_TRUE(world.until([&] { return !pod->redis.connected(); }));
  const int64_t held = pod->escrow->counters().granted_units.load();
  int64_t admitted = 0;
  // A failed request takes nothing of the allowance.
  const auto give_up_one = [&] {
    Call& call = world.ask(*pod);
    ASSERT_TRUE(call.admitted());
    pod->settle(call, 502);
  };
  give_up_one();
  EXPECT_EQ(drain(*pod, &admitted), "503 QuotaUnavailable");
  EXPECT_EQ(admitted, held + 20);
  EXPECT_EQ(pod->admission->counters().allowed_units.load(), 20u);
  // Killed half way through another window of its own: what is in flight counts.
  world.drop(*pod);
  world.own_server->start();
  world.operating = true;
  world.op.publish_all();
  Pod& successor = world.pod(o);  // no epoch is open: nothing can be leased
  EXPECT_EQ(world.outcome(successor), "503 QuotaUnavailable");
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 100);
  EXPECT_TRUE(world.until([&] { return world.outcome(successor) == "admitted"; }));
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket(), 0) == 20; }))
      << "units admitted without a lease are booked under no epoch";
}

TEST_F(Outage, TheWalletHasARuleOfItsOwnAndARouteMayOverride) {
  world.policy.routes = {route("vital", "/vital", {charge("api_calls")}), route("tokens", "/tokens", {charge("llm_tokens")})};
  world.policy.routes[0].on_unavailable = OnUnavailable::kDeny;
  world.basics(1000);
  auto t = allowing(3);
  t.meters.push_back(meter("llm_tokens", tenant::Settlement::kWallet));
  world.op.put(t);
  Pod& pod = world.pod(options());
  int64_t admitted = 0;
  EXPECT_EQ(drain(pod, &admitted, {"/vital"}), "503 QuotaUnavailable");
  EXPECT_EQ(admitted, 0);
  EXPECT_EQ(drain(pod, &admitted, {"/tokens"}), "503 QuotaUnavailable");
  EXPECT_EQ(admitted, 0);
  EXPECT_EQ(drain(pod, &admitted), "503 QuotaUnavailable");
  EXPECT_EQ(admitted, 3);
}

TEST_F(Outage, NewsThatAreTooOldAreNoNews) {
  auto t = world.tenant(1000);
  t.stale_after_ms = 700;
  world.ready(1000, 1000);
  world.op.put(t);
  Pod& pod = world.pod(options());
  world.warm(pod);
  world.pause();
  EXPECT_EQ(world.outcome(pod), "admitted");
  const int64_t until_ms = world.env.mono_ms() + 1500;
  while (world.env.mono_ms() < until_ms) world.turn();
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable") << "though units are left";
  world.resume();
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(Outage, WhoIsKnownToBeExhaustedStaysSo) {
  world.ready(10, 10);
  auto t = allowing(50);
  t.limits[0].amount = t.limits[0].capacity = 10;
  world.op.put(t);
  Pod& pod = world.pod(options());
  EXPECT_EQ(world.admitted_of(pod, 20), 10);
  world.operating = false;
  world.own_server->kill();
  ASSERT_TRUE(world.until([&] { return !pod.redis.connected(); }));
  EXPECT_EQ(world.admitted_of(pod, 20), 0) << "the ledger had said no";
}

TEST_F(Outage, ATenantInShadowIsNeverDenied) {
  world.basics(10);
  auto t = world.tenant(10);
  t.enforcement = tenant::Enforcement::kShadow;
  world.op.put(t);
  Pod& pod = world.pod(options());
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.operating = false;
  world.own_server->kill();
  ASSERT_TRUE(world.until([&] { return !pod.redis.connected(); }));
  EXPECT_EQ(world.admitted_of(pod, 30), 30);
}

}  // namespace
}  // namespace tallygate::testing
