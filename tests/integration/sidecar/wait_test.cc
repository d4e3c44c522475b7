// What is not known yet is waited for: never let through, never refused for good.
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

TEST(Wait, AColdTenantAndAColdBucket) {
  World world;
  world.basics(10);
  world.op.open();
  Pod& pod = world.pod();
  Call& call = pod.begin();
  EXPECT_TRUE(call.waits());
  world.run_ms(300);
  EXPECT_TRUE(call.waits()) << "funding is under way: " << call.denial.body;
  world.op.fund(kTenant, world.bucket(), 10);
  ASSERT_TRUE(world.until([&] { return !call.waits(); }));
  EXPECT_TRUE(call.admitted()) << call.denial.body;
}

TEST(Wait, ForAnEpochAndForRegistration) {
  World world;
  world.basics(10);
  world.op.registering = false;
  Pod& pod = world.pod();
  Call& call = pod.begin();
  world.run_ms(300);
  EXPECT_TRUE(call.waits());
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 10);
  world.run_ms(50);
  EXPECT_TRUE(call.waits() || call.admitted());
  world.op.registering = true;
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 10);
  ASSERT_TRUE(world.until([&] { return !call.waits(); }));
  EXPECT_TRUE(call.admitted()) << call.denial.body;
}

// However many ask meanwhile, it is said what they wait for.
TEST(Wait, ForAnEpochThatNobodyOpensIsSaid) {
  World world;
  world.basics(10);
  Pod& pod = world.pod();
  ASSERT_TRUE(world.until([&] {
    EXPECT_TRUE(pod.begin().waits());
    world.run_ms(20);
    return !pod.escrow->stalled().empty();
  })) << "each new request puts it off";
  EXPECT_NE(pod.escrow->stalled().find("no epoch"), std::string::npos) << pod.escrow->stalled();
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 10);
  EXPECT_TRUE(world.until([&] { return pod.escrow->stalled().empty(); }));
}

TEST(Wait, BeforeThePolicyIsThereNobodyIsLetIn) {
  World world;
  world.operating = false;
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod), "503 PolicyUnavailable");
  world.operating = true;
  world.ready(10, 10);
  ASSERT_TRUE(world.until([&] { return pod.directory->policy() != nullptr; }));
  EXPECT_EQ(world.outcome(pod), "admitted");
}

TEST(Wait, EndsAtItsLimitAsUnavailable) {
  World world;
  world.basics(10);
  world.op.open();
  Pod& pod = world.pod({.folder = "", .admission = {.wait_ms = 150, .waiting_max = 100}});
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  EXPECT_EQ(pod.admission->waiting(), 0u);
}

TEST(Wait, NoMoreThanSoManyWait) {
  World world;
  world.basics(10);
  world.op.open();
  Pod& pod = world.pod({.folder = "", .admission = {.wait_ms = 2'000, .waiting_max = 3}});
  std::vector<Call*> calls;
  for (int i = 0; i < 10; ++i) calls.push_back(&pod.begin());
  EXPECT_EQ(pod.admission->waiting(), 3u);
  for (size_t i = 3; i < calls.size(); ++i) EXPECT_EQ(calls[i]->denial.status, 503);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(calls[i]->waits());
}

TEST(Wait, WhoLeavesIsForgotten) {
  World world;
  world.basics(10);
  world.op.open();
  Pod& pod = world.pod();
  Call& gone = pod.begin();
  world.run_ms(100);
  pod.abandon(gone);
  EXPECT_EQ(pod.admission->waiting(), 0u);
  Call& stays = pod.begin();
  world.op.fund(kTenant, world.bucket(), 10);
  ASSERT_TRUE(world.until([&] { return !stays.waits(); }));
  EXPECT_TRUE(stays.admitted());
  EXPECT_TRUE(gone.waits());
  pod.settle(stays);
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 1; }));
}

// A wiped Redis knows nobody; that is not to say that nobody is known.
TEST(Wiped, ColdOnesAreUnknownNotRefused) {
  World world;
  world.ready(10, 10);
  Pod& pod = world.pod({.folder = "", .admission = {.wait_ms = 700, .waiting_max = 100}});
  world.op.call({"FLUSHALL"});
  Call& call = pod.begin();
  ASSERT_TRUE(world.until([&] { return !call.waits(); }));
  EXPECT_EQ(call.denial.status, 503);
  EXPECT_EQ(call.reason(), "PolicyUnavailable");
  EXPECT_LT(pod.readmits, 60u) << "it asked as fast as Redis could answer";
  EXPECT_NE(pod.directory->policy(), nullptr);
}

TEST(Wiped, EverythingHealsByItself) {
  World world;
  world.ready(1000, 1000);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 5), 5);
  world.op.call({"FLUSHALL"});
  EXPECT_EQ(world.outcome(pod), "admitted") << "the lease held goes on";
  Call& cold = pod.begin({"/", {{"X-Api-Key", "second"}}});
  world.run_ms(300);
  EXPECT_TRUE(cold.waits()) << cold.denial.body;
  world.op.put_identity("apikey", "second", kTenant);
  world.op.publish_all();
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 900);
  ASSERT_TRUE(world.until([&] { return !cold.waits(); }));
  EXPECT_TRUE(cold.admitted()) << cold.denial.body;
  ASSERT_TRUE(world.until([&] { return pod.escrow->shard(redis_contract::shard_of(kTenant)).epoch == 2; }));
  EXPECT_EQ(world.outcome(pod), "admitted");
}

// What was deleted while Redis had lost everything is in no list of changes.
TEST(Wiped, WhoWasDeletedMeanwhileIsGone) {
  World world;
  world.ready(1000, 1000);
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.op.call({"FLUSHALL"});
  world.op.forget_tenant(kTenant);
  world.op.put(world.tenant(10, "shop/other"));
  world.op.publish_all();
  EXPECT_TRUE(world.until([&] { return world.outcome(pod) == "401 InvalidCredential"; }));
}

// The answer to a fetch may be lost; the change must not be.
TEST(Notice, AChangeWhoseFetchIsLostIsFetchedAgain) {
  World world;
  world.ready(1000, 1000);
  Pod& pod = world.pod();
  world.warm(pod);
  for (int i = 0; i < 5; ++i) {
    auto t = world.tenant(1000);
    t.suspended = i % 2 == 0;
    world.op.put(t);
    world.op.call({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    const std::string wanted = t.suspended ? "403 Suspended" : "admitted";
    EXPECT_TRUE(world.until([&] { return world.outcome(pod) == wanted; })) << i;
  }
}

TEST(Notice, ADocumentOfAnotherVersionIsReportedAndTheOldOneStays) {
  World world;
  world.ready(1000, 1000);
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.op.call({"SET", redis_contract::tenant_key(kTenant), "{\"v\":99}"});
  world.op.put_identity("apikey", "other", kTenant);
  world.op.call({"ZADD", redis_contract::changes_key(), "1000", std::string("T") + kTenant});
  world.op.call({"HSET", redis_contract::meta_key(), "version", "1000"});
  ASSERT_TRUE(world.until([&] { return !pod.faults.empty(); }));
  EXPECT_EQ(world.outcome(pod), "admitted");
}

TEST(Flood, MadeUpCredentialsDoNotFillTheMemory) {
  World world;
  world.ready(1000, 1000);
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod), "admitted");
  size_t most = 0;
  std::vector<Call*> calls;
  for (int i = 0; i < 20'000; ++i) {
    calls.push_back(&pod.begin({"/", {{"X-Api-Key", "made-up-" + std::to_string(i)}}}));
    most = std::max(most, pod.directory->identities());
    if (i % 2'000 == 0) world.turn(0);
  }
  ASSERT_TRUE(
      world.until([&] { return std::none_of(calls.begin(), calls.end(), [](Call* c) { return c->waits(); }); }));
  for (Call* c : calls) ASSERT_TRUE(c->denial.status == 401 || c->denial.status == 503) << c->denial.body;
  EXPECT_LE(most, 10'001u);
  EXPECT_EQ(world.outcome(pod), "admitted");
  EXPECT_EQ(world.outcome(pod, {"/", {{"X-Api-Key", "one-more"}}}), "401 InvalidCredential");
}

}  // namespace
}  // namespace tallygate::testing
