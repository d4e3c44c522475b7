// Records files come and go; what a successor needs is always in those that are left.
#include "core/money.h"
#include "core/redis_contract/record.h"
#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

size_t records_files(const std::string& folder) { return RecordFiles::list(folder).size(); }

void acknowledge_all(UsageLog& log) {
  for (const auto& [shard, queue] : log.outbox().shards()) {
    ASSERT_TRUE(log.outbox().acknowledge(shard, queue.last_seq()));
  }
  log.trim();
}

TEST(UsageLogRotation, AnInFlightSlotFindsItsDefinitionAfterManyRotations) {
  TempFolder temp;
  {
    LogLimits limits;
    limits.max_file_bytes = 2000;
    auto created = UsageLog::create(temp / "inc-a", identity(), limits);
    UsageLog& log = **created;
    const uint32_t old = log.define(definition("shop/stream", 1)).value();
    const int64_t estimate[] = {500}, one[] = {1};
    ASSERT_NE(log.admit(old, estimate, kSecond), nullptr);
    for (int i = 0; i < 400; ++i) {
      const uint32_t other = log.define(definition("shop/t" + std::to_string(i % 40), 1)).value();
      Slot* slot = log.admit(other, one, kSecond + i);
      ASSERT_NE(slot, nullptr);
      log.settle(slot, one);
      ASSERT_TRUE(log.commit_batch().has_value());
      acknowledge_all(log);
      ASSERT_LE(records_files(log.folder()), 2u);
    }
    EXPECT_FALSE(std::filesystem::exists(log.folder() + "/records-0"));
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ((*found)->recovered_admissions(), 1u);
  int64_t total = 0;
  for (const auto& [key, units] : (*found)->spent()) total += units;
  EXPECT_EQ(total, 500 + 400);
}

TEST(UsageLogRotation, NumbersGoOnAfterEverythingOlderWasTrimmed) {
  TempFolder temp;
  LogLimits limits;
  limits.max_file_bytes = 1500;
  SharedTruth truth;
  {
    auto log = UsageLog::create(temp / "inc-a", identity(), limits);
    Driver driver(**log, *truth, 7);
    for (int i = 0; i < 3000; ++i) {
      ASSERT_TRUE(driver.admit(driver.below(24), kSecond + i / 100));
      if (i % 3 != 0) driver.settle_any();
      if (i % 20 == 0) {
        ASSERT_TRUE(driver.commit().has_value());
      }
      if (i % 50 == 0) driver.acknowledge_some();
    }
    driver.settle_all();
    ASSERT_TRUE(driver.commit().has_value());
    (*log)->finish();
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ((*found)->recovered_admissions(), 0u);
  EXPECT_EQ(audit_recovered(*truth, **found), "");
}

TEST(UsageLogRotation, AFileStaysUntilTheLastShardOfItIsBooked) {
  TempFolder temp;
  LogLimits limits;
  limits.max_file_bytes = 1;  // each batch ends a file
  const int64_t one[] = {1};
  const std::string here = "shop/acme", there = "ns-1/globex";
  ASSERT_NE(redis_contract::shard_of(here), redis_contract::shard_of(there));
  {
    auto log = UsageLog::create(temp / "inc-a", identity(), limits);
    for (const auto& tenant : {here, there}) {
      const uint32_t id = (*log)->define(definition(tenant)).value();
      (*log)->settle((*log)->admit(id, one, kSecond), one);
    }
    ASSERT_TRUE((*log)->commit_batch().has_value());
    ASSERT_TRUE((*log)->outbox().acknowledge(redis_contract::shard_of(here), 2));
    (*log)->trim();
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_FALSE((*found)->torn());
  EXPECT_EQ((*found)->outbox().shard(redis_contract::shard_of(there)).unacked.size(), 2u) << "hello and usage";
}

TEST(UsageLogRotation, ADefinitionIsLoggedAgainInTheFileThatNeedsIt) {
  TempFolder temp;
  LogLimits limits;
  limits.max_file_bytes = 1;  // each batch ends a file
  auto created = UsageLog::create(temp / "inc-a", identity(), limits);
  UsageLog& log = **created;
  const uint32_t id = log.define(definition("shop/acme", 3)).value();
  const int64_t units[] = {1, 2, 3};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(log.define(definition("shop/acme", 3)).value(), id) << "the same for equal ones";
    Slot* slot = log.admit(id, units, kSecond);
    ASSERT_NE(slot, nullptr);
    log.settle(slot, units);
    ASSERT_TRUE(log.commit_batch().has_value());
    acknowledge_all(log);
  }
  ASSERT_NE(log.admit(id, units, kSecond), nullptr);
  created->reset();
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ((*found)->spent().at({3, "shop/acme|limit-2@1700000000+86400"}), 18);
}

TEST(UsageLogRotation, AFileThatWasJustClosedIsStillSynced) {
  TempFolder temp;
  LogLimits limits;
  limits.max_file_bytes = 1;
  auto log = UsageLog::create(temp / "inc-a", identity(), limits);
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  for (int batch = 0; batch < 2; ++batch) {
    (*log)->settle((*log)->admit(id, one, kSecond), one);
    ASSERT_TRUE((*log)->commit_batch().has_value());
  }
  std::vector<std::string> names;
  for (const int fd : (*log)->duplicate_descriptors()) {
    char target[4096] = {};
    ASSERT_GT(readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target - 1), 0);
    names.push_back(std::filesystem::path(target).filename());
    close(fd);
  }
  // Its last records would otherwise wait for the kernel: half a minute, not a second (rule 2).
  for (const char* wanted : {"head", "segment-0", "records-0", "records-1", "records-2"}) {
    EXPECT_EQ(std::count(names.begin(), names.end(), wanted), 1) << wanted;
  }
  for (const int fd : (*log)->duplicate_descriptors()) close(fd);
}

TEST(UsageLogRecords, HelloIsFirstInEachShardAndSeqIsContiguous) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  ASSERT_TRUE((*log)->report_torn(63, "pod-6.zzz").has_value());
  SharedTruth truth;
  Driver driver(**log, *truth, 3);
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(driver.admit(driver.below(24), kSecond));
  driver.settle_all();
  ASSERT_TRUE(driver.commit().has_value());
  ASSERT_TRUE((*log)->report_torn(63, "pod-5.yyy").has_value());
  std::string problem;
  Records records;
  add_outbox((*log)->outbox(), &records, &problem);
  sum_records(records, &problem);
  EXPECT_EQ(problem, "");
  const auto torn = redis_contract::decode(records.at({63, 2}));
  ASSERT_TRUE(torn.has_value());
  EXPECT_EQ(torn->kind, redis_contract::RecordKind::kTorn);
  EXPECT_EQ(torn->torn_incarnation, "pod-6.zzz");
  EXPECT_EQ(redis_contract::decode(records.at({63, 3}))->torn_incarnation, "pod-5.yyy");
}

TEST(UsageLogRecords, ManyUnitsOfOneSecondAreOneRecordPerCharge) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  const uint32_t id = (*log)->define(definition("shop/acme", 2)).value();
  const int64_t units[] = {1, 0};
  for (int i = 0; i < 1000; ++i) (*log)->settle((*log)->admit(id, units, kSecond), units);
  ASSERT_TRUE((*log)->settled_pending());
  ASSERT_TRUE((*log)->commit_batch().has_value());
  ASSERT_EQ((*log)->outbox().size(), 2u) << "hello and one usage record; a charge of nothing has none";
  const auto& queue = (*log)->outbox().shard(redis_contract::shard_of("shop/acme"));
  const auto record = redis_contract::decode(queue.unacked.back());
  EXPECT_EQ(record->units, 1000);
  EXPECT_EQ(record->requests, 1000);
}

TEST(UsageLogRecords, TheLargestUnitsDoNotOverflow) {
  TempFolder temp;
  const int64_t most[] = {INT64_MAX};
  {
    auto log = UsageLog::create(temp / "inc-a", identity());
    const uint32_t id = (*log)->define(definition("shop/acme")).value();
    for (int i = 0; i < 3; ++i) (*log)->settle((*log)->admit(id, most, kSecond), most);
    ASSERT_TRUE((*log)->commit_batch().has_value());
    EXPECT_EQ((*log)->outbox().size(), 4u);
    for (int i = 0; i < 2; ++i) ASSERT_NE((*log)->admit(id, most, kSecond), nullptr);
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ((*found)->outbox().size(), 6u);
  // Saturated: a successor that knows of more spent than was ever granted returns nothing.
  EXPECT_EQ((*found)->spent().begin()->second, INT64_MAX);
}

// The ledger takes no record of more than 2^53 - 1 units: sums are bounded where they are formed.
TEST(UsageLogRecords, NoRecordSaysMoreThanTheLedgerTakes) {
  TempFolder temp;
  const int64_t most[] = {kMaxInteger};
  const int64_t one[] = {1};
  {
    auto log = UsageLog::create(temp / "inc-a", identity());
    const uint32_t id = (*log)->define(definition("shop/acme")).value();
    for (int i = 0; i < 3; ++i) (*log)->settle((*log)->admit(id, most, kSecond), most);
    for (int i = 0; i < 2; ++i) (*log)->settle((*log)->admit(id, one, kSecond), one);
    ASSERT_TRUE((*log)->commit_batch().has_value());
    for (int i = 0; i < 2; ++i) ASSERT_NE((*log)->admit(id, most, kSecond), nullptr);
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value());
  std::vector<int64_t> units;
  for (const auto& text : (*found)->outbox().shard(redis_contract::shard_of("shop/acme")).unacked) {
    units.push_back(redis_contract::decode(text)->units);
  }
  EXPECT_EQ(units, (std::vector<int64_t>{0, kMaxInteger, kMaxInteger, kMaxInteger, 2, kMaxInteger, kMaxInteger}))
      << "hello, the batch, and what its successor formed";
}

// What recovery would refuse to read must never be written: one bad definition would cost the whole log.
TEST(UsageLogRecords, ADefinitionThatNoReaderWouldAcceptIsRefused) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  const auto good = definition("shop/acme", 2);
  std::vector<Definition> bad(8, good);
  bad[0].tenant = "acme";
  bad[1].tenant = "shop/ac\tme";
  bad[2].route = "a\tb";
  bad[3].epoch = -1;
  bad[4].charges.resize(kMaxCharges + 1, good.charges[0]);
  bad[5].charges[0].meter = "Requests=1";
  bad[6].charges[0].buckets = {"limit"};
  bad[7].charges[1].buckets.push_back("");
  for (size_t i = 0; i < bad.size(); ++i) {
    const auto id = (*log)->define(bad[i]);
    ASSERT_FALSE(id.has_value()) << i;
    EXPECT_EQ(id.error().errc, Errc::kInvalid);
  }
  EXPECT_TRUE((*log)->outbox().empty());
  EXPECT_TRUE((*log)->define(good).has_value());
}

TEST(UsageLogRecords, AnIdentityThatNoReaderWouldAcceptIsRefused) {
  TempFolder temp;
  for (const std::string& name : {std::string(), std::string("Pod"), std::string("a b"), std::string(81, 'a')}) {
    LogIdentity wrong = identity();
    wrong.incarnation = name;
    const auto log = UsageLog::create(temp / "inc-x", wrong);
    ASSERT_FALSE(log.has_value()) << name;
    EXPECT_EQ(log.error().errc, Errc::kInvalid);
  }
}

TEST(UsageLogRecords, NothingIsAdmittedPastTheBoundOfWaitingRecords) {
  TempFolder temp;
  LogLimits limits;
  limits.max_unacked = 3;
  auto log = UsageLog::create(temp / "inc-a", identity(), limits);
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  for (int i = 0; i < 2; ++i) {
    Slot* slot = (*log)->admit(id, one, kSecond + i);
    ASSERT_NE(slot, nullptr);
    (*log)->settle(slot, one);
  }
  ASSERT_TRUE((*log)->commit_batch().has_value());
  EXPECT_EQ((*log)->admit(id, one, kSecond), nullptr);
  EXPECT_NE((*log)->last_error(), "");
  acknowledge_all(**log);
  EXPECT_NE((*log)->admit(id, one, kSecond), nullptr);
}

// Windows and epochs go by: the numbers of what is over are used again, and a successor never mixes them up.
TEST(UsageLogRecords, ReleasedDefinitionsMakeRoomForOthers) {
  TempFolder temp;
  LogLimits limits;
  limits.max_file_bytes = 4000;
  std::map<std::string, int64_t> truth;
  {
    auto log = UsageLog::create(temp / "inc-a", identity(), limits);
    std::mt19937_64 random(1);
    std::vector<std::pair<Slot*, size_t>> streams;
    for (int window = 0; window < 3000; ++window) {
      Definition d = definition("shop/t" + std::to_string(window % 3), 1 + static_cast<size_t>(window % 4));
      d.charges[0].buckets = {"limit@" + std::to_string(60 * window) + "+60"};
      const uint32_t id = (*log)->define(d).value();
      ASSERT_EQ((*log)->define(d).value(), id);
      const std::vector<int64_t> units(d.charges.size(), window), none(d.charges.size(), 0);
      Slot* slot = (*log)->admit(id, units, kSecond);
      ASSERT_NE(slot, nullptr);
      (*log)->release(id);
      (*log)->release(id);  // both users: no further admission, but this one is still on its way
      if (window % 50 == 0) {
        streams.emplace_back(slot, d.charges.size());
        truth[d.tenant + "|" + d.charges[0].buckets[0]] += window;
      } else if (window % 7 == 0) {
        (*log)->settle(slot, none);
      } else {
        (*log)->settle(slot, units);
        truth[d.tenant + "|" + d.charges[0].buckets[0]] += window;
      }
      if (window % 10 == 9) {
        ASSERT_TRUE((*log)->commit_batch().has_value());
        acknowledge_all(**log);
      }
    }
    EXPECT_LE((*log)->definitions(), streams.size() + 10);
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_FALSE((*found)->torn());
  for (const auto& [member, units] : truth) {
    const auto spent = (*found)->spent().find({3, member});
    EXPECT_EQ(spent == (*found)->spent().end() ? 0 : spent->second, units) << member;
  }
}

TEST(UsageLogRecords, TotalsOfEndedWindowsAreForgotten) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  Definition d = definition("shop/acme", 1);
  d.charges[0].buckets = {"old@1000+60", "new@1060+60", "units$"};
  const uint32_t id = (*log)->define(d).value();
  const int64_t one[] = {1};
  (*log)->settle((*log)->admit(id, one, kSecond), one);
  ASSERT_TRUE((*log)->commit_batch().has_value());
  (*log)->forget_ended(1061);
  EXPECT_EQ((*log)->spent(), (Spent{{{3, "shop/acme|new@1060+60"}, 1}, {{3, "shop/acme|units$"}, 1}}));
}

TEST(UsageLogRecords, AFinishedLogAdmitsNothingMore) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  (*log)->finish();
  EXPECT_EQ((*log)->admit(id, one, kSecond), nullptr) << "no successor would look for it";
  EXPECT_NE((*log)->last_error(), "");
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
