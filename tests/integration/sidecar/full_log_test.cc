// The usage log takes no more: nothing is admitted, nothing is told of our files, and no unit is lost by it.
#include <filesystem>

#include "core/telemetry/log.h"
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

class LogLines {
 public:
  LogLines() {
    log::Options options;
    options.sink = [this](std::string_view line) { text_ += std::string(line) + "\n"; };
    log::start(options, system_env());
  }
  ~LogLines() { log::stop(); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Units are bought for more requests than one segment has slots.
constexpr int64_t kFunds = 100'000;

std::vector<Call*> fill(World& world, Pod& pod) {
  std::vector<Call*> open;
  while (true) {
    Call& call = world.ask(pod);
    if (!call.admitted()) return open;
    open.push_back(&call);
  }
}

TEST(FullLog, TheClientLearnsNothingOfOurFiles) {
  World world;
  world.ready(kFunds, kFunds);
  const std::string folder = world.temporary_folder();
  Pod& pod = world.pod({.folder = folder});
  world.warm(pod);
  // Nothing can be made in the folder any more.
  std::filesystem::remove_all(pod.log->folder());
  LogLines lines;
  ASSERT_TRUE(world.until([&] { return !fill(world, pod).empty(); }));
  const Call& refused = world.ask(pod);
  ASSERT_EQ(refused.reason(), "LogFull");
  EXPECT_EQ(refused.denial.status, 503);
  EXPECT_EQ(refused.denial.body.find(folder), std::string::npos) << refused.denial.body;
  EXPECT_EQ(refused.body().at("detail"), refused.body().at("title"));
  EXPECT_NE(lines.text().find(pod.log->folder()), std::string::npos) << lines.text();
}

TEST(FullLog, UnitsThatWereTakenForARefusedRequestAreSpentByAnother) {
  World world;
  world.ready(kFunds, kFunds);
  Pod::Options options;
  options.log.max_segments = 1;
  Pod& pod = world.pod(std::move(options));
  const std::vector<Call*> open = fill(world, pod);
  ASSERT_GT(open.size(), 30'000u);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(world.outcome(pod), "503 LogFull");
  for (Call* call : open) pod.settle(*call);
  ASSERT_TRUE(pod.log->commit_batch());
  int64_t admitted = static_cast<int64_t>(open.size());
  while (true) {
    const std::string outcome = world.outcome(pod);
    if (outcome == "429 QuotaExhausted") break;
    if (outcome == "admitted") ++admitted;
    ASSERT_LE(admitted, kFunds);
    if (outcome == "503 LogFull") {
      ASSERT_TRUE(pod.log->commit_batch());
    }
  }
  EXPECT_EQ(admitted, kFunds);
}

}  // namespace
}  // namespace tallygate::testing
