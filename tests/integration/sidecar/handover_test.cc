// Units that nobody spends find their way back; a killed process loses none (rule 1).
#include <signal.h>
#include <sys/mman.h>

#include <filesystem>

#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

TEST(Return, IdleUnitsGoBackAndSomebodyElseSpendsThem) {
  World world;
  world.ready(40, 40);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 3), 3);
  EXPECT_TRUE(world.until([&] { return world.op.field(kTenant, world.bucket(), "free") == 37; }));
  Pod& other = world.pod();
  EXPECT_EQ(world.admitted_of(other, 50), 37);
  EXPECT_EQ(world.outcome(pod), "429 QuotaExhausted");
}

TEST(Return, UnitsJustLeasedForAWaitingRequestAreNotIdle) {
  World world;
  world.ready(40, 40);
  Pod& pod = world.pod({.folder = "", .escrow = {.idle_return_ms = 0}});
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(world.outcome(pod), "admitted");
    world.run_ms(30);
  }
  EXPECT_TRUE(world.until([&] { return world.op.field(kTenant, world.bucket(), "free") == 20; }));
}

TEST(Return, ADrainedPodGivesBackExactlyTheRest) {
  World world;
  world.ready(200, 200);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 77), 77);
  bool returned = false;
  pod.give_back([&] { returned = true; });
  ASSERT_TRUE(world.until([&] { return returned; }));
  EXPECT_EQ(world.op.field(kTenant, world.bucket(), "free"), 123);
  Pod& other = world.pod();
  EXPECT_EQ(world.admitted_of(other, 200), 123);
}

// Of thousands of buckets, in slices: each exactly once.
TEST(Return, OfMoreBucketsThanASliceHas) {
  World world;
  world.ready(200, 200);
  constexpr int kBuckets = 1203;
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 7), 7);
  const int shard = redis_contract::shard_of(kTenant);
  const std::string& me = pod.log->incarnation();
  for (int i = 0; i < kBuckets; ++i) {
    const std::string bucket = "meter" + std::to_string(i) + "$";
    world.op.fund(kTenant, bucket, 10);
    world.op.call(
        {"HSET", redis_contract::bucket_key(shard, world.op.epoch, kTenant, bucket), "free", "3", "g:" + me, "7"});
    world.op.call(
        {"ZADD", redis_contract::held_key(shard, world.op.epoch, me), "inf", redis_contract::member(kTenant, bucket)});
  }
  bool returned = false;
  pod.give_back([&] { returned = true; });
  ASSERT_TRUE(world.until([&] { return returned; }));
  EXPECT_EQ(world.op.field(kTenant, world.bucket(), "free"), 193);
  for (int i = 0; i < kBuckets; ++i) {
    ASSERT_EQ(world.op.field(kTenant, "meter" + std::to_string(i) + "$", "free"), 10) << i;
  }
}

TEST(Return, AnEpochThatIsLostMeanwhileIsWaitedFor) {
  World world;
  world.ready(200, 200);
  Pod& pod = world.pod();
  EXPECT_EQ(world.admitted_of(pod, 7), 7);
  world.op.call({"FLUSHALL"});
  bool returned = false;
  pod.give_back([&] { returned = true; });
  world.run_ms(300);
  EXPECT_FALSE(returned);
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 50);
  ASSERT_TRUE(world.until([&] { return returned; }));
  EXPECT_EQ(world.op.field(kTenant, world.bucket(), "free"), 50) << "it had nothing of this epoch";
}

// Booked is not all: as long as its units were not given back, the folder alone knows what it had spent.
TEST(Handover, TheFolderStaysUntilTheUnitsAreBack) {
  World world;
  world.ready(200, 200);
  const std::string folder = world.temporary_folder();
  {
    Pod& pod = world.pod({.folder = folder});
    EXPECT_EQ(world.admitted_of(pod, 7), 7);
    world.drop(pod);  // as a crash: nothing is given back
  }
  world.op.call({"FLUSHALL"});
  world.op.forget_streams();
  world.basics(200);
  Pod& successor = world.pod({.folder = folder});
  ASSERT_EQ(successor.handover->pending(), 1u);
  const auto folders = successor.folder->incarnations().size();
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 7; }));
  world.run_ms(600);
  EXPECT_EQ(successor.handover->returning(), 1u);
  EXPECT_EQ(successor.folder->incarnations().size(), folders);
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 50);
  ASSERT_TRUE(world.until([&] { return successor.handover->pending() == 0; }));
  EXPECT_EQ(successor.folder->incarnations().size(), folders - 1);
}

// I1: a clock that was wrong for a while had the log forget what was spent; so nobody gives it back.
TEST(Handover, WhatALogHasForgottenIsNotGivenBack) {
  for (const bool drained : {false, true}) {
    World world;
    world.ready(200, 200);
    const int64_t length_s = world.end_s - world.start_s;
    world.op.fund(kTenant, "calls@" + std::to_string(world.end_s) + "+100000", 100);
    Pod::Options options;
    options.folder = world.temporary_folder();
    options.log.max_file_bytes = 1;  // each batch begins a file, and says what is known of before
    Pod& pod = world.pod(options);
    EXPECT_EQ(world.admitted_of(pod, 77), 77);
    world.run_ms(100);
    world.pass_s(length_s + 7200);
    world.run_ms(50);
    pod.log->forget_ended(world.clock.wall_s() - 3600);
    EXPECT_EQ(world.outcome(pod), "admitted") << "in the next window";
    world.run_ms(100);
    world.pass_s(-length_s - 7200);
    world.run_ms(50);
    EXPECT_EQ(world.outcome(pod), "admitted");
    bool returned = false;
    if (drained) {
      pod.give_back([&] { returned = true; });
      ASSERT_TRUE(world.until([&] { return returned; }));
    }
    world.drop(pod);
    Pod& next = world.pod(options);
    ASSERT_TRUE(world.until([&] { return next.handover->pending() == 0; }));
    EXPECT_LE(world.op.field(kTenant, world.bucket(), "free"), 122) << drained;
    EXPECT_LE(world.admitted_of(next, 200), 122) << drained;
  }
}

// Booked by a ledger that is gone since: as long as the folder is not put away, its records are sent again like
// anybody's.
TEST(Handover, APredecessorNotPutAwayYetSendsAgainWhatARecoveredLedgerLacks) {
  World world;
  world.ready(200, 200);
  const std::string folder = world.temporary_folder();
  sidecar::LogLimits log;
  log.keep_booked = true;
  {
    Pod& pod = world.pod({.folder = folder, .log = log});
    EXPECT_EQ(world.admitted_of(pod, 7), 7);
    world.drop(pod);
  }
  world.op.call({"FLUSHALL"});
  world.op.forget_streams();
  world.basics(200);
  Pod& successor = world.pod({.folder = folder, .log = log});
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 7; }));
  world.run_ms(600);  // it has heard so
  ASSERT_EQ(successor.handover->returning(), 1u);
  world.op.recover_empty();
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 7; }));
  world.op.open();
  world.op.fund(kTenant, world.bucket(), 50);
  EXPECT_TRUE(world.until([&] { return successor.handover->pending() == 0; }));
}

// The pod lives on, a second one starts on a copy of its folder: what the first has leased is the first's.
TEST(Handover, ACopyOfALiveFolderGivesNothingBack) {
  World world;
  world.ready(300, 300);
  const std::string folder = world.temporary_folder(), copy = world.temporary_folder();
  Pod& pod = world.pod({.folder = folder});
  int64_t admitted = world.admitted_of(pod, 40);
  std::filesystem::copy(folder, copy,
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  Pod& second = world.pod({.folder = copy});
  admitted += world.admitted_of(second, 400);
  ASSERT_TRUE(world.until([&] {
    admitted += world.outcome(pod) == "admitted" ? 1 : 0;
    admitted += world.outcome(second) == "admitted" ? 1 : 0;
    return admitted >= 300;
  })) << admitted;
  admitted += world.admitted_of(pod, 20) + world.admitted_of(second, 20);
  EXPECT_EQ(admitted, 300);
  EXPECT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 300; }));
}

// The child admits at full speed and is killed; what it admitted stands in memory that both see.
TEST(Handover, AKilledPodsSuccessorBooksEverythingAndGivesBackTheRest) {
  struct Truth {
    int64_t charged, in_flight, uncertain;
  };
  auto* truth =
      static_cast<Truth*>(mmap(nullptr, sizeof(Truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(truth, MAP_FAILED);
  for (int round = 0; round < 3; ++round) {
    *truth = {};
    World world;
    world.ready(100'000, 100'000);
    const std::string folder = world.temporary_folder();
    ChildProcess child;
    child.start([&] {
      World inner(world.endpoint.port);
      inner.policy = world.policy;
      inner.operating = false;
      Pod& pod = inner.pod({.folder = folder});
      for (;;) {
        inner.turn(0);
        if (pod.directory->policy() == nullptr) continue;
        for (int i = 0; i < 20; ++i) {
          __atomic_store_n(&truth->uncertain, 1, __ATOMIC_SEQ_CST);
          Call& call = pod.begin();
          if (!call.admitted()) {
            __atomic_store_n(&truth->uncertain, 0, __ATOMIC_SEQ_CST);
            inner.turn(1);
            if (call.admitted())
              __atomic_add_fetch(&truth->in_flight, 1, __ATOMIC_SEQ_CST);
            else if (call.waits())
              pod.abandon(call);
            continue;
          }
          const bool stays = i == 0, fails = i % 5 == 1;
          if (!stays) pod.settle(call, fails ? 500 : 200);
          if (stays)
            __atomic_add_fetch(&truth->in_flight, 1, __ATOMIC_SEQ_CST);
          else if (!fails)
            __atomic_add_fetch(&truth->charged, 1, __ATOMIC_SEQ_CST);
          __atomic_store_n(&truth->uncertain, 0, __ATOMIC_SEQ_CST);
        }
      }
      return 0;
    });
    ASSERT_TRUE(world.until([&] { return __atomic_load_n(&truth->charged, __ATOMIC_SEQ_CST) > 200 + round * 777; }));
    child.signal(SIGKILL);
    child.wait();
    const int64_t sure = truth->charged + truth->in_flight, most = sure + truth->uncertain + 1;
    Pod& successor = world.pod({.folder = folder});
    ASSERT_TRUE(world.until([&] { return successor.handover->pending() == 0; }));
    const int64_t booked = world.op.booked(kTenant, world.bucket());
    EXPECT_GE(booked, sure);
    EXPECT_LE(booked, most);
    EXPECT_EQ(world.op.field(kTenant, world.bucket(), "free"), 100'000 - booked);
    EXPECT_EQ(world.outcome(successor), "admitted");
  }
  munmap(truth, sizeof(Truth));
}

}  // namespace
}  // namespace tallygate::testing
