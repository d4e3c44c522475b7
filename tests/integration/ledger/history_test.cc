// A ledger that knows less than it once told, and its recovery (migration 0055).
#include "operator/ledger/history.h"

#include <atomic>
#include <thread>

#include "tests/integration/ledger/world.h"

namespace tallygate::testing {
namespace {

const std::string kTenant = "shop/acme";
const int kShard = redis_contract::shard_of(kTenant);
const std::string kBucket = window_of("calls-day");

struct HistoryTest : ::testing::Test {
  LedgerWorld w;
  ledger::HistoryStore history{w.env, w.session};
  ledger::History seen;
  int64_t epoch = 0;

  void SetUp() override {
    w.publish(tenant_record(kTenant, {hard_limit("calls-day", 3000)}));
    epoch = w.open(kShard);
  }
  ledger::StagedRecord use(int64_t seq, int64_t units = 1, const std::string& incarnation = "a") {
    return usage(kShard, incarnation, seq, kTenant, units, {kBucket}, epoch);
  }
  Result<std::vector<ledger::BookedIncarnation>> book(const std::vector<ledger::StagedRecord>& records) {
    return w.store.book(records, {}, &seen);
  }
  // `incarnations`: {"name": last}; `buckets`: of this tenant.
  std::string recover(const std::string& incarnations, const std::string& buckets, int64_t known_epoch) {
    const std::string known = R"({"generation": 0, "mark": 100, "shards": [{"shard": )" + std::to_string(kShard) +
                              R"(, "epoch": )" + std::to_string(known_epoch) + R"(, "incarnations": )" + incarnations +
                              R"(, "buckets": )" + buckets + "}]}";
    return std::string(
        must(w.session.exec("select ledger_recover($1::jsonb, 60, 'ann', 'restored', to_timestamp($2))::text",
                            {known, kNow_s}))
            .text(0, 0));
  }
  int64_t gaps_open(const std::string& first = "{}") {
    const auto gaps = must(history.tend_gaps(first));
    seen.set_gaps(gaps);
    return gaps.open;
  }
  int64_t audited(const std::string& action) {
    return w.number("select count(*) from audit_log where action = $1", {action});
  }
};

TEST_F(HistoryTest, GoesUpWithEachBookingAndRefusesToBookWhereMoreIsKnown) {
  const auto before = must(history.look()).mark;
  must(book({hello(kShard, "a"), use(2)}));
  EXPECT_EQ(must(history.look()).mark, (ledger::Mark{0, before.mark + 1}));
  EXPECT_EQ(seen.known(), must(history.look()).mark);
  seen.heard({0, before.mark + 50});
  const auto refused = book({use(3)});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().errc, Errc::kConflict);
  EXPECT_EQ(w.number("select count(*) from usage_records"), 1);
  EXPECT_EQ(must(history.advance(seen.known())).mark, (ledger::Mark{0, before.mark + 1})) << "it does not catch up";
}

TEST_F(HistoryTest, FoundBehindOnceAndThenNothingIsBookedOrLent) {
  EXPECT_TRUE(must(history.found_behind("mark 9 was known")));
  EXPECT_FALSE(must(history.found_behind("again")));
  EXPECT_EQ(must(history.look()).behind, "mark 9 was known");
  EXPECT_EQ(audited("ledger.found_behind"), 1);
  EXPECT_FALSE(book({hello(kShard, "a")}).has_value());
  const auto lent = w.session.exec("select lendable(1, now())");
  ASSERT_FALSE(lent.has_value());
  EXPECT_EQ(lent.error().errc, Errc::kUnavailable) << "not DRY: a client would be told that its quota is used up";
}

TEST_F(HistoryTest, RecoveryHoldsWhatIsKnownOutsideAndGoesOnAboveIt) {
  must(history.found_behind("test"));
  const auto done = recover("{}",
                            R"([{"epoch": 4, "tenant": "shop/acme", "bucket": ")" + kBucket +
                                R"(", "funded": 1500, "recalled": 200, "ceiling": 900},
                                      {"epoch": 3, "tenant": "shop/acme", "bucket": ")" +
                                kBucket + R"(", "funded": 0, "recalled": 0, "ceiling": 100}])",
                            4);
  EXPECT_EQ(w.held(kTenant, kBucket), 1300 + 100) << done;
  const auto past = must(history.look());
  EXPECT_EQ(past.behind, "");
  EXPECT_EQ(past.mark.generation, 1);
  EXPECT_GT(past.mark.mark, 100);
  EXPECT_EQ(w.open(kShard), 5);
  EXPECT_EQ(audited("ledger.recover"), 1);
}

TEST_F(HistoryTest, WhatIsOutOfALimitThatTheBackupDoesNotKnowIsHeldToo) {
  const std::string bucket = window_of("later-day"), wallet = "later$";
  recover("{}",
          R"([{"epoch": 1, "tenant": "shop/acme", "bucket": ")" + bucket +
              R"(", "funded": 100, "recalled": 30, "ceiling": 0},
                    {"epoch": 1, "tenant": "shop/acme", "bucket": ")" +
              wallet + R"(", "funded": 5, "recalled": 0, "ceiling": 0}])",
          epoch);
  w.publish(tenant_record(kTenant, {hard_limit("calls-day", 3000), hard_limit("later-day", 150)}));
  EXPECT_EQ(w.held(kTenant, bucket), 70);
  EXPECT_EQ(w.held(kTenant, wallet), 5);
}

TEST_F(HistoryTest, AGapIsFilledByItsSidecarAndWhatCameBehindItIsNotLost) {
  must(book({hello(kShard, "a"), use(2, 5)}));
  recover(R"({"a": 4})", "[]", epoch);
  ASSERT_EQ(gaps_open(), 1);
  must(book({use(5, 100)}));  // sent once, and its stream forgets it
  EXPECT_EQ(w.booked(kTenant, kBucket), 5);
  must(book({use(3, 7), use(4, 1)}));
  must(book({}));
  EXPECT_EQ(w.booked(kTenant, kBucket), 113);
  EXPECT_EQ(gaps_open(), 0);
  EXPECT_EQ(audited("usage.gap_closed"), 0);
  EXPECT_FALSE(seen.filling());
}

TEST_F(HistoryTest, AGapThatNobodyFillsIsClosedInTimeAudited) {
  must(book({hello(kShard, "a"), use(2, 5)}));
  recover(R"({"a": 9, "never-heard-of": 3})", "[]", epoch);
  ASSERT_EQ(gaps_open(), 2);
  must(book({use(8, 10), use(9, 20), use(4, 3, "never-heard-of")}));
  w.env.advance_ms(61'000);
  EXPECT_EQ(gaps_open(), 1) << "what waits of `a` is booked first";
  must(book({}));
  EXPECT_EQ(gaps_open(), 0);
  EXPECT_EQ(w.booked(kTenant, kBucket), 5 + 30 + 3);
  EXPECT_EQ(w.number("select sum(lost)::bigint from usage_gaps"), 5 + 3) << "3 to 7 of `a`, 1 to 3 of the other";
  EXPECT_EQ(audited("usage.gap_closed"), 2);
  must(book({use(10, 1), use(5, 1, "never-heard-of")}));
  EXPECT_EQ(w.booked(kTenant, kBucket), 40);
}

TEST_F(HistoryTest, WhatIsParkedBehindAHoleThatIsNoGapKeepsNobodyWaiting) {
  must(book({hello(kShard, "a"), use(2, 5)}));
  recover(R"({"a": 4})", "[]", epoch);
  ASSERT_EQ(gaps_open(), 1);
  must(book({use(7, 10)}));  // 5 and 6 were on their way only
  w.env.advance_ms(61'000);
  gaps_open();
  must(book({}));
  EXPECT_EQ(gaps_open(), 0);
  EXPECT_FALSE(seen.filling());
  EXPECT_EQ(w.number("select count(*) from quarantined_records"), 1);
  EXPECT_EQ(audited("usage.put_aside"), 1);
  must(book({use(5, 1), use(6, 1), use(7, 10)}));  // their sidecar was only slow
  EXPECT_EQ(w.booked(kTenant, kBucket), 5 + 12);
}

TEST_F(HistoryTest, WhatIsParkedBehindASecondHoleIsNotForgotten) {
  must(book({hello(kShard, "a"), use(2, 5)}));
  recover(R"({"a": 4})", "[]", epoch);
  ASSERT_EQ(gaps_open(), 1);
  must(book({use(5, 10), use(6, 10), use(8, 10)}));
  must(book({use(3, 1), use(4, 1)}));
  gaps_open();  // resolved
  must(book({}));
  EXPECT_EQ(w.booked(kTenant, kBucket), 5 + 2 + 20);
  EXPECT_EQ(w.number("select count(*) from usage_parked"), 1);
  gaps_open();
  EXPECT_EQ(w.number("select count(*) from quarantined_records"), 1) << "for a person";
  must(book({use(7, 1), use(8, 10)}));  // its sidecar is there, and sends them again
  EXPECT_EQ(w.booked(kTenant, kBucket), 5 + 2 + 20 + 1 + 10);
}

TEST_F(HistoryTest, WhatASidecarHasNotKeptIsGivenUpAtOnce) {
  must(book({hello(kShard, "a"), use(2, 5)}));
  recover(R"({"a": 9})", "[]", epoch);
  EXPECT_EQ(gaps_open(R"({")" + std::to_string(kShard) + R"(/a": 7})"), 1);
  must(book({use(7, 1), use(8, 1), use(9, 1)}));
  EXPECT_EQ(gaps_open(), 0);
  EXPECT_EQ(w.number("select lost from usage_gaps"), 4);
  EXPECT_EQ(w.booked(kTenant, kBucket), 8);
}

// Batches lock shards, then incarnations, then the history; whoever recovers must not come the other way.
TEST_F(HistoryTest, RecoveringWhileBatchesAreBookedWaitsForNobodyInACircle) {
  must(book({hello(kShard, "a")}));
  std::atomic<bool> done = false;
  std::atomic<int> batches = 0;
  std::string failure;
  std::thread booking([&] {
    ledger::Session session(w.url, ledger::kBookingSetup);
    ledger::EscrowStore store(w.env, session);
    ledger::History own;
    for (int64_t seq = 2; !done; ++seq) {
      const std::vector records{use(seq)};
      if (const auto booked = store.book(records, {}, &own); !booked) failure = booked.error().message;
      ++batches;
    }
  });
  for (int i = 0; i < 30; ++i) {
    const int before = batches;
    recover("{}", "[]", epoch);
    while (batches == before) std::this_thread::yield();  // each recovery meets a batch
  }
  done = true;
  booking.join();
  EXPECT_EQ(failure, "");
  EXPECT_EQ(must(history.look()).mark.generation, 30);
}

TEST_F(HistoryTest, EachLedgerHasAnIdOfItsOwnAndAProcessServesOne) {
  const auto mine = must(history.look());
  EXPECT_EQ(mine.id.size(), 32u);
  must(seen.read(mine));
  EXPECT_EQ(seen.id(), mine.id);
  const LedgerWorld other;
  ledger::Session session(other.url);
  must(session.exec("update ledger_history set id = md5('another')"));  // tests' databases are copies of one
  const auto another = must(ledger::HistoryStore(w.env, session).look());
  EXPECT_NE(another.id, mine.id);
  EXPECT_EQ(seen.read(another).error().errc, Errc::kConflict);
  EXPECT_EQ(seen.known(), mine.mark);
}

}  // namespace
}  // namespace tallygate::testing
