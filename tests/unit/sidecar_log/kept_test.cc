// Records stay for a while after they were booked, and are found again.
#include "sidecar/log/kept.h"
#include "core/env.h"
#include "core/redis_contract/record.h"
#include "sidecar/log/data_folder.h"
#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

constexpr int64_t kAge_s = 3600, kBytes = 1 << 20;
const std::string kTenant = "shop/acme";
const int kShard = redis_contract::shard_of(kTenant);

// One record a second of an incarnation, the ledger close behind.
std::unique_ptr<UsageLog> filled(const std::string& folder, int records) {
  LogLimits limits;
  limits.max_file_bytes = 1500;
  limits.keep_booked = true;
  limits.max_unacked = 50;
  auto log = std::move(*UsageLog::create(folder, identity(), limits));
  const uint32_t id = log->define(definition(kTenant, 1)).value();
  const int64_t one[] = {1};
  for (int i = 0; i < records; ++i) {
    log->settle(log->admit(id, one, kSecond + i), one);
    EXPECT_TRUE(log->commit_batch().has_value());
    EXPECT_TRUE(log->outbox().acknowledge(kShard, log->outbox().shard(kShard).last_seq()));
    log->trim();
  }
  return log;
}

int64_t seq_of(const std::string& text) { return redis_contract::decode(text).value().seq; }

int64_t files_named(const std::string& folder, const std::string& prefix) {
  int64_t n = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder))
    n += file.path().filename().string().starts_with(prefix) ? 1 : 0;
  return n;
}

TEST(Kept, WhatALowerWatermarkLacksIsReadAgainWithoutAGap) {
  TempFolder temp;
  auto log = filled(temp / "inc-a", 100);
  ASSERT_GT(files_named(log->folder(), "booked-"), 3);
  auto& queue = log->outbox().shard(kShard);
  const int64_t last = queue.last_seq();
  ASSERT_EQ(last, 101) << "a hello and a hundred records";
  auto records = KeptRecords(log->folder()).take(kShard, 40, last);
  ASSERT_EQ(records.size(), 61u);
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(seq_of(records[i]), 41 + static_cast<int64_t>(i));
  log->outbox().reopen(kShard, std::move(records));
  EXPECT_EQ(queue.watermark, 40);
  EXPECT_EQ(queue.last_seq(), last);
  EXPECT_EQ(seq_of(queue.unacked.front()), 41);
  EXPECT_EQ(log->outbox().size(), 61u);
  EXPECT_EQ(log->outbox().reopened(), 61u);
  const int64_t one[] = {1};
  Slot* slot = log->admit(0, one, kSecond + 200);
  ASSERT_NE(slot, nullptr) << "what is sent again is no backlog";
  log->settle(slot, one);
  EXPECT_TRUE(log->outbox().acknowledge(kShard, 50));
  EXPECT_EQ(log->outbox().reopened(), 51u);
  EXPECT_TRUE(log->outbox().acknowledge(kShard, last));
  EXPECT_EQ(log->outbox().reopened(), 0u);
  EXPECT_EQ(KeptRecords(log->folder()).take(kShard, 0, last + 1).size(), 0u) << "what was never written";
  EXPECT_EQ(last_kept(log->folder()).at(kShard), last);
}

TEST(Kept, WhatWasDeletedInBetweenLeavesOnlyWhatFollows) {
  TempFolder temp;
  auto log = filled(temp / "inc-a", 100);
  std::filesystem::remove(log->folder() + "/booked-2");
  const auto records = KeptRecords(log->folder()).take(kShard, 0, 101);
  ASSERT_FALSE(records.empty());
  EXPECT_GT(seq_of(records.front()), 10);
  EXPECT_EQ(seq_of(records.back()), 101);
  EXPECT_EQ(static_cast<int64_t>(records.size()), 101 - seq_of(records.front()) + 1);
}

TEST(Kept, OldAndTooManyFilesGoOldestFirstAndTheLogStaysSound) {
  TempFolder temp;
  {
    auto log = filled(temp / "inc-a", 100);
    const int64_t now_s = system_env().wall_s();
    const int64_t bytes = sweep_kept(temp.path(), {kAge_s, kBytes}, now_s);
    EXPECT_GT(bytes, 3000);
    EXPECT_LE(sweep_kept(temp.path(), {kAge_s, 3000}, now_s), 3000);
    EXPECT_FALSE(KeptRecords(log->folder()).take(kShard, 0, 101).empty()) << "the newest are there still";
    EXPECT_EQ(sweep_kept(temp.path(), {kAge_s, kBytes}, now_s + kAge_s + 60), 0);
    EXPECT_EQ(files_named(log->folder(), "booked-"), 0);
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_FALSE((*found)->torn());
}

// More cannot be booked of it before somebody sends what recovery has formed: by that an older copy is told.
TEST(Kept, WhatAPredecessorHadWrittenIsKnownHoweverOftenItIsRecovered) {
  TempFolder temp;
  {
    auto log = filled(temp / "inc-a", 10);
    const int64_t one[] = {1};
    log->settle(log->admit(0, one, kSecond + 50), one);  // in a slot, and in no record
  }
  auto first = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(first && !(*first)->torn());
  EXPECT_EQ((*first)->written(kShard), 11);
  EXPECT_EQ((*first)->outbox().shards().at(kShard).last_seq(), 12);
  first->reset();  // killed again, before its folder went
  auto second = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(second && !(*second)->torn());
  EXPECT_EQ((*second)->written(kShard), 12);
  EXPECT_EQ((*second)->written(kShard + 1), 0);
}

TEST(Kept, AFinishedIncarnationIsTakenAsideWithItsRecordsOnly) {
  TempFolder temp;
  filled(temp / "inc-a", 30);
  DataFolder folder;
  ASSERT_TRUE(folder.open(temp.path()).has_value());
  DataFolder::keep(temp / "inc-a");
  EXPECT_TRUE(folder.incarnations().empty());
  ASSERT_EQ(folder.kept().size(), 1u);
  EXPECT_EQ(DataFolder::incarnation_of(folder.kept()[0]), "a");
  EXPECT_EQ(files_named(folder.kept()[0], "segment-") + files_named(folder.kept()[0], "head"), 0);
  EXPECT_EQ(last_kept(folder.kept()[0]).at(kShard), 31);
  EXPECT_EQ(sweep_kept(temp.path(), {kAge_s, 0}, system_env().wall_s()), 0);
  EXPECT_TRUE(folder.kept().empty()) << "the folder goes with the last file";
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
