#include "core/telemetry/health.h"

#include <gtest/gtest.h>

namespace tallygate::telemetry {
namespace {

TEST(Health, TheWholeIsAsBadAsItsWorstService) {
  ManualEnv env;
  Health health(env);
  env.advance_ms(12'900);
  ServiceState redis = ServiceState::kOk;
  health.add_service("database", [] { return ServiceHealth{}; });
  health.add_service("redis",
                     [&] { return ServiceHealth{redis, redis == ServiceState::kOk ? "" : "no answer for 3s"}; });
  EXPECT_TRUE(health.health().serving);
  EXPECT_EQ(health.health().body,
            R"({"status":"ok","services":{"database":{"status":"ok"},"redis":{"status":"ok"}},"uptime":12})");
  redis = ServiceState::kDegraded;
  EXPECT_TRUE(health.health().serving);
  redis = ServiceState::kDown;
  EXPECT_FALSE(health.health().serving);
  EXPECT_EQ(health.health().body, R"({"status":"down","services":{"database":{"status":"ok"},)"
                                  R"("redis":{"status":"down","detail":"no answer for 3s"}},"uptime":12})");
}

TEST(Health, ShowsTheQueueWhereThereIsOne) {
  ManualEnv env;
  Health health(env);
  health.set_queue_metrics([] { return QueueMetrics{1, 2, 3, 4}; });
  EXPECT_EQ(
      health.health().body,
      R"({"status":"ok","services":{},"uptime":0,"queueMetrics":{"active":1,"completed":2,"failed":3,"waiting":4}})");
}

TEST(Health, ReadinessNamesWhatIsMissing) {
  ManualEnv env;
  Health health(env);
  std::optional<std::string> missing = "not connected";
  health.add_readiness("policy", [] { return std::nullopt; });
  health.add_readiness("redis", [&] { return missing; });
  EXPECT_FALSE(health.readiness().serving);
  EXPECT_EQ(health.readiness().body, R"({"ready":false,"notReady":[{"check":"redis","reason":"not connected"}]})");
  missing.reset();
  EXPECT_TRUE(health.readiness().serving);
  EXPECT_EQ(health.readiness().body, R"({"ready":true,"notReady":[]})");
}

}  // namespace
}  // namespace tallygate::telemetry
