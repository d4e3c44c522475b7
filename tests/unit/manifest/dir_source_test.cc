#include "operator/manifest/dir_source.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/manifest/manifests.h"

namespace tallygate::manifest {
namespace {

namespace fs = std::filesystem;

class DirSourceTest : public ::testing::Test {
 protected:
  DirSourceTest() : loop_(system_env()) {
    root_ = fs::temp_directory_path() / ("tallygate-manifests-" + system_env().random_hex(8));
    dir_ = root_ / "manifests";
    fs::create_directories(dir_);
  }
  ~DirSourceTest() override {
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
    DirSourceOptions options;
    options.path = dir_.string();
    options.rescan_ms = rescan_ms;
    source_ = std::make_unique<DirSource>(loop_, options);
    auto first = source_->load();
    EXPECT_TRUE(first) << first.error().message;
    EXPECT_TRUE(source_->start([this](const Snapshot& snapshot) { seen_.push_back(snapshot); }));
    return *first;
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
  std::unique_ptr<DirSource> source_;
  std::vector<Snapshot> seen_;
};

TEST_F(DirSourceTest, LoadsAFolderAndIgnoresWhatIsNoManifest) {
  write("plan.yaml", plan_yaml());
  write("tenant.yml", tenant_yaml());
  write(".hidden.yaml", "{");
  write("plan.yaml~", "{");
  write("#plan.yaml#", "{");
  write("README.md", "{");
  fs::create_directory(dir_ / "folder.yaml");
  const Snapshot first = start();
  EXPECT_EQ(first.generation, 1);
  EXPECT_EQ(all_of(first.accepted->faults), "");
  EXPECT_EQ(first.accepted->resources.plans.size(), 1u);
  EXPECT_EQ(first.accepted->resources.tenants.size(), 1u);
  settle();
  EXPECT_TRUE(seen_.empty());  // nothing changed, nothing told
}

TEST_F(DirSourceTest, AFolderThatNeverWasIsAnError) {
  DirSource source(loop_, {.path = (root_ / "none").string()});
  const auto loaded = source.load();
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().errc, Errc::kNotFound);
}

TEST_F(DirSourceTest, SavingInPlaceAndByRenameAreSeen) {
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

TEST_F(DirSourceTest, ASeriesOfChangesIsOneReload) {
  start();
  for (int i = 0; i < 20; ++i) write("plan" + std::to_string(i) + ".yaml", plan_yaml("plan" + std::to_string(i)));
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(now().plans.size(), 20u);
  settle();
  EXPECT_EQ(seen_.size(), 1u);
}

TEST_F(DirSourceTest, ABadFileKeepsTheLastGoodStateAndSaysSo) {
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

TEST_F(DirSourceTest, AFileIsNotReadWhileItIsWritten) {
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

TEST_F(DirSourceTest, DeletingAFileRemovesItsObjects) {
  write("plan.yaml", plan_yaml());
  write("other.yaml", plan_yaml("other"));
  start();
  fs::remove(dir_ / "other.yaml");
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(now().plans.size(), 1u);
}

TEST_F(DirSourceTest, ConfigMapsSwapALinkToAFolder) {
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

TEST_F(DirSourceTest, AFolderThatGoesAndComesBack) {
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

TEST_F(DirSourceTest, ALinkToTheFolderMaySwap) {
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
TEST_F(DirSourceTest, WhatInotifyDoesNotSeeTheScanFinds) {
  std::ofstream(root_ / "target") << plan_yaml();
  fs::create_symlink(root_ / "target", dir_ / "plan.yaml");
  start(/*rescan_ms=*/50);
  std::ofstream(root_ / "target") << plan_yaml("standard", "0.40", "12345");
  ASSERT_TRUE(wait_for([&] { return !seen_.empty() && amount() == 12'345; }));
}

TEST_F(DirSourceTest, AnUnreadableFileKeepsItsObjects) {
  write("plan.yaml", plan_yaml());
  start();
  fs::remove(dir_ / "plan.yaml");
  fs::create_symlink("nowhere", dir_ / "plan.yaml");
  ASSERT_TRUE(wait_for_snapshots(1));
  EXPECT_EQ(seen_.back().accepted->faults.at(0).reason, Reason::kNotFound);
  EXPECT_EQ(amount(), 1000);
}

TEST_F(DirSourceTest, StopIsFinalAndMayComeFromTheCallback) {
  start();
  source_->stop();
  source_->stop();
  write("plan.yaml", plan_yaml());
  settle();
  EXPECT_TRUE(seen_.empty());
  EXPECT_TRUE(source_->start([this](const Snapshot& snapshot) {
    seen_.push_back(snapshot);
    source_->stop();
  }));
  ASSERT_TRUE(wait_for_snapshots(1));  // what changed while it was stopped
  write("plan.yaml", plan_yaml("standard", "0.40", "3"));
  settle();
  EXPECT_EQ(seen_.size(), 1u);
}

}  // namespace
}  // namespace tallygate::manifest
