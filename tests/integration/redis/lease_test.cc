// lease on a real Redis: all or nothing, cumulative, clamped; a refused call changes no unit (I5 DenialIsFree).
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kMax = (int64_t{1} << 53) - 1;
const std::string kDay = "day@" + std::to_string(system_env().wall_s() - 3600) + "+86400";
const std::string kHour = "hour@" + std::to_string(system_env().wall_s() - 600) + "+3600";

class Lease : public ::testing::Test {
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

TEST_F(Lease, MovesUnitsToOneHolder) {
  s.fund(1, kDay, {0, 1000, 500, 7, "", 100});
  const auto answer = s.lease(1, "a", {{kDay, 1, 100}});
  EXPECT_EQ(answer.status, "GRANT");
  EXPECT_EQ(answer.epoch, 1);
  EXPECT_EQ(answer.watermark, 0);
  ASSERT_EQ(answer.grants.size(), 1u);
  EXPECT_EQ(answer.grants[0], (Grant{100, 900 + 500, 7, ""}));
  EXPECT_EQ(s.field(kDay, 1, "free"), 900);
  EXPECT_EQ(s.field(kDay, 1, "g:a"), 100);
  EXPECT_EQ(s.call({"ZRANGE", redis_contract::held_key(s.shard(), 1, "a"), "0", "-1"}).elements.at(0).text,
            s.member(kDay));
}

// Who gets nothing learns whether others have some that they may not need: it need not wait for the window's end.
TEST_F(Lease, TellsWhatLiesUnusedWithOthers) {
  s.fund(1, kDay, {0, 100, 0, 0, "v1", 1});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 100, 100}}).grants[0].lying, 0) << "one's own is not told";
  const auto none = s.lease(1, "b", {{kDay, 1, 1}});
  EXPECT_EQ(none.status, "DRY");
  EXPECT_EQ(none.grants[0].lying, 100);
  s.lease(1, "a", {{kDay, 0, 0, 0, 0, 70}});
  EXPECT_EQ(s.lease(1, "b", {{kDay, 1, 1}}).grants[0].lying, 30);
  s.lease(1, "a", {{kDay, 0, 0, 20, 0, 70}});
  const auto some = s.lease(1, "b", {{kDay, 5, 5}});
  EXPECT_EQ(some.status, "GRANT");
  EXPECT_EQ(some.grants[0].lying, 10);
  EXPECT_EQ(s.lease(1, "a", {{kDay, 0, 0, 20, 0, 80}}).grants[0].lying, 5);
  EXPECT_EQ(s.lease(1, "b", {{kDay, 0, 0, 0, 0, 5}}).grants[0].lying, 0);
  EXPECT_EQ(s.field(kDay, 1, "lying"), 0);
}

TEST_F(Lease, WhatLiesWithSomebodyWhoIsGoneIsNotPromised) {
  s.fund(1, kDay, {0, 100, 0, 0, "v1", 1});
  s.lease(1, "a", {{kDay, 100, 100}});
  s.call({"HSET", s.key(kDay, 1), "told", std::to_string(system_env().wall_s() - 60)});
  EXPECT_EQ(s.lease(1, "b", {{kDay, 1, 1}}).grants[0].lying, 0) << "nobody has told anything for a minute";
  s.close(1, "a");
  s.give_back(1, "a", {{kDay, 40}});
  EXPECT_EQ(s.field(kDay, 1, "lying"), 0);
  EXPECT_EQ(s.field(kDay, 1, "free"), 60);
}

TEST_F(Lease, RepeatedOrLateCallsGrantNothingTwice) {
  s.fund(1, kDay, {0, 1000, 0, 0, "", 1});
  s.lease(1, "a", {{kDay, 10, 10}});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 10, 10}}).grants[0].granted, 10);
  s.lease(1, "a", {{kDay, 60, 60, 5}});
  const std::string before = s.dump();
  EXPECT_EQ(s.lease(1, "a", {{kDay, 10, 10, 0}}).grants[0].granted, 60)
      << "a late call learns of what was granted since";
  EXPECT_EQ(s.lease(1, "a", {{kDay, 60, 60, 5}}).grants[0].granted, 60);
  EXPECT_EQ(s.lease(1, "a", {{kDay, 10, 10, 3}}).grants[0].granted, 60);
  EXPECT_EQ(s.dump(), before);
  EXPECT_EQ(s.field(kDay, 1, "free"), 945);
}

TEST_F(Lease, AllBucketsOrNone) {
  s.fund(1, kDay, {0, 1000, 0, 0, "", 1});
  s.fund(1, kHour, {0, 5, 0, 0, "v9", 1});
  const auto answer = s.lease(1, "a", {{kDay, 10, 10}, {kHour, 10, 10}});
  EXPECT_EQ(answer.status, "DRY");
  EXPECT_EQ(answer.grants[0], (Grant{0, 1000, 0, ""}));
  EXPECT_EQ(answer.grants[1], (Grant{0, 5, 0, "v9"})) << "the one that is short names the ledger's version";
  EXPECT_EQ(s.field(kDay, 1, "free"), 1000);
  EXPECT_EQ(s.field(kHour, 1, "free"), 5);
}

TEST_F(Lease, AShortBucketWaitsUnlessTheLedgerIsExhausted) {
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}}).status, "WAIT");
  s.fund(1, kDay, {0, 0, 0, 0, "v1", 1});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}}).status, "DRY");
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}, {kHour, 1, 1}}).status, "DRY") << "whichever comes first";
  EXPECT_EQ(s.lease(1, "a", {{kHour, 1, 1}, {kDay, 1, 1}}).status, "DRY");
}

TEST_F(Lease, RefusedCallsChangeNoUnit) {
  s.fund(1, kDay, {0, 3, 0, 0, "", 1});
  s.lease(1, "a", {{kDay, 2, 2}});
  const auto units = [&] {
    std::string text;
    for (const char* name : {"f", "rc", "free", "g:a", "r:a", "g:b", "r:b"}) {
      text += std::to_string(s.field(kDay, 1, name)) + " ";
    }
    return text;
  };
  const std::string before = units();
  EXPECT_EQ(s.lease(1, "a", {{kDay, 10, 10}}).status, "WAIT");
  EXPECT_EQ(s.lease(1, "x", {{kDay, 1, 1}}).status, "REG");
  EXPECT_EQ(s.lease(2, "a", {{kDay, 1, 1}}).status, "EPOCH");
  EXPECT_EQ(s.fund(1, kDay, {4, 100, 0, 0, "", 1}).text, "LOST");
  s.close(1, "b");
  EXPECT_EQ(s.lease(1, "b", {{kDay, 1, 1}}).status, "REG");
  EXPECT_EQ(units(), before);
}

TEST_F(Lease, ReturnsAreTakenEvenWhereNothingIsGranted) {
  s.fund(1, kDay, {0, 10, 0, 0, "", 1});
  s.lease(1, "a", {{kDay, 10, 10}});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 0, 0, 4}}).status, "GRANT");
  EXPECT_EQ(s.field(kDay, 1, "free"), 4);
  EXPECT_EQ(s.lease(1, "a", {{kDay, 30, 30, 6}}).status, "WAIT");
  EXPECT_EQ(s.field(kDay, 1, "free"), 6);
  EXPECT_EQ(s.lease(1, "a", {{kDay, 0, 0, 11}}).status, "GRANT") << "more than was granted: a contradiction, ignored";
  EXPECT_EQ(s.field(kDay, 1, "free"), 6);
  EXPECT_EQ(s.lease(1, "b", {{kDay, 0, 0, 5}}).status, "GRANT") << "nothing was granted to b";
  EXPECT_EQ(s.field(kDay, 1, "free"), 6);
}

TEST_F(Lease, TheBestIsClampedByWhatOthersMayNeed) {
  s.enrol(1, {"c", "d"});  // 4 holders
  s.fund(1, kDay, {0, 800, 0, 0, "", 1});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 500}}).grants[0].granted, 100) << "800 / (2 x 4)";
  EXPECT_EQ(s.lease(1, "b", {{kDay, 1, 50}}).grants[0].granted, 50);
  EXPECT_EQ(s.lease(1, "c", {{kDay, 600, 700}}).grants[0].granted, 600) << "the least is never clamped";
  s.close(1, "d");
  EXPECT_EQ(s.lease(1, "b", {{kDay, 51, 90}}).grants[0].granted, 58) << "50 / (2 x 3), rounded down";
  EXPECT_EQ(s.lease(1, "a", {{kDay, 142, 500}}).grants[0].granted, 142) << "the last units, one request at a time";
  EXPECT_EQ(s.field(kDay, 1, "free"), 0);
}

TEST_F(Lease, ABucketNamedTwiceIsRefused) {
  s.fund(1, kDay, {0, 1000, 0, 0, "", 1});
  const std::string before = s.dump();
  // Each would be planned from the same state: the first answer would promise what only the second has booked.
  EXPECT_FALSE(s.try_lease(1, "a", {{kDay, 50, 50}, {kDay, 10, 10}}).has_value());
  EXPECT_EQ(s.dump(), before);
}

TEST_F(Lease, WithoutBucketsItIsTheHeartbeat) {
  s.call({"HSET", redis_contract::watermark_key(s.shard()), "a", "41"});
  const auto answer = s.lease(1, "a", {});
  EXPECT_EQ(answer.status, "GRANT");
  EXPECT_EQ(answer.watermark, 41);
  EXPECT_EQ(s.lease(7, "a", {}).watermark, 41) << "the watermark comes with any answer";
  EXPECT_EQ(s.lease(7, "a", {}).epoch, 1);
}

TEST_F(Lease, LargeNumbersAreExact) {
  EXPECT_EQ(s.fund(1, kDay, {0, kMax, 0, kMax, "", 1}).integer, kMax);
  EXPECT_EQ(s.call({"HGET", s.key(kDay, 1), "f"}).text, "9007199254740991");
  auto answer = s.lease(1, "a", {{kDay, kMax - 2, kMax - 2}});
  EXPECT_EQ(answer.grants[0], (Grant{kMax - 2, 2, kMax, ""}));
  EXPECT_EQ(s.call({"HGET", s.key(kDay, 1), "free"}).text, "2");
  EXPECT_EQ(s.lease(1, "a", {{kDay, kMax - 1, kMax, kMax - 4}}).grants[0].granted, kMax);
  EXPECT_EQ(s.call({"HGET", s.key(kDay, 1), "r:a"}).text, "9007199254740987");
  EXPECT_EQ(s.call({"HGET", s.key(kDay, 1), "free"}).text, "9007199254740987");
  EXPECT_EQ(s.recall(1, kDay, kMax).integer, kMax - 4);
  EXPECT_EQ(s.call({"HGET", s.key(kDay, 1), "rc"}).text, "9007199254740987");
}

TEST_F(Lease, AnUnboundedLedgerSaturates) {
  s.fund(1, kDay, {0, 5000, kMax, 0, "", 1});
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}}).grants[0].remaining, kMax) << "2^53 and more would not be exact";
}

// Redis-only windows.

std::string minute(int64_t start_s) { return "burst@" + std::to_string(start_s) + "+60"; }

TEST_F(Lease, ARedisOnlyWindowIsMintedOnceAndExpires) {
  const int64_t now_s = system_env().wall_s();
  const std::string bucket = minute(now_s);
  auto answer = s.lease(1, "a", {{bucket, 10, 10, 0, 100}});
  EXPECT_EQ(answer.status, "GRANT");
  EXPECT_EQ(answer.grants[0], (Grant{10, 90, 0, ""}));
  EXPECT_NEAR(static_cast<double>(s.call({"PEXPIRETIME", s.key(bucket, 1)}).integer),
              static_cast<double>((now_s + 60 + 3600) * 1000), 2000);
  EXPECT_EQ(s.lease(1, "b", {{bucket, 90, 90, 0, 100}}).status, "GRANT");
  answer = s.lease(1, "b", {{bucket, 91, 91, 0, 100}});
  EXPECT_EQ(answer.status, "DRY") << "there is no ledger to ask";
  EXPECT_EQ(answer.grants[0].granted, 90);
  EXPECT_EQ(s.lease(1, "b", {{bucket, 90, 90, 40, 500}}).status, "GRANT");
  EXPECT_EQ(s.field(bucket, 1, "free"), 40) << "a changed limit mints nothing more";
  EXPECT_EQ(s.field(bucket, 1, "f"), 100);
  EXPECT_TRUE(s.call({"ZRANGE", redis_contract::want_key(s.shard(), 1), "0", "-1"}).elements.empty());
}

TEST_F(Lease, AWindowLongOverIsNotMintedAgain) {
  const std::string bucket = minute(system_env().wall_s() - 7200);
  const auto answer = s.lease(1, "a", {{bucket, 10, 10, 0, 100}});
  EXPECT_EQ(answer.status, "DRY") << "its key has expired: minted again it would have a second limit";
  EXPECT_EQ(answer.grants[0].granted, 0);
  EXPECT_EQ(s.call({"EXISTS", s.key(bucket, 1)}).integer, 0);
}

// A limit a second, for a day: 86,400 windows.
TEST_F(Lease, WindowsThatEndedLeaveWhatAnIncarnationHolds) {
  s.fund(1, kDay, {0, 1000, 0, 0, "", 1});
  s.lease(1, "a", {{kDay, 1, 1}});
  const int64_t now_s = system_env().wall_s();
  for (int64_t start_s = now_s - 1500; start_s <= now_s; ++start_s) {
    s.ahead_ms = (start_s - now_s) * 1000;  // the time that it is for everybody
    s.run(redis_contract::kRenew, {redis_contract::epoch_key(s.shard())}, {"1", std::to_string(s.ahead_ms)});
    s.lease(1, "a", {{"each@" + std::to_string(start_s) + "+1", 1, 1, 0, 100}});
  }
  const auto held = s.close(1, "a");
  EXPECT_LE(held.elements.size(), 70u) << "a minute's, and the day's";
  EXPECT_GE(held.elements.size(), 60u);
  EXPECT_TRUE(
      std::any_of(held.elements.begin(), held.elements.end(), [&](const auto& e) { return e.text == s.member(kDay); }));
}

TEST_F(Lease, OnlyTheWindowThatIsNowIsMinted) {
  const int64_t now_s = system_env().wall_s();
  for (const int64_t start_s : {now_s + 10, now_s + 600, now_s - 70, now_s - 660}) {
    EXPECT_EQ(s.lease(1, "a", {{minute(start_s), 1, 1, 0, 100}}).status, "DRY") << start_s - now_s;
    EXPECT_EQ(s.call({"EXISTS", s.key(minute(start_s), 1)}).integer, 0);
  }
  EXPECT_EQ(s.lease(1, "a", {{minute(now_s - 50), 1, 1, 0, 100}}).status, "GRANT");
}

// As an eviction does to keys that expire, under maxmemory-policy volatile-*.
TEST_F(Lease, AWindowWhoseBucketVanishedIsNotMintedAgain) {
  const int64_t now_s = system_env().wall_s();
  const std::string before = minute(now_s - 60), now = minute(now_s);
  for (const auto& bucket : {now, before}) {  // the one before last: somebody's clock is a little behind
    EXPECT_EQ(s.lease(1, "a", {{bucket, 100, 100, 0, 100}}).grants[0].granted, 100);
  }
  for (const auto& bucket : {before, now, before, now}) {
    s.call({"DEL", s.key(bucket, 1)});
    const auto answer = s.lease(1, "b", {{bucket, 1, 1, 0, 100}});
    EXPECT_EQ(answer.status, "DRY") << bucket;
    EXPECT_EQ(answer.grants[0].granted, 0);
    EXPECT_EQ(s.call({"EXISTS", s.key(bucket, 1)}).integer, 0);
  }
  EXPECT_EQ(s.lease(1, "b", {{"other@" + std::to_string(now_s) + "+60", 1, 1, 0, 100}}).status, "GRANT");
  EXPECT_EQ(s.call({"HLEN", redis_contract::minted_key(s.shard(), 1)}).integer, 2) << "one a limit, not a window";
  EXPECT_EQ(s.call({"PTTL", redis_contract::minted_key(s.shard(), 1)}).integer, -1);
}

// I1: what an epoch before this one minted of the windows that are now is not known. They begin before it was opened.
TEST_F(Lease, AWindowThatAnEpochBeforeMayHaveMintedIsNotMintedAgain) {
  const int64_t now_s = system_env().wall_s();
  const std::string now = minute(now_s - 10);
  EXPECT_EQ(s.lease(1, "a", {{now, 100, 100, 0, 100}}).status, "GRANT") << "the first epoch there ever was";
  s.call({"FLUSHALL"});
  ASSERT_EQ(s.open(2), 2);
  s.enrol(2, {"a"});
  const std::string before = s.dump();
  const auto lost = s.lease(2, "a", {{now, 1, 1, 0, 100}});
  EXPECT_EQ(lost.status, "LOST");
  EXPECT_EQ(lost.grants[0].granted, 0);
  EXPECT_EQ(s.lease(2, "a", {{"other@" + std::to_string(now_s - 1) + "+60", 1, 1, 0, 100}}).status, "LOST")
      << "nobody knows whether it was minted";
  EXPECT_EQ(s.call({"EXISTS", s.key(now, 2)}).integer, 0);
  EXPECT_EQ(s.lease(2, "a", {{"soft@" + std::to_string(now_s - 1) + "+60", 1, 1, 0, 100, 0, true}}).status, "GRANT");
  s.ahead_ms = 60'000;
  s.run(redis_contract::kRenew, {redis_contract::epoch_key(s.shard())}, {"2", "60000"});
  EXPECT_EQ(s.lease(2, "a", {{minute(now_s + 50), 60, 60, 0, 100}}).status, "GRANT") << "the next one";
  EXPECT_EQ(s.lease(2, "a", {{minute(now_s + 50), 101, 101, 0, 100}}).status, "DRY");
}

TEST_F(Lease, AWindowThatBeginsInAMomentIsAwaited) {
  const int64_t next_s = system_env().wall_s() + 100;
  const auto at_ms_before = [&](int64_t ms) {
    s.ahead_ms = next_s * 1000 - ms - system_env().wall_ms();
    s.run(redis_contract::kRenew, {redis_contract::epoch_key(s.shard())}, {"1", std::to_string(s.ahead_ms)});
  };
  at_ms_before(1900);
  EXPECT_EQ(s.lease(1, "a", {{minute(next_s), 1, 1, 0, 100}}).status, "WAIT");
  EXPECT_EQ(s.call({"EXISTS", s.key(minute(next_s), 1)}).integer, 0);
  at_ms_before(-1000);
  EXPECT_EQ(s.lease(1, "a", {{minute(next_s), 1, 1, 0, 100}}).status, "GRANT");
}

// Clocks (docs/PROTOCOL.md).

TEST_F(Lease, ACallerWhoseClockIsOffIsToldTheTimeAndGivenNothing) {
  s.fund(1, kDay, {0, 1000, 0, 0, "", 1});
  EXPECT_EQ(s.lease(1, "a", {}).status, "GRANT");  // a sign of life
  const std::string before = s.dump();
  for (const int64_t ahead_ms : {600'000, 2'500, -90'000}) {
    s.ahead_ms = ahead_ms;
    const auto answer = s.lease(1, "a", {{kDay, 10, 10}});
    EXPECT_EQ(answer.status, "CLOCK") << ahead_ms;
    EXPECT_TRUE(answer.grants.empty());
    EXPECT_NEAR(static_cast<double>(answer.ledger_ms), static_cast<double>(system_env().wall_ms()), 1000);
    EXPECT_EQ(s.lease(1, "a", {}).status, "GRANT") << "the heartbeat is how the time is learned";
  }
  EXPECT_EQ(s.dump(), before);
  s.ahead_ms = 1'000;
  EXPECT_EQ(s.lease(1, "a", {{kDay, 10, 10}}).status, "GRANT");
}

TEST_F(Lease, TheScriptsFollowTheLedgersClockNotTheServers) {
  const auto tell = [&](int64_t epoch, int64_t ahead_ms) {
    return s
        .run(redis_contract::kRenew, {redis_contract::epoch_key(s.shard())},
             {std::to_string(epoch), std::to_string(ahead_ms)})
        .to_integer(-1);
  };
  EXPECT_EQ(tell(7, 999'000), 1) << "another epoch's: nothing is taken of it";
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}}).status, "WAIT");
  EXPECT_EQ(tell(1, 600'000), 1);
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}}).status, "CLOCK");
  s.ahead_ms = 600'000;
  EXPECT_EQ(s.lease(1, "a", {{kDay, 1, 1}}).status, "WAIT");
  const auto score = s.call({"ZSCORE", redis_contract::want_key(s.shard(), 1), s.member(kDay)}).text;
  EXPECT_NEAR(std::stod(score), static_cast<double>(system_env().wall_ms() + 600'000), 2000);
  const int64_t ledger_s = system_env().wall_s() + 600;
  EXPECT_EQ(s.lease(1, "a", {{minute(ledger_s), 1, 1, 0, 100}}).status, "GRANT");
  EXPECT_EQ(s.lease(1, "a", {{minute(ledger_s - 600), 1, 1, 0, 100}}).status, "DRY");
  EXPECT_EQ(s.open(2), 2);
  s.enrol(2, {"a"});
  EXPECT_EQ(s.lease(2, "a", {{kDay, 1, 1}}).status, "CLOCK") << "an epoch is opened with an offset of its own";
}

TEST_F(Lease, ARefusedMintLeavesNothing) {
  const std::string bucket = minute(system_env().wall_s());
  EXPECT_EQ(s.lease(1, "a", {{bucket, 101, 101, 0, 100}}).status, "DRY");
  EXPECT_EQ(s.lease(1, "a", {{bucket, 5, 5, 0, 100}, {kDay, 1, 1}}).status, "WAIT");
  EXPECT_EQ(s.call({"EXISTS", s.key(bucket, 1)}).integer, 0);
  const std::string before = s.dump();
  EXPECT_FALSE(s.try_lease(1, "a", {{"units$", 5, 5, 0, 100}}).has_value()) << "a wallet has no window to mint";
  EXPECT_EQ(s.dump(), before);
}

}  // namespace
}  // namespace tallygate::testing
