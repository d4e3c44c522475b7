// The disk is full: nothing is admitted that could not be billed, and nothing that was admitted is lost.
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <fstream>

#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

// Writes that would make a file longer than `bytes` fail with EFBIG, in this process, while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit now = before_;
    now.rlim_cur = bytes;
    TG_ASSERT(setrlimit(RLIMIT_FSIZE, &now) == 0);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(FullDisk, AdmitSaysNoWhenNoSegmentCanBeMade) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  {
    FileSizeLimit limit(64 * 1024);
    EXPECT_EQ((*log)->admit(id, one, kSecond), nullptr);
    EXPECT_NE((*log)->last_error(), "");
  }
  EXPECT_NE((*log)->admit(id, one, kSecond), nullptr);
}

TEST(FullDisk, ABatchThatFailsIsTriedAgainAndNothingIsLost) {
  TempFolder temp;
  SharedTruth truth;
  {
    auto log = UsageLog::create(temp / "inc-a", identity());
    Driver driver(**log, *truth, 11);
    for (size_t i = 0; i < 24; ++i) ASSERT_TRUE(driver.admit(i, kSecond));
    driver.settle_all();
    ASSERT_TRUE(driver.commit().has_value());
    const uint64_t size = std::filesystem::file_size((*log)->folder() + "/records-0");
    for (int round = 0; round < 5; ++round) {
      for (size_t i = 0; i < 24; ++i) ASSERT_TRUE(driver.admit(i, kSecond + round));
      driver.settle_all();
      FileSizeLimit limit(size + 150);  // room for a part of the batch
      const auto committed = driver.commit();
      ASSERT_FALSE(committed.has_value());
      EXPECT_EQ(committed.error().errc, Errc::kExhausted);
      EXPECT_NE((*log)->last_error(), "");
      EXPECT_EQ(std::filesystem::file_size((*log)->folder() + "/records-0"), size);
      EXPECT_TRUE((*log)->settled_pending());
    }
    ASSERT_TRUE(driver.commit().has_value());
    EXPECT_FALSE((*log)->settled_pending());
    std::string problem;
    Records records;
    add_outbox((*log)->outbox(), &records, &problem);
    EXPECT_EQ(problem + audit(*truth, records, (*log)->spent()), "");
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ((*found)->recovered_admissions(), 0u);
  EXPECT_EQ(audit_recovered(*truth, **found), "");
}

TEST(FullDisk, KilledWhileTheDiskWasFull) {
  TempFolder temp;
  SharedTruth truth;
  {
    auto log = UsageLog::create(temp / "inc-a", identity());
    Driver driver(**log, *truth, 12);
    for (size_t i = 0; i < 24; ++i) ASSERT_TRUE(driver.admit(i, kSecond));
    while (driver.in_flight() > 5) driver.settle_any();
    FileSizeLimit limit(std::filesystem::file_size((*log)->folder() + "/records-0") + 150);
    ASSERT_FALSE(driver.commit().has_value());
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(audit_recovered(*truth, **found), "");
}

TEST(FullDisk, RecoveryWithoutSpaceFailsAndSucceedsLater) {
  TempFolder temp;
  SharedTruth truth;
  uint64_t size = 0;
  {
    auto log = UsageLog::create(temp / "inc-a", identity());
    Driver driver(**log, *truth, 13);
    for (size_t i = 0; i < 24; ++i) ASSERT_TRUE(driver.admit(i, kSecond));
    size = std::filesystem::file_size((*log)->folder() + "/records-0");
  }
  {
    FileSizeLimit limit(size + 150);
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().errc, Errc::kExhausted);
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(audit_recovered(*truth, **found), "");
}

// The definition does not fit, then it does: the number must not have been given away.
TEST(FullDisk, ADefinitionThatCouldNotBeWrittenIsNotDefined) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  {
    FileSizeLimit limit(std::filesystem::file_size((*log)->folder() + "/records-0") + 10);
    EXPECT_FALSE((*log)->define(definition("shop/acme")).has_value());
    EXPECT_FALSE((*log)->report_torn(5, "pod-1.a").has_value());
    EXPECT_TRUE((*log)->outbox().empty());
  }
  const auto id = (*log)->define(definition("shop/acme"));
  ASSERT_TRUE(id.has_value());
  const int64_t one[] = {1};
  ASSERT_NE((*log)->admit(*id, one, kSecond), nullptr);
  log->reset();
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ((*found)->recovered_admissions(), 1u);
}

// The next file can be begun but its first frames do not fit: the old file must go on, and must not be trimmed.
TEST(FullDisk, ARotationThatFailsHalfWay) {
  TempFolder temp;
  SharedTruth truth;
  {
    LogLimits limits;
    limits.max_file_bytes = 2000;
    auto log = UsageLog::create(temp / "inc-a", identity(), limits);
    Driver driver(**log, *truth, 14);
    for (size_t i = 0; i < 24; ++i) ASSERT_TRUE(driver.admit(i, kSecond));
    driver.settle_all();
    for (size_t i = 0; i < 24; ++i) ASSERT_TRUE(driver.admit(i, kSecond));
    // A quota on a file's length does not hit a new file before an old one; a folder without room for names does.
    std::filesystem::create_directory((*log)->folder() + "/records-1.new");
    std::filesystem::create_directory((*log)->folder() + "/records-1");
    std::filesystem::create_directory((*log)->folder() + "/records-1/in-the-way");
    ASSERT_TRUE(driver.commit().has_value()) << "the batch itself is written";
    driver.acknowledge_some();
    std::filesystem::remove_all((*log)->folder() + "/records-1.new");
    std::filesystem::remove_all((*log)->folder() + "/records-1");
    driver.settle_any();
    ASSERT_TRUE(driver.commit().has_value());
    EXPECT_TRUE(std::filesystem::exists((*log)->folder() + "/records-1")) << "tried again";
    for (size_t i = 0; i < 24; ++i) ASSERT_TRUE(driver.admit(i, kSecond + 1));
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(audit_recovered(*truth, **found), "");
}

class TinyDisk {
 public:
  explicit TinyDisk(const std::string& path) : path_(path) {
    std::filesystem::create_directory(path);
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, "size=4m") == 0;
  }
  ~TinyDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_;
};

TEST(FullDisk, ARealOne) {
  TempFolder temp;
  const std::string root = temp / "disk";
  TinyDisk disk(root);
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  SharedTruth truth;
  {
    LogLimits limits;
    limits.max_file_bytes = 20'000;
    auto log = UsageLog::create(root + "/inc-a", identity(), limits);
    ASSERT_TRUE(log.has_value()) << log.error().message;
    Driver driver(**log, *truth, 15);
    const std::string ballast = root + "/ballast", reserve = root + "/reserve";
    std::ofstream(reserve) << std::string(1 << 20, 'x');  // recovery is to have room
    int refused = 0, failed = 0;
    for (int round = 0; round < 60; ++round) {
      // Filled to the last byte and freed again, in turns.
      if (round % 6 == 2) {
        FILE* file = fopen(ballast.c_str(), "w");
        const std::string block(4096, 'x');
        while (fwrite(block.data(), 1, block.size(), file) == block.size() && fflush(file) == 0) {
        }
        fclose(file);
      }
      if (round % 6 == 5) std::filesystem::remove(ballast);
      for (int i = 0; i < 600; ++i) {
        if (!driver.admit(driver.below(24), kSecond + round)) ++refused;
        if (driver.below(10) != 0) driver.settle_any();
      }
      if (!driver.commit().has_value()) ++failed;
      if (round % 4 == 0) driver.acknowledge_some();
    }
    EXPECT_GT(failed, 0);
    std::filesystem::remove(ballast);
    std::filesystem::remove(reserve);
    (void)refused;
  }
  auto found = Predecessor::recover(root + "/inc-a", kBoot);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(audit_recovered(*truth, **found), "");
}

TEST(FullDisk, IsSeenWithoutARequestAndSeenToEnd) {
  TempFolder temp;
  const std::string root = temp / "disk";
  TinyDisk disk(root);
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  auto log = UsageLog::create(root + "/inc-a", identity());
  ASSERT_TRUE(log.has_value()) << log.error().message;
  EXPECT_TRUE((*log)->examine({}).has_value());
  {
    std::ofstream ballast(root + "/ballast", std::ios::binary);
    const std::string block(4096, 'x');
    while (ballast.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  const auto full = (*log)->examine({});
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().errc, Errc::kExhausted);
  std::filesystem::remove(root + "/ballast");
  EXPECT_TRUE((*log)->examine({}).has_value());
}

// A quota is not what a disk says of itself.
TEST(FullDisk, AWriteThatFailedIsTriedUntilItWouldNot) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  {
    FileSizeLimit limit(64 * 1024);
    EXPECT_TRUE((*log)->examine({}).has_value()) << "nothing has failed yet";
    EXPECT_EQ((*log)->admit(id, one, kSecond), nullptr);
    const auto full = (*log)->examine({});
    ASSERT_FALSE(full.has_value());
    EXPECT_EQ(full.error().errc, Errc::kExhausted);
  }
  EXPECT_TRUE((*log)->examine({}).has_value());
  EXPECT_NE((*log)->admit(id, one, kSecond), nullptr);
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
