// Numbers as charges read them, and what is held by what requests came to of late.
#include "sidecar/admission/amounts.h"

#include <gtest/gtest.h>

#include "sidecar/admission/plan.h"

namespace tallygate::sidecar {
namespace {

TEST(ParseAmount, RoundsUpAndRefusesWhatIsNone) {
  struct Case {
    const char* text;
    int64_t units;  // -1: none
  };
  for (const Case& c : {Case{"0", 0}, {"3", 3}, {"2.000001", 3}, {"2.0", 2}, {"1e3", 1000}, {"1.5e-1", 1},
                        {"9007199254740991", 9007199254740991}, {"9007199254740992", -1}, {"-1", -1}, {"-0.5", -1},
                        {"1e400", -1}, {"NaN", -1}, {"Infinity", -1}, {"", -1}, {"+1", -1}, {" 1", -1}, {"0x10", -1},
                        {"1,000", -1}, {"01", -1}, {"1.", -1}}) {
    EXPECT_EQ(parse_amount(c.text).value_or(-1), c.units) << c.text;
  }
}

TEST(Recent, IsWhatNineteenOfTwentyDidNotPass) {
  Recent recent;
  EXPECT_EQ(recent.nineteen_of_twenty(), 0) << "nothing is known";
  recent.add(0);
  EXPECT_EQ(recent.nineteen_of_twenty(), 0);
  for (const int64_t units : {int64_t{1}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{7}, int64_t{8}, int64_t{100},
                              int64_t{1023}, int64_t{1024}, int64_t{9007199254740991}}) {
    Recent one;
    one.add(units);
    EXPECT_GE(one.nineteen_of_twenty(), units);
    EXPECT_LE(one.nineteen_of_twenty(), units + units / 4) << units;
  }
  for (int i = 0; i < 95; ++i) recent.add(10);
  for (int i = 0; i < 4; ++i) recent.add(1'000'000);
  EXPECT_LE(recent.nineteen_of_twenty(), 12);
  for (int i = 0; i < 2'000; ++i) recent.add(1'000);
  EXPECT_GE(recent.nineteen_of_twenty(), 1'000) << "what was long ago is forgotten";
  EXPECT_LE(recent.nineteen_of_twenty(), 1'250);
}

}  // namespace
}  // namespace tallygate::sidecar
