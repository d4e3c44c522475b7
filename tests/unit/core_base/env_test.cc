#include "core/env.h"

#include <gtest/gtest.h>

#include <set>

namespace tallygate {
namespace {

TEST(Env, TheSystemsClocksGoForward) {
  Env& env = system_env();
  const int64_t before = env.mono_ns();
  env.sleep_ms(2);
  EXPECT_GE(env.mono_ns() - before, 2'000'000);
  EXPECT_GT(env.wall_s(), 1'600'000'000);
}

TEST(Env, TheManualClockMovesOnlyWhenTold) {
  ManualEnv env;
  const int64_t mono = env.mono_ns(), wall = env.wall_ns();
  EXPECT_EQ(env.mono_ns(), mono);
  env.advance_ms(5);
  env.sleep_ms(5);
  EXPECT_EQ(env.mono_ns(), mono + 10'000'000);
  EXPECT_EQ(env.wall_ns(), wall + 10'000'000);
  env.set_wall_ns(7);  // the wall jumps, intervals do not
  EXPECT_EQ(env.wall_ns(), 7);
  EXPECT_EQ(env.mono_ns(), mono + 10'000'000);
}

TEST(Env, OneSeedOneSequence) {
  ManualEnv a(1), b(1), c(2);
  const std::string text = a.random_hex(16);
  EXPECT_EQ(text, b.random_hex(16));
  EXPECT_NE(text, c.random_hex(16));
  EXPECT_EQ(text.size(), 32u);
  EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), std::string::npos);
}

TEST(Env, RandomBelowStaysBelowAndReachesAll) {
  ManualEnv env(9);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1'000; ++i) seen.insert(env.random_below(7));
  EXPECT_EQ(seen, (std::set<uint64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(env.random_below(1), 0u);
}

TEST(Env, TheSystemsRandomBytesDiffer) {
  EXPECT_NE(system_env().random_hex(16), system_env().random_hex(16));
  EXPECT_EQ(system_env().random_hex(0), "");
}

TEST(Env, TheBootIdIsSteady) { EXPECT_EQ(kernel_boot_id(), kernel_boot_id()); }

}  // namespace
}  // namespace tallygate
