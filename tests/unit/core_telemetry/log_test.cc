#include "core/telemetry/log.h"

#include <gtest/gtest.h>

#include <thread>

namespace tallygate {
namespace {

class LogTest : public testing::Test {
 protected:
  void start(log::Level level, log::Format format) {
    log::Options options;
    options.level = level;
    options.format = format;
    options.sink = [this](std::string_view line) { lines_.emplace_back(line); };
    log::start(options, env_);
  }
  ~LogTest() override {
    log::stop();
    log::set_level(log::Level::kInfo);
  }
  ManualEnv env_{1, 1'769'860'800'123'456'789};  // 2026-01-31T12:00:00.123Z
  std::vector<std::string> lines_;
};

TEST_F(LogTest, WritesOneJsonObjectALine) {
  start(log::Level::kInfo, log::Format::kJson);
  const std::string tenant = "acme\n\"x\"\xff";
  log::info("lease granted", {{"tenant", tenant},
                              {"units", int64_t{50}},
                              {"small", 3},
                              {"big", uint64_t{1} << 63},
                              {"share", 0.5},
                              {"strict", true},
                              {"view", std::string_view("v")}});
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0],
            R"({"ts":"2026-01-31T12:00:00.123Z","level":"info","msg":"lease granted","tenant":"acme\n\"x\"\ufffd",)"
            R"("units":50,"small":3,"big":9223372036854775808,"share":0.5,"strict":true,"view":"v"})");
}

TEST_F(LogTest, TextIsForPeopleAndStillOneLine) {
  start(log::Level::kInfo, log::Format::kText);
  log::warn("redis away", {{"error", "connection\nrefused"}, {"host", "cache"}, {"tries", 3}});
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0], R"(12:00:00.123 warn  redis away error="connection\nrefused" host=cache tries=3)");
}

TEST_F(LogTest, LeavesOutWhatIsBelowTheLevel) {
  start(log::Level::kWarn, log::Format::kJson);
  log::debug("a");
  log::info("b");
  log::warn("c");
  log::error("d");
  EXPECT_EQ(lines_.size(), 2u);
  log::set_level(log::Level::kOff);
  log::error("e");
  EXPECT_EQ(lines_.size(), 2u);
}

TEST_F(LogTest, AThrottledPlaceSpeaksOncePerIntervalAndSaysHowMuchItLeftOut) {
  start(log::Level::kInfo, log::Format::kText);
  log::Throttle throttle(10);
  for (int i = 0; i < 5; ++i) log::warn(throttle, "again");
  env_.advance_ms(9'999);
  log::warn(throttle, "again");
  EXPECT_EQ(lines_.size(), 1u);
  env_.advance_ms(1);
  log::warn(throttle, "again", {{"n", 1}});
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_TRUE(lines_[1].ends_with("warn  again n=1 suppressed=5")) << lines_[1];
}

TEST(Log, ThreadsMayLogWhileItStartsAndStops) {
  testing::internal::CaptureStderr();
  std::atomic<bool> go_on{true};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (go_on) log::info("spinning", {{"thread", 1}});
    });
  }
  for (int i = 0; i < 20; ++i) {
    log::Options options;
    options.format = log::Format::kJson;
    options.queue_lines_max = 64;
    log::start(options, system_env());
  }
  go_on = false;
  for (auto& thread : threads) thread.join();
  log::error("the last line");
  log::stop();
  const std::string written = testing::internal::GetCapturedStderr();
  EXPECT_NE(written.find("\"msg\":\"the last line\"}\n"), std::string::npos) << "stop() writes out what is queued";
  for (size_t at = 0; at < written.size();) {
    const size_t end = written.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    ASSERT_EQ(written[at], '{');
    ASSERT_EQ(written[end - 1], '}');
    at = end + 1;
  }
}

}  // namespace
}  // namespace tallygate
