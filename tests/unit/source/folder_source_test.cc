#include "operator/source/folder_source.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "operator/source/acceptance.h"
#include "tests/unit/manifest/manifests.h"

namespace tallygate::source {
namespace {

using manifest::all_of;
using manifest::plan_name;
using manifest::plan_yaml;
using manifest::Reason;
using manifest::Resources;
using manifest::tenant_yaml;

namespace fs = std::filesystem;

class FolderSourceTest : public ::testing::Test {
 protected:
  FolderSourceTest() : loop_(system_env()) {
    root_ = fs::temp_directory_path() / ("tallygate-manifests-" + system_env().random_hex(8));
    dir_ = root_ / "manifests";
    fs::create_directories(dir_);
  }
  ~FolderSourceTest() override {
    source_.reset();
    fs::remove_all(root_);
  }

  void write(const std::string& name, const std::string& text) { std::ofstream(dir_ / name) << text; }

  // As editors do: a new file, renamed over the old one.
  void write_over(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / ("." + name + ".swp")) << text;
    fs::rename(dir_ / ("." + name + ".swp"), dir_ / name);
  }

  Snapshot start(int64_t rescan_ms = 60'000) {
    FolderSourceOptions options;
    options.path = dir_.string();
    options.rescan_ms = rescan_ms;
    source_ = std::make_unique<FolderSource>(loop_, options);
    listen();
    EXPECT_EQ(seen_.size(), 1u) << "start() looks";
    const Snapshot first = seen_.back();
    seen_.clear();
    return first;
  }
  void listen(bool once = false) {
    EXPECT_TRUE(source_->start([this, once](const Look& look) {
      const auto snapshot = acceptance_.take(look);
      if (snapshot.news) seen_.push_back(snapshot);
      if (once) source_->stop();
    }));
  }

  // Runs the loop until `done`, or for what a slow machine may need.
  template <class Fn>
  bool wait_for(Fn done) {
    const int64_t end_ms = system_env().mono_ms() + 10'000;
    while (!done() && system_env().mono_ms() < end_ms) loop_.run_once(20);
    return done();
  }
  bool wait_for_snapshots(size_t count) {
    return wait_for([&] { return seen_.size() >= count; });
  }
  void settle() {  // longer than the debounce: whatever is to come has come
    const int64_t end_ms = system_env().mono_ms() + 300;
    while (system_env().mono_ms() < end_ms) loop_.run_once(20);
  }
  const Resources& now() const { return seen_.back().accepted->resources; }
  int64_t amount() const { return now().plans.at(plan_name("standard")).limits[0].amount; }

  EventLoop loop_;
  fs::path root_, dir_;
  std::unique_ptr<FolderSource> source_;
  Acceptance acceptance_{{}};
  std::vector<Snapshot> seen_;
};

TEST_F(FolderSourceTest, LoadsAFolderAndIgnoresWhatIsNoManifest) {
  write("plan.yaml", plan_yaml());
  write("tenant.yml", tenant_yaml());
  write(".hidden.yaml", "{");
  write("plan.yaml~", "{");
  write("#plan.yaml#", "{");
  write("README.md", "{");
  fs::create_directory(dir_ / "folder.yaml");
  const Snapshot first = start();
  EXPECT_EQ(first.number, 1);
  EXPECT_EQ(all_of(first.accepted->faults), "");
  EXPECT_EQ(first.accepted->resources.plans.size(), 1u);
  EXPECT_EQ(first.accepted->resources.tenants.size(), 1u);
  settle();
  EXPECT_TRUE(seen_.empty());  // nothing changed, nothing told
}

TEST_F(FolderSourceTest, AFolderThatNeverWasIsAFaultAndDoubted) {
  FolderSource source(loop_, {.path = (root_ / "none").string()});
  std::vector<Look> looks;
  ASSERT_TRUE(source.start([&](Look look) { looks.push_back(std::move(look)); }));
  ASSERT_EQ(looks.size(), 1u);
  EXPECT_NE(looks[0].doubt, "");
  EXPECT_EQ(looks[0].files.at(0)->faults.at(0).reason, Reason::kNotFound);
}

// What is missing at the start may be in the file that cannot be read, and comes to light once it can.
TEST_F(FolderSourceTest, WhatIsMissingIsDoubtedWhileAFileHasHadFaultsEverSinceTheStart) {
  write("plan.yaml", "kind: [");
  std::vector<Look> looks;
  FolderSource source(loop_, {.path = dir_.string()});
  ASSERT_TRUE(source.start([&](Look look) { looks.push_back(std::move(look)); }));
  EXPECT_NE(looks.back().doubt, "");
  write("other.yaml", "kind: [");
  ASSERT_TRUE(wait_for([&] { return looks.size() == 2; }));
  EXPECT_NE(looks.back().doubt, "");
  write("plan.yaml", plan_yaml());
  ASSERT_TRUE(wait_for([&] { return looks.size() == 3; }));
  EXPECT_EQ(looks.back().doubt, "");
}

TEST_F(FolderSourceTest, SavingInPlaceAndByRenameAreSeen) {
  write("plan.yaml", plan_yaml());
  start();
  write("plan.yaml", plan_yaml("standard", "0.40", "2000"));
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(amount(), 2000);
  EXPECT_TRUE(seen_.back().resources_changed);
  write_over("plan.yaml", plan_yaml("standard", "0.40", "3000"));
  ASSERT_TRUE(wait_for_snapshots(2));
  EXPECT_EQ(amount(), 3000);
}

TEST_F(FolderSourceTest, ASeriesOfChangesIsOneReload) {
  start();
  for (int i = 0; i < 20; ++i) write("plan" + std::to_string(i) + ".yaml", plan_yaml("plan" + std::to_string(i)));
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(now().plans.size(), 20u);
  settle();
  EXPECT_EQ(seen_.size(), 1u);
}

TEST_F(FolderSourceTest, ABadFileKeepsTheLastGoodStateAndSaysSo) {
  write("plan.yaml", plan_yaml());
  start();
  write("plan.yaml", "kind: [");
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_TRUE(seen_.back().accepted->degraded());
  EXPECT_FALSE(seen_.back().resources_changed);
  EXPECT_EQ(amount(), 1000);
  write("plan.yaml", plan_yaml("standard", "0.40", "5"));
  ASSERT_TRUE(wait_for_snapshots(2));
  EXPECT_FALSE(seen_.back().accepted->degraded());
  EXPECT_EQ(amount(), 5);
}

TEST_F(FolderSourceTest, AFileIsNotReadWhileItIsWritten) {
  write("plan.yaml", plan_yaml());
  start();
  std::ofstream writer(dir_ / "plan.yaml");  // truncated, open
  writer << "kind: [" << std::flush;
  write("other.yaml", plan_yaml("other"));
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(all_of(seen_.back().accepted->faults), "");
  EXPECT_EQ(now().plans.size(), 2u);
  writer.close();
  ASSERT_TRUE(wait_for_snapshots(2));
  EXPECT_TRUE(seen_.back().accepted->degraded());
}

TEST_F(FolderSourceTest, DeletingAFileRemovesItsObjects) {
  write("plan.yaml", plan_yaml());
  write("other.yaml", plan_yaml("other"));
  start();
  fs::remove(dir_ / "other.yaml");
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(now().plans.size(), 1u);
}

TEST_F(FolderSourceTest, ConfigMapsSwapALinkToAFolder) {
  const auto version = [&](const std::string& name, const std::string& amount) {
    fs::create_directory(dir_ / name);
    std::ofstream(dir_ / name / "plan.yaml") << plan_yaml("standard", "0.40", amount);
    fs::create_directory_symlink(name, dir_ / "..data_tmp");
    fs::rename(dir_ / "..data_tmp", dir_ / "..data");
  };
  version("..2026_01", "10");
  fs::create_symlink("..data/plan.yaml", dir_ / "plan.yaml");
  const Snapshot first = start();
  EXPECT_EQ(first.accepted->resources.plans.at(plan_name("standard")).limits[0].amount, 10);
  version("..2026_02", "20");
  fs::remove_all(dir_ / "..2026_01");
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(amount(), 20);
}

TEST_F(FolderSourceTest, AFolderThatGoesAndComesBack) {
  write("plan.yaml", plan_yaml());
  start();
  fs::rename(dir_, root_ / "elsewhere");
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_TRUE(seen_.back().accepted->degraded());
  EXPECT_EQ(amount(), 1000);  // nothing is lost with the folder
  fs::create_directory(dir_);
  write("plan.yaml", plan_yaml("standard", "0.40", "7"));
  ASSERT_TRUE(wait_for([&] { return !seen_.back().accepted->degraded() && amount() == 7; }));
  fs::remove_all(dir_);
  ASSERT_TRUE(wait_for([&] { return seen_.back().accepted->degraded(); }));
  EXPECT_EQ(amount(), 7);
  fs::create_directory(dir_);
  write("plan.yaml", plan_yaml("standard", "0.40", "8"));
  ASSERT_TRUE(wait_for([&] { return !seen_.back().accepted->degraded() && amount() == 8; }));
}

TEST_F(FolderSourceTest, ALinkToTheFolderMaySwap) {
  fs::create_directory(root_ / "v1");
  fs::create_directory(root_ / "v2");
  std::ofstream(root_ / "v1" / "plan.yaml") << plan_yaml("standard", "0.40", "1");
  std::ofstream(root_ / "v2" / "plan.yaml") << plan_yaml("standard", "0.40", "2");
  fs::remove(dir_);
  fs::create_directory_symlink("v1", dir_);
  start();
  fs::create_directory_symlink("v2", root_ / "next");
  fs::rename(root_ / "next", dir_);
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(amount(), 2);
}

// A change behind a link to another folder gives no event: the scan finds it.
TEST_F(FolderSourceTest, WhatInotifyDoesNotSeeTheScanFinds) {
  std::ofstream(root_ / "target") << plan_yaml();
  fs::create_symlink(root_ / "target", dir_ / "plan.yaml");
  start(/*rescan_ms=*/50);
  std::ofstream(root_ / "target") << plan_yaml("standard", "0.40", "12345");
  ASSERT_TRUE(wait_for([&] { return !seen_.empty() && amount() == 12'345; }));
}

TEST_F(FolderSourceTest, AnUnreadableFileKeepsItsObjects) {
  write("plan.yaml", plan_yaml());
  start();
  fs::remove(dir_ / "plan.yaml");
  fs::create_symlink("nowhere", dir_ / "plan.yaml");
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(seen_.back().accepted->faults.at(0).reason, Reason::kNotFound);
  EXPECT_EQ(amount(), 1000);
}

TEST_F(FolderSourceTest, StopIsFinalAndMayComeFromTheCallback) {
  start();
  source_->stop();
  source_->stop();
  write("plan.yaml", plan_yaml());
  settle();
  EXPECT_TRUE(seen_.empty());
  listen(/*once=*/true);
  ASSERT_TRUE(wait_for_snapshots(1));  // what changed while it was stopped
  write("plan.yaml", plan_yaml("standard", "0.40", "3"));
  settle();
  EXPECT_EQ(seen_.size(), 1u);
}

}  // namespace
}  // namespace tallygate::source
