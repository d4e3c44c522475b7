// fund, recall, stat, the kick, close and give_back, ack.
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

namespace rc = redis_contract;
const std::string kDay = "day@" + std::to_string(system_env().wall_s() - 600) + "+86400";
const std::string kHour = "hour@" + std::to_string(system_env().wall_s() - 600) + "+3600";

class Funding_ : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ScratchRedis;
    client_ = new redis::Client(system_env(), server_->unix_endpoint());
  }
  static void TearDownTestSuite() {
    delete client_;
    delete server_;
  }
  void SetUp() override {
    s.call({"FLUSHALL"});
    ASSERT_EQ(s.open(1), 1);
    s.enrol(1, {"a", "b"});
  }

  static inline ScratchRedis* server_;
  static inline redis::Client* client_;
  Scripts s{*client_};
};

TEST_F(Funding_, IsCumulative) {
  EXPECT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "", 1}).integer, 100);
  EXPECT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "", 1}).integer, 100) << "repeated";
  EXPECT_EQ(s.fund(1, kDay, {100, 150, 0, 0, "", 1}).integer, 150);
  EXPECT_EQ(s.field(kDay, 1, "f"), 150);
  EXPECT_EQ(s.field(kDay, 1, "free"), 150);
  EXPECT_EQ(s.field(kDay, 1, "rc"), 0);
}

TEST_F(Funding_, ABucketThatKnowsLessThanItAcknowledgedHasLostSomething) {
  s.fund(1, kDay, {0, 100, 0, 0, "", 1});
  s.call({"DEL", s.key(kDay, 1)});
  const std::string before = s.dump();
  EXPECT_EQ(s.fund(1, kDay, {100, 150, 0, 0, "", 1}).text, "LOST");
  EXPECT_EQ(s.dump(), before);
}

TEST_F(Funding_, ABucketIsFundedAsItselfOnly) {
  EXPECT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "", 1, "m1"}).text, "LOST") << "nobody has seen it";
  EXPECT_EQ(s.stat(1, {kDay}, "m1").elements[0].elements[6].text, "m1");
  EXPECT_EQ(s.stat(1, {kDay}, "m2").elements[0].elements[6].text, "m1") << "once";
  EXPECT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "", 1, "m1"}).integer, 100);
  s.call({"DEL", s.key(kDay, 1)});
  EXPECT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "", 1, "m1"}).text, "LOST");
  EXPECT_EQ(s.stat(1, {kDay}, "m3").elements[0].elements[6].text, "m3");
  EXPECT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "", 1, "m1"}).text, "LOST");
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}}).status, "WAIT");
}

TEST_F(Funding_, TellsHowMuchWouldBeTakenAtOnce) {
  s.lease(1, "a", {{kDay, 1, 300}});
  s.lease(1, "b", {{kDay, 1, 200}});
  EXPECT_EQ(s.stat(1, {kDay}).elements[0].elements[5].integer, 300);
  s.fund(1, kDay, {0, 400, 0, 0, "", 1, "m"});
  EXPECT_EQ(s.stat(1, {kDay}).elements[0].elements[5].integer, 0);
  s.lease(1, "a", {{kDay, 1, 300}});
  EXPECT_EQ(s.stat(1, {kDay}).elements[0].elements[5].integer, 0) << "there is as much";
}

TEST_F(Funding_, ALateCallTellsOldNewsAndIsNotBelieved) {
  s.fund(1, kDay, {0, 100, 50, 1, "", 10});
  s.fund(1, kDay, {100, 200, 70, 2, "", 20});
  const std::string before = s.dump();
  EXPECT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "v1", 10}).integer, 200) << "delayed, of before";
  EXPECT_EQ(s.dump(), before) << "its dry would have denied requests that are paid for";
}

TEST_F(Funding_, RecallTakesIdleUnitsUpToACumulativeTarget) {
  EXPECT_EQ(s.recall(1, kDay, 10).to_integer(-1), 0) << "no bucket";
  EXPECT_EQ(s.call({"EXISTS", s.key(kDay, 1)}).integer, 0);
  s.fund(1, kDay, {0, 100, 0, 0, "", 1});
  s.lease(1, "a", {{kDay, 70, 70}});
  EXPECT_EQ(s.recall(1, kDay, 20).integer, 20);
  EXPECT_EQ(s.recall(1, kDay, 20).integer, 20) << "repeated";
  EXPECT_EQ(s.recall(1, kDay, 10).integer, 20) << "late";
  EXPECT_EQ(s.recall(1, kDay, 50).integer, 30) << "what is idle";
  s.lease(1, "a", {{kDay, 70, 70, 15}});
  EXPECT_EQ(s.recall(1, kDay, 50).integer, 45) << "and what has come back since";
  EXPECT_EQ(s.field(kDay, 1, "free"), 0);
}

TEST_F(Funding_, StatTellsOfEachBucket) {
  s.fund(1, kDay, {0, 100, 0, 0, "", 1});
  s.recall(1, kDay, 30);
  const auto reply = s.stat(1, {kDay, kHour});
  ASSERT_EQ(reply.elements.size(), 2u);
  EXPECT_EQ(reply.elements[0].elements[0].integer, 100);
  EXPECT_EQ(reply.elements[0].elements[1].integer, 30);
  EXPECT_EQ(reply.elements[0].elements[2].integer, 70);
  EXPECT_EQ(reply.elements[0].elements[4].integer, 0);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(reply.elements[1].elements[i].integer, 0);
  EXPECT_EQ(reply.elements[1].elements[4].integer, 1) << "unknown: it wants attention";
  s.lease(1, "a", {{kDay, 500, 500}});
  s.lease(1, "b", {{kDay, 300, 300}});
  EXPECT_EQ(s.stat(1, {kDay}).elements[0].elements[3].integer, 500) << "the largest that went short";
  EXPECT_EQ(s.stat(1, {kDay}).elements[0].elements[4].integer, 1);
}

TEST_F(Funding_, AsksOnceUntilFunded) {
  EventLoop loop(system_env());
  redis::Connection subscriber(loop, server_->unix_endpoint());
  std::vector<std::string> heard;
  subscriber.subscribe({rc::want_channel()},
                       [&](std::string, std::string message) { heard.push_back(std::move(message)); });
  subscriber.start();
  const auto listen_until = [&](size_t count) {
    const int64_t until_ms = system_env().mono_ms() + 5000;
    while (heard.size() < count && system_env().mono_ms() < until_ms) loop.run_once(10);
    for (int i = 0; i < 5; ++i) loop.run_once(5);  // anything more?
    return heard.size();
  };
  const int64_t until_ms = system_env().mono_ms() + 5000;
  while (s.call({"PUBSUB", "NUMSUB", rc::want_channel()}).elements.at(1).integer == 0) {
    ASSERT_LT(system_env().mono_ms(), until_ms);
    loop.run_once(10);
  }
  for (int i = 0; i < 5; ++i) s.lease(1, i % 2 ? "a" : "b", {{kDay, 1, 1}});
  EXPECT_EQ(listen_until(1), 1u);
  const std::string two = {static_cast<char>('0' + s.shard() / 10), static_cast<char>('0' + s.shard() % 10)};
  EXPECT_EQ(heard[0], two + " " + s.member(kDay));
  const auto score = s.call({"ZSCORE", rc::want_key(s.shard(), 1), s.member(kDay)}).text;
  EXPECT_NEAR(std::stod(score), static_cast<double>(system_env().wall_ms()), 5000);
  s.fund(1, kDay, {0, 100, 0, 0, "", 60});
  s.lease(1, "a", {{kDay, 30, 30}});
  EXPECT_EQ(listen_until(1), 1u) << "70 are above the low mark";
  s.lease(1, "a", {{kDay, 50, 50}});
  s.lease(1, "b", {{kDay, 5, 5}});
  EXPECT_EQ(listen_until(2), 2u) << "below it: once";
  s.fund(1, kDay, {100, 100, 0, 0, "v3", 60});
  s.lease(1, "b", {{kDay, 500, 500}});
  EXPECT_EQ(listen_until(2), 2u) << "dry: the ledger has said that there is nothing";
  s.lease(1, "b", {{kDay, 6, 6}});
  EXPECT_EQ(listen_until(3), 3u) << "something was used up all the same: the ledger may know more by now";
}

TEST_F(Funding_, AClosedIncarnationGivesBackWhatItDidNotSpendOnce) {
  s.fund(1, kDay, {0, 100, 0, 0, "", 1});
  s.fund(1, kHour, {0, 100, 0, 0, "", 1});
  s.lease(1, "a", {{kDay, 40, 40}, {kHour, 10, 10}});
  s.lease(1, "a", {{kDay, 40, 40, 5}});
  EXPECT_EQ(s.give_back(1, "a", {{kDay, 20}}).text, "OPEN") << "it could still lease";
  EXPECT_EQ(s.field(kDay, 1, "free"), 65);
  EXPECT_EQ(s.close(1, "a").elements.size(), 2u) << "the buckets it leased from";
  EXPECT_EQ(s.lease(1, "a", {{kDay, 50, 50}}).status, "REG");
  s.enrol(1, {"a"});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 50, 50}}).status, "REG") << "for ever";
  EXPECT_EQ(s.give_back(1, "a", {{kDay, 20}, {kHour, 10}, {"none@0+3600", 0}}).integer, 15);
  EXPECT_EQ(s.give_back(1, "a", {{kDay, 20}, {kHour, 10}}).integer, 0) << "repeated";
  EXPECT_EQ(s.give_back(1, "a", {{kDay, 30}, {kHour, 12}}).integer, 0)
      << "more was spent than was known: too late, no harm";
  EXPECT_EQ(s.field(kDay, 1, "free"), 80);
  EXPECT_EQ(s.field(kDay, 1, "r:a"), 20);
  EXPECT_EQ(s.close(1, "never-seen").elements.size(), 0u);
}

TEST_F(Funding_, AckRemovesEntriesAndRaisesWatermarksOnly) {
  const std::string stream = rc::usage_key(s.shard()), marks = rc::watermark_key(s.shard()),
                    ledger = rc::ledger_key(s.shard());
  s.call({"XGROUP", "CREATE", stream, rc::kConsumerGroup, "0", "MKSTREAM"});
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(s.call({"XADD", stream, "*", "r", "record"}).text);
  s.call({"XREADGROUP", "GROUP", rc::kConsumerGroup, "me", "COUNT", "10", "STREAMS", stream, ">"});
  EXPECT_EQ(s.run(rc::kAck, {stream, marks, ledger},
                  {rc::kConsumerGroup, "0", "5", "2", ids[0], ids[1], "a", "7", "b", "9007199254740991"})
                .integer,
            2);
  EXPECT_EQ(s.call({"XLEN", stream}).integer, 1);
  EXPECT_EQ(s.run(rc::kAck, {stream, marks, ledger},
                  {rc::kConsumerGroup, "0", "4", "1", ids[0], "a", "6", "b", "9007199254740990"})
                .integer,
            0)
      << "repeated";
  EXPECT_EQ(s.call({"HGET", ledger, "mark"}).text, "5");
  EXPECT_EQ(s.call({"HGET", marks, "a"}).text, "7");
  EXPECT_EQ(s.call({"HGET", marks, "b"}).text, "9007199254740991");
  EXPECT_EQ(s.call({"XPENDING", stream, rc::kConsumerGroup}).elements.at(0).integer, 1);
}

}  // namespace
}  // namespace tallygate::testing
