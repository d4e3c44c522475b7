#include "core/standing.h"

#include <gtest/gtest.h>

namespace tallygate {
namespace {

TEST(Standing, TellsWhyAndSinceWhenUntilItSucceeds) {
  ManualEnv env;
  Standing standing(env);
  EXPECT_FALSE(standing.trouble());
  EXPECT_FALSE(standing.fails_for_good(0));
  standing.failed("away");
  env.advance_ms(7'000);
  standing.failed("refused");
  const auto trouble = standing.trouble();
  ASSERT_TRUE(trouble);
  EXPECT_EQ(trouble->why, "refused") << "the last one";
  EXPECT_EQ(trouble->for_ms, 7'000) << "since the first one";
  standing.succeeded();
  EXPECT_FALSE(standing.trouble());
  env.advance_ms(1'000);
  standing.failed("");
  ASSERT_TRUE(standing.trouble()) << "a failure without words is one too";
  EXPECT_EQ(standing.trouble()->for_ms, 0);
}

TEST(Standing, WhatNeverWorkedFailsForGoodAtOnceAndTheRestAfterATime) {
  ManualEnv env;
  Standing standing(env);
  standing.failed("barred");
  EXPECT_TRUE(standing.fails_for_good(60'000));
  standing.succeeded();
  standing.failed("away");
  env.advance_ms(60'000);
  EXPECT_FALSE(standing.fails_for_good(60'000));
  env.advance_ms(1);
  EXPECT_TRUE(standing.fails_for_good(60'000));
  standing.rests();
  EXPECT_FALSE(standing.fails_for_good(60'000));
  EXPECT_FALSE(standing.trouble());
  standing.failed("away");
  EXPECT_TRUE(standing.fails_for_good(60'000)) << "a new leader has booked nothing yet";
}

}  // namespace
}  // namespace tallygate
