#include "tests/integration/ledger/world.h"

namespace tallygate::testing {
namespace {

const std::string kTenant = "shop/acme";
const int kShard = redis_contract::shard_of(kTenant);
const std::string kBucket = window_of("calls-day");

struct BookingTest : ::testing::Test {
  LedgerWorld w;
  int64_t epoch = 0;
  void SetUp() override {
    w.publish(tenant_record(kTenant, {hard_limit("calls-day", 7000)}));
    epoch = w.open(kShard);
  }
  ledger::StagedRecord use(int64_t seq, int64_t units = 1, const std::string& incarnation = "a") {
    return usage(kShard, incarnation, seq, kTenant, units, {kBucket}, epoch);
  }
  int64_t records() { return w.number("select count(*) from usage_records"); }
};

TEST_F(BookingTest, BooksInOrderAndAnswersTheWatermark) {
  EXPECT_EQ(w.book({hello(kShard, "a"), use(2, 5), use(3, 7)}), 3);
  EXPECT_EQ(w.booked(kTenant, kBucket), 12);
  EXPECT_EQ(records(), 2);
  EXPECT_EQ(w.number("select requests from escrow_accounts"), 2);
  EXPECT_EQ(
      w.number(
          "select count(*) from usage_records where dims ->> 'route' = 'chat' and buckets = array[$1] and flag is null",
          {kBucket}),
      2);
}

TEST_F(BookingTest, DrawsTheFloatDown) {
  const auto funded = w.fund({kShard, epoch, kTenant, kBucket, 0, 0, 0, 0});
  w.book({hello(kShard, "a"), use(2, 5)});
  EXPECT_EQ(w.held(kTenant, kBucket), funded.total - 5);
  EXPECT_EQ(w.number("select available(id, to_timestamp($1)) from escrow_accounts", {kNow_s}), 7000 - funded.total);
}

TEST_F(BookingTest, BooksARecordOnceHoweverOftenItComes) {
  const std::vector<ledger::StagedRecord> batch = {hello(kShard, "a"), use(2, 5), use(2, 5), use(3, 7),
                                                   hello(kShard, "a")};
  EXPECT_EQ(w.book(batch), 3);
  EXPECT_EQ(w.book(batch), 3);
  EXPECT_EQ(w.book({use(3, 7), use(4, 1)}), 4);
  EXPECT_EQ(w.booked(kTenant, kBucket), 13);
  EXPECT_EQ(records(), 3);
}

TEST_F(BookingTest, StopsAtAGapUntilTheMissingRecordComes) {
  EXPECT_EQ(w.book({hello(kShard, "a"), use(2, 1), use(4, 100)}), 2);
  EXPECT_EQ(w.book({use(5, 100)}), 2);
  EXPECT_EQ(w.booked(kTenant, kBucket), 1);
  EXPECT_EQ(w.book({use(5, 3), use(3, 1), use(4, 2)}), 5);  // out of order within a batch is in order
  EXPECT_EQ(w.booked(kTenant, kBucket), 7);
}

TEST_F(BookingTest, KeepsIncarnationsApart) {
  const auto booked = must(w.store.book(std::vector{hello(kShard, "a"), hello(kShard, "b"), use(2, 1, "a"),
                                                    use(3, 1, "b"), use(2, 1, "b"), use(3, 1, "c")},
                                        {}));
  ASSERT_EQ(booked.size(), 2u);  // "c" never said hello: nothing is known of it
  for (const auto& one : booked) {
    EXPECT_EQ(one.watermark, one.incarnation == "a" ? 2 : 3);
    EXPECT_TRUE(one.may_lease);
    EXPECT_EQ(one.epoch, epoch);
  }
  EXPECT_EQ(w.booked(kTenant, kBucket), 3);
}

TEST_F(BookingTest, TheSameIncarnationOfAnotherShardIsAnother) {
  const int other = (kShard + 1) % 64;
  const auto booked = must(w.store.book(std::vector{hello(kShard, "a"), use(2), hello(other, "a")}, {}));
  ASSERT_EQ(booked.size(), 2u);
  EXPECT_EQ(booked[0].watermark + booked[1].watermark, 3);
}

TEST_F(BookingTest, RegistersInTheCurrentEpochAndIsAMember) {
  w.env.advance_ms(1000);
  EXPECT_EQ(w.open(kShard), 2);
  w.book({hello(kShard, "a")});
  EXPECT_EQ(w.number("select first_epoch from incarnations"), 2);
  const int shards[] = {kShard};
  const auto members = must(w.store.members(shards));
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members[0].number, 2);
  EXPECT_EQ(members[0].incarnations, std::vector<std::string>{"a"});
}

TEST_F(BookingTest, ATornIncarnationIsGoneAndStillBooks) {
  w.book({hello(kShard, "a"), use(2, 1)});
  ledger::StagedRecord torn = hello(kShard, "b");
  torn.record.kind = redis_contract::RecordKind::kTorn;
  torn.record.seq = 2;
  torn.record.torn_incarnation = "a";
  const auto booked = must(w.store.book(std::vector{hello(kShard, "b"), torn, use(3, 1, "a")}, {}));
  EXPECT_EQ(booked.size(), 2u);
  EXPECT_EQ(w.number("select last_epoch from incarnations where incarnation = 'a' and torn"), epoch);
  const int shards[] = {kShard};
  EXPECT_EQ(must(w.store.members(shards))[0].incarnations, std::vector<std::string>{"b"});
  EXPECT_EQ(w.booked(kTenant, kBucket), 2);
}

TEST_F(BookingTest, KeepsFinalReports) {
  ledger::StagedRecord report = hello(kShard, "a");
  report.record.kind = redis_contract::RecordKind::kFinal;
  report.record.seq = 2;
  report.record.epoch = 1;
  report.record.ceilings = {{kBucket, 40}};
  w.book({hello(kShard, "a"), report});
  report.record.seq = 3;
  report.record.ceilings = {{kBucket, 30}};
  EXPECT_EQ(w.book({report}), 3);
  EXPECT_EQ(w.number("select ceiling from final_reports where epoch = 1 and name = $1", {kBucket}), 30);
}

TEST_F(BookingTest, SkipsBucketsThatLiveInRedisAlone) {
  auto record = use(2, 5);
  record.record.buckets = {kBucket, "calls-minute@1795000020+60"};
  w.book({hello(kShard, "a"), record});
  EXPECT_EQ(w.number("select count(*) from escrow_accounts"), 1);
}

TEST_F(BookingTest, LosesNoUsageOfWhatItDoesNotKnow) {
  auto stranger = use(2, 5);
  stranger.record.tenant = "shop/stranger";
  auto allowed = use(3, 4);  // admitted while unavailable: no lease, no float, no bucket
  allowed.record.epoch = 0;
  allowed.record.buckets = {};
  auto late = use(4, 3);  // of a window that is long over
  late.record.buckets = {"calls-day@1700000000+86400"};
  EXPECT_EQ(w.book({hello(kShard, "a"), stranger, allowed, late}), 4);
  EXPECT_EQ(w.number("select count(*) from usage_records where flag = 'unknown-tenant'"), 1);
  EXPECT_EQ(w.booked("shop/stranger", kBucket), 5);
  EXPECT_EQ(w.booked(kTenant, "calls-day@1700000000+86400"), 3);
  EXPECT_EQ(w.number("select sum(units) from usage_records"), 12);
}

TEST_F(BookingTest, TakesFreeTextAsItComes) {
  auto odd = use(2, 1);
  odd.record.dims = {{"a", std::string("\xff\xfe tab\\ \xc3\xa9", 10)}, {"b", "\\N"}};
  ledger::StagedRecord greeting = hello(kShard, "a");
  greeting.record.pod = "p\xc0\xaf";
  EXPECT_EQ(w.book({greeting, odd}), 2);
  EXPECT_EQ(w.number("select count(*) from usage_records where dims ->> 'b' = '\\N'"), 1);
}

TEST_F(BookingTest, WhoseHelloIsPoisonIsRegisteredAllTheSame) {
  const ledger::PoisonRecord poison{kShard, "1-1", "H\ta\t1", "hello: boot id", "a", 1};
  const auto booked = must(w.store.book(std::vector{use(2)}, std::span(&poison, 1)));
  ASSERT_EQ(booked.size(), 1u);
  EXPECT_EQ(booked[0].watermark, 2);
  EXPECT_TRUE(booked[0].may_lease);
  EXPECT_EQ(w.number("select count(*) from quarantined_records"), 1);
}

TEST_F(BookingTest, QuarantinesPoisonOnceBesideTheRest) {
  const ledger::PoisonRecord poison{kShard, "1-1", std::string("\x00\xff junk", 7), "not a record"};
  must(w.store.book(std::vector{hello(kShard, "a"), use(2)}, std::span(&poison, 1)));
  must(w.store.book({}, std::span(&poison, 1)));
  EXPECT_EQ(w.number("select count(*) from quarantined_records where length(raw) = 7"), 1);
  EXPECT_EQ(records(), 1);
}

TEST_F(BookingTest, SumsWithoutOverflow) {
  std::vector<ledger::StagedRecord> batch = {hello(kShard, "a")};
  for (int64_t seq = 2; seq < 300; ++seq) batch.push_back(use(seq, kMaxInteger));
  EXPECT_EQ(w.book(batch), 299);
  EXPECT_EQ(w.booked(kTenant, kBucket), int64_t{1} << 60);
}

}  // namespace
}  // namespace tallygate::testing
