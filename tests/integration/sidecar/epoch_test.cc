// Epochs and settlement: older units are never spent, what was admitted is booked under the epoch that paid for it.
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

TEST(Epoch, OlderUnitsAreNeverSpentAndRequestsInFlightKeepTheirs) {
  World world;
  world.ready(1000, 100);
  Pod& pod = world.pod();
  Call& flying = world.ask(pod);
  ASSERT_TRUE(flying.admitted());
  Call& failing = world.ask(pod);
  ASSERT_TRUE(failing.admitted());
  world.op.open();
  const int shard = redis_contract::shard_of(kTenant);
  ASSERT_TRUE(world.until([&] { return pod.escrow->shard(shard).epoch == 2; }));
  Call& next = pod.begin();
  world.run_ms(200);
  EXPECT_TRUE(next.waits()) << "nothing is funded under the new epoch";
  world.op.fund(kTenant, world.bucket(), 5);
  ASSERT_TRUE(world.until([&] { return !next.waits(); }));
  pod.settle(flying);
  pod.settle(failing, 500);
  pod.settle(next);
  EXPECT_EQ(world.admitted_of(pod, 10), 4) << "a release of the old epoch adds nothing to the new one";
  EXPECT_TRUE(world.until([&] {
    return world.op.booked(kTenant, world.bucket(), 1) == 1 && world.op.booked(kTenant, world.bucket(), 2) == 5;
  }));
}

TEST(Epoch, ARestartedServerIsFoundAgain) {
  World world;
  world.ready(1000, 1000);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 3), 3);
  world.own_server->kill();
  world.own_server->start();
  world.op.publish_all();
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 500);
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "admitted" && pod.escrow->shard(redis_contract::shard_of(kTenant)).epoch == 2; }));
}

TEST(Settle, AFailureOfTheAppReleases) {
  World world;
  world.ready(10, 10);
  Pod& pod = world.pod();
  for (const int status : {500, 502, 599}) {
    Call& call = world.ask(pod);
    pod.settle(call, status);
  }
  Call& cut = world.ask(pod);
  pod.settle(cut, 200, proxy::End::kUpstreamFailed);
  Call& refused = world.ask(pod);
  pod.settle(refused, 0, proxy::End::kUpstreamFailed);
  EXPECT_EQ(world.admitted_of(pod, 20), 10) << "all five came back";
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 10; }));
  EXPECT_EQ(pod.admission->counters().released_units.load(), 5u);
}

TEST(Settle, AClientThatLeavesPaysAndSoDoesA4xx) {
  World world;
  world.ready(10, 10);
  Pod& pod = world.pod();
  Call& left = world.ask(pod);
  pod.settle(left, 0, proxy::End::kClientAborted);
  Call& wrong = world.ask(pod);
  pod.settle(wrong, 404);
  EXPECT_EQ(world.admitted_of(pod, 20), 8);
}

TEST(Settle, WhatDidNotReachTheAppIsFreeWhateverTheRouteSays) {
  for (const bool charge_on_success : {true, false}) {
    World world;
    world.policy.default_route.charge_on_success = charge_on_success;
    world.ready(10, 10);
    Pod& pod = world.pod();
    for (const auto end : {proxy::End::kClientAborted, proxy::End::kUpstreamFailed}) {
      Call& call = world.ask(pod);
      pod.settle(call, 0, end, false);
    }
    EXPECT_EQ(world.admitted_of(pod, 20), 10);
    EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 10; }));
    EXPECT_EQ(pod.admission->counters().released_units.load(), 2u);
  }
}

// Whoever got a part of an answer did not get what it asked for: 5 of 50 bytes, a stream without its end.
TEST(Settle, AnAnswerThatTheAppBrokeOffIsFreeUnlessTheRouteChargesAlways) {
  for (const bool charge_on_success : {true, false}) {
    World world;
    world.policy.default_route.charge_on_success = charge_on_success;
    world.ready(10, 10);
    Pod& pod = world.pod();
    Call& call = world.ask(pod);
    pod.settle(call, 200, proxy::End::kUpstreamFailed);
    EXPECT_EQ(world.admitted_of(pod, 20), charge_on_success ? 10 : 9);
  }
}

TEST(Settle, AlwaysMeansAlways) {
  World world;
  world.policy.default_route.charge_on_success = false;
  world.ready(10, 10);
  Pod& pod = world.pod();
  for (int i = 0; i < 4; ++i) {
    Call& call = world.ask(pod);
    pod.settle(call, 503, i % 2 == 0 ? proxy::End::kCompleted : proxy::End::kUpstreamFailed);
  }
  EXPECT_EQ(world.admitted_of(pod, 20), 6);
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 10; }));
}

TEST(Settle, CountsUnitsOnceHoweverManyLimitsThereAre) {
  World world;
  world.ready(100, 100);
  auto t = world.tenant(100);
  t.limits.push_back(world.limit("second", 100));
  world.op.put(t);
  world.op.fund(kTenant, world.bucket("second"), 100);
  Pod& pod = world.pod();
  Call& call = world.ask(pod);
  pod.settle(call, 500);
  EXPECT_EQ(pod.admission->counters().released_units.load(), 1u);
}

// A release serves who waits for it at once: nobody else will.
TEST(Settle, AReleaseIsSpentByWhoWaits) {
  World world;
  world.basics(100);
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 1, /*last=*/false);
  Pod& pod = world.pod();
  Call& first = world.ask(pod);
  ASSERT_TRUE(first.admitted());
  Call& waits = pod.begin();
  world.run_ms(100);
  ASSERT_TRUE(waits.waits());
  pod.settle(first, 500);
  EXPECT_TRUE(world.until([&] { return waits.admitted(); }));
}

}  // namespace
}  // namespace tallygate::testing
