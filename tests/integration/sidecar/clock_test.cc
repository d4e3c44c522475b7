// Whose clock is wrong, and what comes of it: the ledger's decides which window is now (docs/PROTOCOL.md, Clocks).
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kDay_s = 86'400;

// A hard limit of so many a minute, with half a minute of it left at the least.
void with_a_minute(World& world, int64_t amount) {
  world.ready(1'000'000, 0);
  auto t = world.tenant(amount);
  t.limits[0].window = tenant::WindowKind::kMinute;
  t.limits[0].boundaries_s.clear();
  world.op.put(t);
  if (world.clock.wall_s() % 60 > 30) world.pass_s(60 - world.clock.wall_s() % 60);
}

TEST(Clock, ASidecarTenMinutesOffHasNoLimitOfItsOwn) {
  for (const int64_t off_s : {600, -600}) {
    World right;
    with_a_minute(right, 50);
    Pod& exact = right.pod();
    EXPECT_EQ(right.admitted_of(exact, 30), 30);

    World wrong(right.endpoint.port);  // another machine's clock, another loop; the same Redis
    wrong.operating = false;
    wrong.env.shift_s = off_s;
    Pod& off = wrong.pod();
    ASSERT_TRUE(wrong.until([&] { return off.directory->policy() != nullptr && wrong.clock.known(); }));
    int64_t admitted = 0;
    for (int i = 0; i < 60; ++i) {
      Call& call = off.begin();
      ASSERT_TRUE(wrong.until([&] {
        right.turn(0);
        return !call.waits();
      }));
      if (!call.admitted()) continue;
      ++admitted;
      off.settle(call);
    }
    EXPECT_LE(admitted, 20) << off_s;
    EXPECT_NE(wrong.clock.machine_fault(), "");
    EXPECT_LT(std::abs(wrong.clock.wall_ms() - right.clock.wall_ms()), 1'000);
  }
}

// Its clock was right, jumps a month ahead, and is right again; nothing of that is noticed.
TEST(Clock, AStepOfTheMachinesClockIsNoStepOfTheWindows) {
  World world;
  world.ready(100, 100);
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod), "admitted");
  for (const int64_t step_s : {31 * kDay_s, -62 * kDay_s, 31 * kDay_s}) {
    world.env.shift_s += step_s;
    world.run_ms(50);
    EXPECT_EQ(world.outcome(pod), "admitted") << step_s;
  }
  EXPECT_EQ(pod.escrow->purses(), 1u);
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 4; }));
}

TEST(Clock, AMachineThatBeginsAMonthAheadServesTheWindowThatIsNow) {
  World world;
  world.ready(100, 100);
  world.env.shift_s = 31 * kDay_s;
  Pod& pod = world.pod();
  ASSERT_TRUE(world.until([&] { return world.clock.known(); }));
  EXPECT_EQ(world.outcome(pod), "admitted");
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 1; }));
}

// The ledger's own clock steps, and is set right: a plan is of its windows' time only, before and after.
TEST(Clock, APlanOfAWindowThatHasNotBegunIsNoPlan) {
  World world;
  with_a_minute(world, 5);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 3), 3);
  world.pass_s(1200);
  world.run_ms(50);
  EXPECT_EQ(world.admitted_of(pod, 10), 5) << "a minute of its own";
  EXPECT_EQ(world.outcome(pod), "429 QuotaExhausted");
  world.pass_s(-1200);
  world.run_ms(50);
  EXPECT_EQ(world.admitted_of(pod, 10), 2) << "the minute that is now, and what was left of it";
}

// I1: which purses are forgotten is a clock's word, and so no ground to spend twice.
TEST(Clock, AWindowThatSeemedOverIsNotGrantedTwice) {
  World world;
  world.ready(100, 100);
  const int64_t length_s = world.end_s - world.start_s;
  world.op.fund(kTenant, "calls@" + std::to_string(world.end_s) + "+100000", 100);
  Pod::Options options;
  options.escrow.forget_every_ms = 100;
  Pod& pod = world.pod(options);
  EXPECT_EQ(world.admitted_of(pod, 60), 60);
  ASSERT_TRUE(world.until([&] { return world.op.field(kTenant, world.bucket(), "free") == 40; }))
      << "idle units are back";
  world.pass_s(length_s + 7200);
  world.run_ms(50);
  EXPECT_EQ(world.outcome(pod), "admitted") << "in the next window";
  ASSERT_TRUE(world.until([&] { return pod.escrow->purses() == 1; }));
  world.pass_s(-length_s - 7200);
  world.run_ms(50);
  EXPECT_EQ(world.admitted_of(pod, 30), 30);
  ASSERT_TRUE(world.until([&] { return world.op.field(kTenant, world.bucket(), "free") == 10; })) << "and back again";
  EXPECT_EQ(world.admitted_of(pod, 100), 10);
  EXPECT_EQ(world.outcome(pod), "429 QuotaExhausted");
}

// The other way round: leased in advance by a clock that was wrong, forgotten, and the window begins.
TEST(Clock, AWindowThatWasSpentFromInAdvanceIsNotGrantedTwice) {
  World world;
  world.ready(100, 100);
  const int64_t length_s = world.end_s - world.start_s;
  world.op.fund(kTenant, "calls@" + std::to_string(world.end_s) + "+100000", 100);
  Pod::Options options;
  options.escrow.forget_every_ms = 100;
  Pod& pod = world.pod(options);
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.pass_s(length_s);
  world.run_ms(50);
  EXPECT_EQ(world.admitted_of(pod, 60), 60);
  world.pass_s(-length_s);
  world.run_ms(50);
  EXPECT_EQ(world.outcome(pod), "admitted") << "which retires the wrong plan";
  ASSERT_TRUE(world.until([&] { return pod.escrow->purses() == 1; }));
  world.pass_s(length_s);
  world.run_ms(50);
  EXPECT_EQ(world.admitted_of(pod, 100), 40);
}

TEST(Clock, PursesOfWindowsThatHaveNotBegunAreForgotten) {
  World world;
  with_a_minute(world, 5);
  Pod::Options options;
  options.escrow.forget_every_ms = 100;
  Pod& pod = world.pod(options);
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.pass_s(31 * kDay_s);
  world.run_ms(50);
  EXPECT_EQ(world.outcome(pod), "admitted");
  EXPECT_EQ(pod.escrow->purses(), 2u);
  world.pass_s(-31 * kDay_s);
  world.run_ms(50);
  EXPECT_EQ(world.outcome(pod), "admitted") << "which retires the wrong plan";
  EXPECT_TRUE(world.until([&] { return pod.escrow->purses() == 1; }));
}

}  // namespace
}  // namespace tallygate::testing
