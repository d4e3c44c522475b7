// Where a log stands: a copy is not the log, a folder that is gone takes nothing more, and what others may write is not
// taken.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

constexpr int64_t kOne[] = {1};

struct Made {
  Made() { make_log(temp / "data/inc-a", *truth, 9); }
  // Empty: recovered whole from `folder`.
  std::string whole(const std::string& folder) {
    auto found = Predecessor::recover(folder, kBoot);
    if (!found) return found.error().message;
    if ((*found)->torn()) return "torn: " + (*found)->damage();
    return audit_recovered(*truth, **found);
  }
  // Empty: nothing of `folder` is returned, and no record is formed.
  std::string foreign(const std::string& folder) {
    auto found = Predecessor::recover(folder, kBoot);
    if (!found) return found.error().message;
    if (!(*found)->torn() || (*found)->damage().empty()) return "it is taken for the log itself";
    copied = (*found)->is_copy();
    return audit_damaged(*truth, **found);
  }

  struct Folder : TempFolder {
    Folder() { fs::create_directory(*this / "data"); }
  } temp;
  SharedTruth truth;
  bool copied = false;  // what foreign() found: its process may live
};

TEST(CopyOfALog, ReturnsNothingAndTheLogItselfIsWhole) {
  Made made;
  fs::copy(made.temp / "data", made.temp / "copy", fs::copy_options::recursive);
  EXPECT_EQ(made.foreign(made.temp / "copy/inc-a"), "");
  EXPECT_TRUE(made.copied);
  EXPECT_EQ(made.foreign(made.temp / "copy/inc-a"), "") << "and stays so";
  EXPECT_TRUE(made.copied);
  EXPECT_EQ(made.whole(made.temp / "data/inc-a"), "");
}

TEST(CopyOfALog, OnAnotherDisk) {
  Made made;
  const std::string disk = made.temp / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=16m") != 0) GTEST_SKIP() << "needs the right to mount a tmpfs";
  fs::copy(made.temp / "data", disk, fs::copy_options::recursive);
  EXPECT_EQ(made.foreign(disk + "/inc-a"), "");
  umount2(disk.c_str(), MNT_DETACH);
}

TEST(CopyOfALog, ThatTookThePlaceOfTheLog) {
  Made made;
  fs::rename(made.temp / "data", made.temp / "before");
  fs::copy(made.temp / "before", made.temp / "data", fs::copy_options::recursive);
  fs::remove_all(made.temp / "before");
  EXPECT_EQ(made.foreign(made.temp / "data/inc-a"), "");
}

// As tar and rsync do: the folder stays, its files are new.
TEST(CopyOfALog, FilesThatWerePutBackInPlace) {
  for (const char* name : {"head", "segment-0", "segment-1"}) {
    Made made;
    const std::string path = (made.temp / "data/inc-a/") + name;
    ASSERT_TRUE(fs::exists(path));
    const std::string bytes = read_all(path);
    fs::rename(path, made.temp / "aside");
    write_all(path, bytes);
    EXPECT_EQ(made.foreign(made.temp / "data/inc-a"), "") << name;
    EXPECT_FALSE(made.copied) << "its folder is locked by us: nobody else writes it";
  }
}

TEST(MovedLog, ARenamedDataFolderIsStillOurs) {
  Made made;
  fs::rename(made.temp / "data", made.temp / "elsewhere");
  EXPECT_EQ(made.whole(made.temp / "elsewhere/inc-a"), "");
}

TEST(MovedLog, ABindMountIsStillOurs) {
  Made made;
  const std::string at = made.temp / "bound";
  fs::create_directory(at);
  if (mount((made.temp / "data").c_str(), at.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    GTEST_SKIP() << "needs the right to bind a mount";
  }
  EXPECT_EQ(made.whole(at + "/inc-a"), "");
  umount2(at.c_str(), MNT_DETACH);
}

TEST(MovedLog, UnderAnotherIncarnationsNameItIsNot) {
  Made made;
  fs::rename(made.temp / "data/inc-a", made.temp / "data/inc-b");
  EXPECT_EQ(made.foreign(made.temp / "data/inc-b"), "");
}

// ---- while it is written

struct Live {
  Live() {
    TG_ASSERT(data.open(temp / "data").has_value());
    log = std::move(*UsageLog::create(data.incarnation_folder("a"), identity()));
    id = log->define(definition("shop/acme")).value();
  }
  bool admits() { return log->admit(id, kOne, kSecond) != nullptr; }
  Result<void> examine() { return log->examine(data.check()); }

  TempFolder temp;
  DataFolder data;
  std::unique_ptr<UsageLog> log;
  uint32_t id = 0;
};

TEST(LostFolder, NothingIsAdmittedThatNoSuccessorWouldFind) {
  const std::vector<std::pair<const char*, std::function<void(Live&)>>> ways = {
      {"all of it", [](Live& l) { fs::remove_all(l.temp / "data"); }},
      {"the incarnation", [](Live& l) { fs::remove_all(l.log->folder()); }},
      {"a copy in its place",
       [](Live& l) {
         fs::rename(l.temp / "data", l.temp / "away");
         fs::copy(l.temp / "away", l.temp / "data", fs::copy_options::recursive);
       }},
      {"head", [](Live& l) { fs::remove(l.log->folder() + "/head"); }},
      {"a segment", [](Live& l) { fs::remove(l.log->folder() + "/segment-0"); }},
      {"its records", [](Live& l) { fs::remove(l.log->folder() + "/records-0"); }},
      {"the lock", [](Live& l) { fs::remove(l.temp / "data/lock"); }},
  };
  for (const auto& [what, take_away] : ways) {
    Live live;
    ASSERT_TRUE(live.admits());
    ASSERT_TRUE(live.examine().has_value());
    take_away(live);
    const auto found = live.examine();
    ASSERT_FALSE(found.has_value()) << what;
    EXPECT_EQ(found.error().errc, Errc::kConflict) << what;
    EXPECT_FALSE(live.admits()) << what;
    EXPECT_EQ(live.log->last_error(), found.error().message) << what;
  }
}

TEST(LostFolder, PutBackItGoesOnAndAllIsThere) {
  Live live;
  ASSERT_TRUE(live.admits());
  fs::rename(live.temp / "data", live.temp / "away");
  EXPECT_FALSE(live.examine().has_value());
  EXPECT_FALSE(live.admits());
  fs::rename(live.temp / "away", live.temp / "data");
  EXPECT_TRUE(live.examine().has_value());
  EXPECT_TRUE(live.admits());
  const std::string folder = live.log->folder();
  live.log.reset();
  auto found = Predecessor::recover(folder, kBoot);
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE((*found)->torn());
  EXPECT_EQ((*found)->recovered_admissions(), 2u);
}

TEST(LostFolder, FilesThatWereTrimmedAreNotMissed) {
  TempFolder temp;
  LogLimits limits;
  limits.max_file_bytes = 1;
  auto log = UsageLog::create(temp / "inc-a", identity(), limits);
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  for (int i = 0; i < 12; ++i) {
    (*log)->settle((*log)->admit(id, kOne, kSecond + i), kOne);
    ASSERT_TRUE((*log)->commit_batch().has_value());
    for (const auto& [shard, queue] : (*log)->outbox().shards()) (*log)->outbox().acknowledge(shard, queue.last_seq());
    (*log)->trim();
    ASSERT_TRUE((*log)->examine({}).has_value());
  }
}

// ---- whose it is

TEST(DataFolder, WhatOthersMayWriteIsRefused) {
  TempFolder temp;
  fs::create_directory(temp / "data");
  for (const mode_t mode : {0777, 01777, 0770, 0720}) {
    chmod((temp / "data").c_str(), mode);
    DataFolder data;
    const auto opened = data.open(temp / "data");
    ASSERT_FALSE(opened.has_value()) << mode;
    EXPECT_EQ(opened.error().errc, Errc::kInvalid);
    EXPECT_NE(opened.error().message.find(temp / "data"), std::string::npos) << opened.error().message;
    EXPECT_NE(opened.error().message.find("chmod"), std::string::npos) << opened.error().message;
  }
  for (const mode_t mode : {0700, 0750, 0755}) {
    chmod((temp / "data").c_str(), mode);
    DataFolder data;
    const auto opened = data.open(temp / "data");
    EXPECT_TRUE(opened.has_value()) << opened.error().message;
  }
}

TEST(DataFolder, FilesInsideThatOthersMayWriteAreRefused) {
  for (const char* name : {"data/inc-a", "data/inc-a/head", "data/inc-a/records-0", "data/lock"}) {
    Made made;
    write_all(made.temp / "data/lock", "");
    chmod((made.temp / name).c_str(), 0777);
    DataFolder data;
    const auto opened = data.open(made.temp / "data");
    ASSERT_FALSE(opened.has_value()) << name;
    EXPECT_NE(opened.error().message.find(made.temp / name), std::string::npos) << opened.error().message;
  }
}

TEST(DataFolder, ALinkInsideIsRefused) {
  for (const char* name :
       {"data/inc-b", "data/inc-a/head", "data/inc-a/records-0", "data/inc-a/segment-0", "data/lock"}) {
    Made made;
    const std::string path = made.temp / name;
    write_all(made.temp / "victim", "of somebody else");
    fs::remove(path);
    fs::create_symlink(made.temp / "victim", path);
    DataFolder data;
    const auto opened = data.open(made.temp / "data");
    ASSERT_FALSE(opened.has_value()) << name;
    EXPECT_NE(opened.error().message.find(path + " is a symbolic link"), std::string::npos) << opened.error().message;
    EXPECT_EQ(read_all(made.temp / "victim"), "of somebody else");
  }
}

TEST(DataFolder, AnotherUsersIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs the right to give a folder away";
  for (const char* name : {"data", "data/inc-a", "data/inc-a/head"}) {
    Made made;
    ASSERT_EQ(chown((made.temp / name).c_str(), 12345, 0), 0);
    DataFolder data;
    const auto opened = data.open(made.temp / "data");
    ASSERT_FALSE(opened.has_value()) << name;
    EXPECT_NE(opened.error().message.find("12345"), std::string::npos) << opened.error().message;
    EXPECT_NE(opened.error().message.find("--data-dir"), std::string::npos) << opened.error().message;
  }
}

// A crash in the middle of a deletion leaves nothing that looks like a damaged log.
TEST(DataFolder, WhatWasBeingDeletedGoesAtTheNextStart) {
  Made made;
  fs::rename(made.temp / "data/inc-a", made.temp / "data/gone-inc-a");
  DataFolder data;
  ASSERT_TRUE(data.open(made.temp / "data").has_value());
  EXPECT_TRUE(data.incarnations().empty());
  EXPECT_FALSE(fs::exists(made.temp / "data/gone-inc-a"));
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
