// The data folder, the outbox, the syncer.
#include <fcntl.h>
#include <sys/wait.h>

#include "core/env.h"
#include "sidecar/log/syncer.h"
#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

TEST(DataFolder, ASecondProcessIsRefused) {
  TempFolder temp;
  DataFolder mine;
  ASSERT_TRUE(mine.open(temp / "data").has_value());
  const auto try_open = [&] {
    const pid_t pid = fork();
    if (pid == 0) {
      DataFolder theirs;
      const auto opened = theirs.open(temp / "data");
      _exit(opened ? 0 : 10 + static_cast<int>(opened.error().errc));
    }
    int status = 0;
    TG_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(try_open(), 10 + static_cast<int>(Errc::kConflict));
  DataFolder same_process;
  const auto again = same_process.open(temp / "data");
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().errc, Errc::kConflict);
}

TEST(DataFolder, IsFreeAgainWhenItsHolderIsGone) {
  TempFolder temp;
  {
    DataFolder first;
    ASSERT_TRUE(first.open(temp / "data").has_value());
  }
  DataFolder second;
  EXPECT_TRUE(second.open(temp / "data").has_value());
}

TEST(DataFolder, ListsIncarnationsAndRemovesThem) {
  TempFolder temp;
  DataFolder data;
  ASSERT_TRUE(data.open(temp / "data").has_value());
  EXPECT_TRUE(data.incarnations().empty());
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(UsageLog::create(data.incarnation_folder(name), identity(name)).has_value());
  }
  ASSERT_EQ(data.incarnations().size(), 3u);
  DataFolder::remove(data.incarnation_folder("b"));
  EXPECT_FALSE(std::filesystem::exists(data.incarnation_folder("b")));
  EXPECT_EQ(data.incarnations().size(), 2u);
  DataFolder::remove(data.incarnation_folder("b"));
}

TEST(DataFolder, OldestFirst) {
  TempFolder temp;
  DataFolder data;
  ASSERT_TRUE(data.open(temp / "data").has_value());
  for (const char* name : {"z-old", "a-new"}) {
    system_env().sleep_ms(20);  // a file system's clock has ticks
    ASSERT_TRUE(UsageLog::create(data.incarnation_folder(name), identity(name)).has_value());
  }
  const auto found = data.incarnations();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0], data.incarnation_folder("z-old"));
  EXPECT_EQ(found[1], data.incarnation_folder("a-new"));
}

TEST(DataFolder, AFolderThatCannotBeMadeIsAnError) {
  DataFolder data;
  const auto opened = data.open("/proc/1/no/such/folder");
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().message.find("/proc/1/no/such/folder"), std::string::npos);
}

TEST(UsageLogFolder, IsNeverUsedTwice) {
  TempFolder temp;
  ASSERT_TRUE(UsageLog::create(temp / "inc-a", identity()).has_value());
  EXPECT_FALSE(UsageLog::create(temp / "inc-a", identity()).has_value());
}

TEST(UsageLogFolder, WithoutAHeadNothingWasAdmitted) {
  TempFolder temp;
  std::filesystem::create_directory(temp / "inc-a");
  for (int round = 0; round < 2; ++round) {
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().errc, Errc::kNotFound);
    std::fclose(std::fopen(((temp / "inc-a") + "/head").c_str(), "w"));  // made, and not a byte in it yet
  }
}

TEST(Outbox, AcknowledgesAPrefixAndNothingBeyondWhatItHas) {
  Outbox outbox("inc");
  for (int i = 1; i <= 5; ++i) outbox.add(7, "record " + std::to_string(i));
  EXPECT_EQ(outbox.size(), 5u);
  EXPECT_FALSE(outbox.acknowledge(7, 6)) << "never drop what was not sent";
  EXPECT_EQ(outbox.size(), 5u);
  EXPECT_TRUE(outbox.acknowledge(7, 3));
  EXPECT_EQ(outbox.shard(7).unacked.front(), "record 4");
  EXPECT_TRUE(outbox.acknowledge(7, 2)) << "older news";
  EXPECT_TRUE(outbox.acknowledge(7, -1));
  EXPECT_EQ(outbox.size(), 2u);
  EXPECT_TRUE(outbox.acknowledge(7, 5));
  EXPECT_TRUE(outbox.empty());
  EXPECT_EQ(outbox.shard(7).last_seq(), 5);
  EXPECT_FALSE(outbox.acknowledge(8, 1)) << "a shard that never had a record";
  EXPECT_TRUE(outbox.acknowledge(8, 0));
}

TEST(Syncer, SyncsClosesAndCanBeStartedAgain) {
  TempFolder temp;
  Syncer syncer;
  for (int round = 1; round <= 2; ++round) {
    syncer.start();
    const int fd = open((temp / "file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    syncer.submit({fd, -1});
    syncer.stop();
    EXPECT_EQ(fcntl(fd, F_GETFD), -1) << "closed";
    EXPECT_EQ(syncer.syncs(), static_cast<uint64_t>(round)) << "what was submitted before stop() is synced";
    syncer.stop();
  }
  EXPECT_EQ(syncer.failures(), 0u);
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
