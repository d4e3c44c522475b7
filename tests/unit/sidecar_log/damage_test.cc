// A disk that lies. Whatever a file holds, recovery ends with an error or with the sound beginning: it never crashes,
// never forms a record anew under a number that may have been sent, and never returns units that may have been spent.
#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

TEST(DamagedLog, FlippedBytesInRecordsFiles) {
  int torn = 0, errors = 0;
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    make_log(temp / "inc-a", *truth, seed);
    std::mt19937_64 random(seed);
    const auto files = RecordFiles::list(temp / "inc-a");
    const fs::path path = (temp / "inc-a") + "/records-" + std::to_string(files[random() % files.size()]);
    std::string bytes = read_all(path);
    bytes[random() % bytes.size()] ^= static_cast<char>(1 + random() % 255);
    write_all(path, bytes);
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    if (!found) {
      ++errors;
      continue;
    }
    torn += (*found)->torn() ? 1 : 0;
    ASSERT_EQ(audit_damaged(*truth, **found), "") << "seed " << seed << " " << path;
    auto again = Predecessor::recover(temp / "inc-a", kBoot);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ((*again)->torn(), (*found)->torn());
    EXPECT_EQ((*again)->outbox().size(), (*found)->outbox().size());
  }
  EXPECT_EQ(torn + errors, 25) << "no flipped byte goes unnoticed";
}

TEST(DamagedLog, CutTailsOfRecordsFiles) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    make_log(temp / "inc-a", *truth, seed);
    std::mt19937_64 random(seed);
    const auto files = RecordFiles::list(temp / "inc-a");
    const fs::path path = (temp / "inc-a") + "/records-" + std::to_string(files[random() % files.size()]);
    fs::resize_file(path, random() % fs::file_size(path));
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    if (found) {
      ASSERT_EQ(audit_damaged(*truth, **found), "") << "seed " << seed << " " << path;
    }
  }
}

TEST(DamagedLog, AMissingRecordsFile) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    make_log(temp / "inc-a", *truth, seed);
    const auto files = RecordFiles::list(temp / "inc-a");
    fs::remove((temp / "inc-a") + "/records-" + std::to_string(files[seed % files.size()]));
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    if (found) {
      ASSERT_EQ(audit_damaged(*truth, **found), "") << "seed " << seed;
    }
  }
}

// Segments have no checksum: a flipped count cannot be seen, but numbers that make no sense must not bring us down.
TEST(DamagedLog, SegmentsOfNoise) {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    make_log(temp / "inc-a", *truth, seed);
    std::mt19937_64 random(seed);
    const fs::path path = (temp / "inc-a") + "/segment-" + std::to_string(random() % 2);
    std::string bytes = read_all(path);
    const size_t from = random() % 3 == 0 ? 0 : 64;
    for (int i = 0; i < 200; ++i) bytes[from + random() % 8000] = static_cast<char>(random());
    write_all(path, bytes);
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    if (!found) continue;
    Records all = seen_records(*truth);
    std::string problem;
    add_outbox((*found)->outbox(), &all, &problem);
    sum_records(all, &problem);
    ASSERT_EQ(problem, "") << "seed " << seed;
  }
}

TEST(DamagedLog, ASegmentThatIsShorterThanItWasMade) {
  TempFolder temp;
  SharedTruth truth;
  make_log(temp / "inc-a", *truth, 1);
  ASSERT_TRUE(fs::exists((temp / "inc-a") + "/segment-1"));
  fs::resize_file((temp / "inc-a") + "/segment-0", 4096);
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  if (found) {
    EXPECT_TRUE((*found)->torn()) << "its admissions are lost: what was spent is not known";
  }
}

TEST(DamagedLog, ADefinitionThatIsNotThereIsDamage) {
  TempFolder temp;
  {
    auto log = UsageLog::create(temp / "inc-a", identity());
    const uint32_t id = (*log)->define(definition("shop/acme")).value();
    const int64_t one[] = {1};
    Slot* slot = (*log)->admit(id, one, kSecond);
    slot->definition = 77;
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << "a pod must not be stuck for ever behind a bad disk";
  EXPECT_TRUE((*found)->torn());
}

TEST(DamagedLog, HeadsOfNoise) {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    make_log(temp / "inc-a", *truth, seed);
    std::mt19937_64 random(seed);
    const fs::path path = (temp / "inc-a") + "/head";
    std::string bytes = read_all(path);
    for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (seed % 5 == 0) bytes.resize(random() % bytes.size());
    if (seed % 7 == 0) bytes.clear();
    write_all(path, bytes);
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    (void)found;  // no crash: the head has no checksum, but only we write it, and it fits one page
  }
}

// As the version before wrote it: files without a title, a head that says so. Its records are the ledger's all the
// same.
TEST(DamagedLog, AnotherVersionsRecordsAreRead) {
  TempFolder temp;
  SharedTruth truth;
  make_log(temp / "inc-a", *truth, 5);
  size_t records = 0;
  {
    fs::copy(temp / "inc-a", temp / "same");
    fs::remove_all(temp / "inc-a");
    fs::rename(temp / "same", temp / "inc-a");
    auto copy = Predecessor::recover(temp / "inc-a", kBoot);
    ASSERT_TRUE(copy.has_value());
    records = (*copy)->outbox().size();
    ASSERT_GT(records, 0u);
  }
  const fs::path head = (temp / "inc-a") + "/head";
  std::string bytes = read_all(head);
  bytes.replace(0, 8, "TGULOG02");
  write_all(head, bytes);
  for (const uint32_t index : RecordFiles::list(temp / "inc-a")) {
    const fs::path path = (temp / "inc-a") + "/records-" + std::to_string(index);
    const std::string whole = read_all(path);
    std::string_view rest = whole;
    Frame title;
    ASSERT_TRUE(next_frame(&rest, &title));
    ASSERT_EQ(title.kind, FrameKind::kFile);
    write_all(path, std::string(rest));
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_TRUE((*found)->torn());
  EXPECT_FALSE((*found)->unread());
  EXPECT_EQ((*found)->outbox().size(), records);
  EXPECT_EQ(audit_damaged(*truth, **found), "");
}

TEST(DamagedLog, OfWhichNothingCanBeReadIsKept) {
  TempFolder temp;
  SharedTruth truth;
  DataFolder data;
  ASSERT_TRUE(data.open(temp / "data").has_value());
  make_log(temp / "data/inc-a", *truth, 5);
  for (const uint32_t index : RecordFiles::list(temp / "data/inc-a")) {
    const fs::path path = (temp / "data/inc-a/records-") + std::to_string(index);
    std::string bytes = read_all(path);
    bytes[0] = static_cast<char>(bytes[0] ^ 1);
    write_all(path, bytes);
  }
  auto found = Predecessor::recover(temp / "data/inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_TRUE((*found)->torn() && (*found)->unread());
  DataFolder::set_aside(temp / "data/inc-a");
  EXPECT_TRUE(data.incarnations().empty());
  EXPECT_EQ(data.aside(), std::vector<std::string>{temp / "data/aside-inc-a"});
  EXPECT_TRUE(fs::exists(temp / "data/aside-inc-a/segment-0"));
}

// A reboot right after the start: nothing was admitted, nothing is missing.
TEST(DamagedLog, OneThatAdmittedNothingIsNotKept) {
  TempFolder temp;
  UsageLog::create(temp / "inc-a", identity()).value();
  auto found = Predecessor::recover(temp / "inc-a", kOtherBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_TRUE((*found)->torn());
  EXPECT_FALSE((*found)->unread());
}

TEST(DamagedLog, GarbageFilesBesideTheLogAreIgnored) {
  TempFolder temp;
  SharedTruth truth;
  make_log(temp / "inc-a", *truth, 5);
  write_all((temp / "inc-a") + "/records-7.new", "half a snapshot");
  write_all((temp / "inc-a") + "/records-x", "?");
  write_all((temp / "inc-a") + "/core", "?");
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(audit_recovered(*truth, **found), "");
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
