#include "operator/billing/pace.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tallygate::billing {
namespace {

TEST(Backoff, StaysWithinTheDoublingCeiling) {
  ManualEnv env(7);
  const BackoffOptions options{500, 300'000};
  for (int64_t attempt = 0; attempt < 100; ++attempt) {
    const int64_t ceiling = attempt > 20 ? 300'000 : std::min<int64_t>(300'000, 500LL << attempt);
    for (int i = 0; i < 50; ++i) {
      const int64_t wait = backoff_ms(env, options, attempt);
      EXPECT_GE(wait, 0);
      EXPECT_LE(wait, ceiling);
    }
  }
}

TEST(Backoff, IsJitteredOverTheWholeRange) {
  ManualEnv env(7);
  int64_t least = 1'000'000, most = 0;
  for (int i = 0; i < 1000; ++i) {
    const int64_t wait = backoff_ms(env, {500, 300'000}, 4);
    least = std::min(least, wait);
    most = std::max(most, wait);
  }
  EXPECT_LT(least, 400);
  EXPECT_GT(most, 7600);
}

TEST(Backoff, NeverBeforeTheToldTime) {
  ManualEnv env(7);
  for (int i = 0; i < 100; ++i) {
    const int64_t wait = backoff_ms(env, {500, 300'000}, 0, 10'000);
    EXPECT_GE(wait, 10'000);
    EXPECT_LE(wait, 10'500);
  }
}

TEST(RateLimit, BurstThenRate) {
  ManualEnv env;
  RateLimit limit(env, 10, 3);
  EXPECT_EQ(limit.take(), 0);
  EXPECT_EQ(limit.take(), 0);
  EXPECT_EQ(limit.take(), 0);
  const int64_t wait = limit.take();
  EXPECT_GT(wait, 0);
  EXPECT_LE(wait, 101);
  env.advance_ms(wait);
  EXPECT_EQ(limit.take(), 0);
}

TEST(RateLimit, HoldsTheRateOverTime) {
  ManualEnv env;
  RateLimit limit(env, 100, 1);
  int taken = 0;
  const int64_t end = env.mono_ms() + 10'000;
  while (env.mono_ms() < end) {
    const int64_t wait = limit.take();
    if (wait == 0) {
      ++taken;
    } else {
      env.advance_ms(wait);
    }
  }
  EXPECT_LE(taken, 1001);
  EXPECT_GE(taken, 900);
}

TEST(RateLimit, AYearOfSilenceGivesNoMoreThanTheBurst) {
  ManualEnv env;
  RateLimit limit(env, 1000, 5);
  env.advance_ms(int64_t{366} * 24 * 3600 * 1000);
  int taken = 0;
  while (limit.take() == 0) ++taken;
  EXPECT_EQ(taken, 5);
}

}  // namespace
}  // namespace tallygate::billing
