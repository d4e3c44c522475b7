// Records reach the ledger whatever Redis forgets (rule 10).
#include "core/redis_contract/scripts.h"
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

class Records : public ::testing::Test {
 protected:
  Records() { world.ready(1000, 1000); }
  int most_sent() const {
    int most = 0;
    for (const auto& [key, times] : world.op.sent) most = std::max(most, times);
    return most;
  }
  World world;
};

TEST_F(Records, AreSentOnceWhereTheLedgerBooks) {
  Pod& pod = world.pod();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(world.outcome(pod), "admitted");
    world.run_ms(60);
  }
  ASSERT_TRUE(world.until([&] { return pod.log->outbox().empty(); }));
  EXPECT_EQ(most_sent(), 1);
}

TEST_F(Records, WithoutProgressAreSentAgainButEverMoreRarely) {
  world.op.booking = false;
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod), "admitted");
  ASSERT_TRUE(world.until([&] { return most_sent() >= 2; }));
  world.run_ms(5'000);
  EXPECT_LE(most_sent(), 3) << "a ledger that is away must not fill Redis with copies";
  world.op.booking = true;
  world.op.call({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  EXPECT_TRUE(world.until([&] { return pod.log->outbox().empty(); })) << "after a reconnect at once";
}

TEST_F(Records, AnUnbelievableWatermarkIsIgnored) {
  world.op.booking = false;
  Pod& pod = world.pod();
  EXPECT_EQ(world.outcome(pod), "admitted");
  const int shard = redis_contract::shard_of(kTenant);
  world.op.call({"HSET", redis_contract::watermark_key(shard), pod.log->incarnation(), "999999"});
  world.run_ms(400);
  EXPECT_FALSE(pod.log->outbox().empty());
  world.op.call({"HSET", redis_contract::watermark_key(shard), pod.log->incarnation(), "0"});
  world.op.booking = true;
  EXPECT_TRUE(world.until([&] { return pod.log->outbox().empty() && world.op.booked(kTenant, world.bucket()) == 1; }));
}

TEST_F(Records, SurviveAStreamThatRefusesThem) {
  Pod& pod = world.pod();
  world.warm(pod);
  ASSERT_TRUE(world.until([&] { return pod.log->outbox().empty(); }));
  world.operating = false;
  const std::string stream = redis_contract::usage_key(redis_contract::shard_of(kTenant));
  world.op.call({"RENAME", stream, stream + ":away"});
  world.op.call({"SET", stream, "not a stream"});
  EXPECT_EQ(world.admitted_of(pod, 3), 3);
  ASSERT_TRUE(world.until([&] { return pod.courier->counters().failed.load() > 0; }));
  world.op.call({"DEL", stream});
  world.op.call({"RENAME", stream + ":away", stream});
  world.operating = true;
  EXPECT_TRUE(world.until([&] { return pod.log->outbox().empty() && world.op.booked(kTenant, world.bucket()) == 3; }));
}

TEST_F(Records, AreThereAgainAfterAWipe) {
  Pod& pod = world.pod();
  world.op.booking = false;
  EXPECT_EQ(world.admitted_of(pod, 5), 5);
  ASSERT_TRUE(world.until([&] { return world.op.booked(kTenant, world.bucket()) == 5; }));
  world.op.records.clear();
  world.op.call({"FLUSHALL"});
  world.op.forget_streams();
  world.op.booking = true;
  world.op.publish_all();
  world.op.open();
  EXPECT_TRUE(world.until([&] { return pod.log->outbox().empty(); }));
  EXPECT_EQ(world.op.booked(kTenant, world.bucket()), 5);
}

}  // namespace
}  // namespace tallygate::testing
