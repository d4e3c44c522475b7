#include "core/jwt/remembered.h"

#include <gtest/gtest.h>

namespace tallygate::jwt {
namespace {

Claims claims(const std::string& id, int64_t expires_s) {
  Claims out;
  out.external_id = id;
  out.expires_s = expires_s;
  return out;
}

TEST(Remembered, ATokenIsKnownWholeAndUntilItExpires) {
  Remembered known;
  EXPECT_EQ(known.find("a.b.c", 0, 0), nullptr);
  known.add("a.b.c", claims("t", 100));
  ASSERT_NE(known.find("a.b.c", 99, 0), nullptr);
  EXPECT_EQ(known.find("a.b.c", 99, 0)->external_id, "t");
  EXPECT_EQ(known.find("a.b.c", 100, 0), nullptr);
  EXPECT_NE(known.find("a.b.c", 129, 30), nullptr);
  EXPECT_EQ(known.find("a.b.c", 130, 30), nullptr);
  for (const char* other : {"", "a.b.", "A.b.c", "a.b.cc", "a.b.d"})
    EXPECT_EQ(known.find(other, 0, 0), nullptr) << other;
  known.clear();
  EXPECT_EQ(known.find("a.b.c", 0, 0), nullptr);
}

// Tokens of one signature's end (which takes the key to make) share two places.
TEST(Remembered, TheOlderOfTwoMakesWay) {
  Remembered known;
  const std::string end(40, 's');
  for (const char* head : {"a", "b", "c"}) known.add(head + end, claims(head, 100));
  EXPECT_EQ(known.find("a" + end, 0, 0), nullptr);
  EXPECT_EQ(known.find("b" + end, 0, 0)->external_id, "b");
  EXPECT_EQ(known.find("c" + end, 0, 0)->external_id, "c");
  known.add("c" + end, claims("c2", 100));
  EXPECT_EQ(known.find("b" + end, 0, 0)->external_id, "b");
  EXPECT_EQ(known.find("c" + end, 0, 0)->external_id, "c2");
}

TEST(Remembered, KeepsNoMoreThanItsPlaces) {
  Remembered known;
  for (int i = 0; i < 10'000; ++i) known.add("token." + std::to_string(i * 7919), claims("t", 100));
  EXPECT_LE(known.size(), Remembered::kPlaces);
  EXPECT_GT(known.size(), Remembered::kPlaces / 2);
  known.add(std::string(kTokenBytesMax + 1, 'x'), claims("t", 100));
  EXPECT_EQ(known.find(std::string(kTokenBytesMax + 1, 'x'), 0, 0), nullptr);
}

}  // namespace
}  // namespace tallygate::jwt
