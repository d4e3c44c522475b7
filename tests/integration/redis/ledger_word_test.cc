// What Redis remembers of the ledger's past, and what follows when somebody knows more (docs/adr/0008).
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

namespace rc = redis_contract;
const std::string kDay = "day@" + std::to_string(system_env().wall_s() - 600) + "+86400";

struct LedgerWord : ::testing::Test {
  ScratchRedis server;
  redis::Client client{system_env(), server.endpoint()};
  Scripts s{client};
  const std::string epoch = rc::epoch_key(s.shard()), ledger = rc::ledger_key(s.shard()),
                    marks = rc::watermark_key(s.shard());

  // {highest epoch, generation told, generation and mark known, 1 where the ledger was unknown}
  std::vector<int64_t> pulse(int64_t generation, int64_t mark, int64_t all = 0, const std::string& id = "us") {
    const auto reply =
        s.run(rc::kPulse, {epoch, ledger}, {std::to_string(generation), std::to_string(mark), std::to_string(all), id});
    std::vector<int64_t> numbers;
    for (size_t i = 0; i < 5; ++i) numbers.push_back(reply.elements.at(i).integer);
    served = reply.elements.at(5).text;
    odd = reply.elements.at(6).text;
    return numbers;
  }
  std::string served, odd;  // by the last pulse: the ledger that was told before, and a claim that was refused
  int64_t seal(int64_t generation) { return s.run(rc::kSeal, {epoch, ledger}, {std::to_string(generation)}).integer; }
  // A lease of one unit by a sidecar that has heard so much.
  std::string lease(int64_t generation, int64_t mark, const std::string& id = "us") {
    const auto reply =
        s.run(rc::kLease,
              {epoch, rc::registered_key(s.shard(), 1), rc::closed_key(s.shard(), 1), rc::want_key(s.shard(), 1), marks,
               rc::held_key(s.shard(), 1, "a"), rc::minted_key(s.shard(), 1), rc::heard_key(s.shard()), ledger,
               s.key(kDay, 1)},
              {"1", "a", std::to_string(system_env().wall_ms()), "c", "00", id, std::to_string(generation),
               std::to_string(mark), "1000", "0", "0", "0", s.member(kDay), "0", "0"});
    return reply.elements.at(0).text;
  }
  void SetUp() override {
    ASSERT_EQ(s.open(1), 1);
    s.enrol(1, {"a"});
    ASSERT_EQ(s.fund(1, kDay, {0, 100, 0, 0, "", 1}).integer, 100);
  }
};

// A commit is told to its own shard first. Whoever hears of it there must not take the others for forgetful.
TEST_F(LedgerWord, ACommitInOneShardStopsNobodyInAnother) {
  pulse(0, 100);
  pulse(0, 100, 100);
  const std::string elsewhere = rc::ledger_key(s.shard() + 1);
  s.run(rc::kPulse, {rc::epoch_key(s.shard() + 1), elsewhere}, {"0", "100", "100", "us"});
  s.run(rc::kAck, {rc::usage_key(s.shard() + 1), rc::watermark_key(s.shard() + 1), elsewhere},
        {rc::kConsumerGroup, "0", "101", "0", "a", "7"});
  EXPECT_EQ(s.call({"HGET", elsewhere, "mark"}).text, "101");
  const auto heard =
      s.run(rc::kLease,
            {rc::epoch_key(s.shard() + 1), rc::registered_key(s.shard() + 1, 1), rc::closed_key(s.shard() + 1, 1),
             rc::want_key(s.shard() + 1, 1), rc::watermark_key(s.shard() + 1), rc::held_key(s.shard() + 1, 1, "a"),
             rc::minted_key(s.shard() + 1, 1), rc::heard_key(s.shard() + 1), elsewhere},
            {"1", "a", std::to_string(system_env().wall_ms()), "c", "01", "us", "0", "100"});
  EXPECT_EQ(heard.elements.at(2).integer, 7) << "the watermark of that commit";
  EXPECT_NE(lease(heard.elements.at(4).integer, heard.elements.at(5).integer), "EPOCH");
  EXPECT_TRUE(s.call({"HGET", ledger, "claimed"}).is_nil());
}

TEST_F(LedgerWord, AClaimThatIsNoNumberOfALedgerStopsNobody) {
  pulse(0, 5);
  EXPECT_NE(lease(0, 9'223'372'036'854'775'807), "EPOCH");
  EXPECT_NE(lease(9'007'199'254'740'992, 0), "EPOCH");
  EXPECT_TRUE(s.call({"HGET", ledger, "claimed"}).is_nil());
  pulse(0, 6);
  EXPECT_EQ(odd, "us 9007199254740992.0") << "said once";
  pulse(0, 7);
  EXPECT_EQ(odd, "");
}

// Whoever may lease may write there.
TEST_F(LedgerWord, WhatIsNoCountIsDroppedAndToldAnew) {
  pulse(0, 5, 5);
  for (const std::string field : {"gen", "mark", "cgen", "claimed", "all"}) {
    for (const std::string text : {"abc", "", "-1", "nan", "inf", "1e30", "0.5", "0x10", " 7 ", "9007199254740992"}) {
      s.call({"HSET", ledger, field, text});
      lease(0, 5);  // finds it first
      EXPECT_EQ(pulse(0, 6, 6)[2], 0) << field << " = " << text;
      EXPECT_EQ(odd, field + " is no count") << text;
      EXPECT_NE(lease(0, 5), "EPOCH") << field << " = " << text;
      pulse(0, 6, 6);
      EXPECT_EQ(odd, "");
      EXPECT_EQ(s.call({"HMGET", ledger, "gen", "mark", "cgen"}).elements.at(1).text, "6");
    }
  }
  s.call({"HSET", ledger, "cgen", "abc", "claimed", "x"});
  EXPECT_EQ(seal(0), 1);
}

// A data folder, or a Redis, that has served another ledger says nothing of this one.
TEST_F(LedgerWord, WhatIsKnownOfAnotherLedgerStopsNobody) {
  pulse(0, 5);
  EXPECT_NE(lease(3, 900, "another"), "EPOCH");
  pulse(0, 6);
  EXPECT_EQ(odd, "another 3.900");
  s.call({"DEL", ledger});
  EXPECT_EQ(lease(3, 900, "another"), "EPOCH") << "nobody has told yet whose this server is";
  EXPECT_EQ(pulse(0, 7), (std::vector<int64_t>{1, 0, 0, 0, 1}));
  EXPECT_EQ(odd, "another 3.900");
  EXPECT_NE(lease(3, 900, "another"), "EPOCH");
  EXPECT_EQ(lease(0, 9), "EPOCH") << "of this one it does";
}

TEST_F(LedgerWord, AServerOfAnotherLedgerIsLeftAlone) {
  pulse(0, 500);
  EXPECT_EQ(pulse(2, 7, 7, "another"), (std::vector<int64_t>{1, 0, 0, 0, 0}));
  EXPECT_EQ(served, "us");
  EXPECT_EQ(s.run(rc::kTell, {ledger, marks}, {"2", "900", "another"}).integer, 0);
  EXPECT_EQ(s.call({"HMGET", ledger, "id", "mark"}).elements.at(1).text, "500");
}

TEST_F(LedgerWord, OnlyEverGoesUp) {
  EXPECT_EQ(pulse(0, 5), (std::vector<int64_t>{1, 0, 0, 0, 1}));
  EXPECT_EQ(pulse(0, 7), (std::vector<int64_t>{1, 0, 0, 5, 0}));
  EXPECT_EQ(pulse(0, 6), (std::vector<int64_t>{1, 0, 0, 7, 0})) << "a ledger that has gone back is told so";
  EXPECT_EQ(s.call({"HGET", ledger, "mark"}).text, "7");
}

TEST_F(LedgerWord, NothingIsLeasedToWhoKnowsMoreUntilTheLedgerHasToldAsMuch) {
  pulse(0, 5);
  EXPECT_NE(lease(0, 5), "EPOCH");
  s.call({"DEL", ledger});  // this server has forgotten
  EXPECT_EQ(lease(0, 9), "EPOCH");
  EXPECT_EQ(lease(0, 0), "EPOCH") << "nor to anybody else: it may be the ledger that has forgotten";
  EXPECT_EQ(pulse(0, 8)[3], 9);
  EXPECT_EQ(lease(0, 0), "EPOCH");
  pulse(0, 9);
  EXPECT_NE(lease(0, 9), "EPOCH") << "it was the server";
}

TEST_F(LedgerWord, ASealedShardLeasesNothingAndItsIdleUnitsComeOut) {
  pulse(0, 5);
  s.lease(1, "a", {{kDay, 30, 30}});
  EXPECT_EQ(seal(0), 1);
  EXPECT_EQ(seal(0), 1) << "repeated";
  EXPECT_EQ(s.renew(), 0);
  EXPECT_EQ(lease(0, 5), "EPOCH");
  const auto taken = s.run(rc::kVoid, {ledger, s.key(kDay, 1)}, {"1"});
  EXPECT_EQ(taken.elements.at(0).integer, 100);
  EXPECT_EQ(taken.elements.at(1).integer, 70) << "what was not leased";
  EXPECT_EQ(s.run(rc::kVoid, {ledger, s.key(kDay, 1)}, {"1"}).elements.at(1).integer, 70);
  EXPECT_EQ(s.open(2), 2);
  EXPECT_EQ(s.renew(), 2) << "only a newer epoch opens it again";
}

TEST_F(LedgerWord, ANewGenerationBringsItsWatermarksAndIsNotSealedByWhoIsLate) {
  pulse(0, 5);
  s.call({"HSET", marks, "a", "20", "gone", "7"});
  seal(0);
  const std::vector<std::string> keys{ledger, marks};
  EXPECT_EQ(s.run(rc::kTell, keys, {"0", "4", "us", "a", "1"}).integer, 0) << "less than is known";
  EXPECT_EQ(s.run(rc::kTell, keys, {"1", "6", "us", "a", "8"}).integer, 1);
  EXPECT_EQ(s.call({"HGET", marks, "a"}).text, "8");
  EXPECT_TRUE(s.call({"HGET", marks, "gone"}).is_nil());
  EXPECT_EQ(seal(0), 0);
  EXPECT_TRUE(s.call({"HGET", ledger, "behind"}).is_nil());
  EXPECT_EQ(pulse(1, 7), (std::vector<int64_t>{1, 1, 1, 6, 0}));
}

}  // namespace
}  // namespace tallygate::testing
