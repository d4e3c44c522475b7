#include "core/http/turns.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace tallygate::http {
namespace {

// Writes its name down when its turn comes.
struct Named final : Turns::Guest {
  Named(std::string& order, char name) : order_(order), name_(name) {}
  void begin(std::shared_ptr<Guest>) override { order_ += name_; }
  std::string& order_;
  char name_;
};

class TurnsTest : public ::testing::Test {
 protected:
  Turns::Entry enter(Turns& turns, char name, uint64_t lane) {
    return turns.enter(lane, std::make_shared<Named>(order, name));
  }
  std::string order;
};

using Entry = Turns::Entry;

// A caller with many requests waiting does not make another one wait for them all, nor take all the room.
TEST_F(TurnsTest, LanesTakeTurns) {
  Turns turns(4, 1000, 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(enter(turns, 'a', 1), Entry::kNow);
  for (const char name : {'a', 'b', 'c', 'd'}) EXPECT_EQ(enter(turns, name, 1), Entry::kLater);
  EXPECT_EQ(enter(turns, 'x', 2), Entry::kNow) << "in the room that the first lane may not have";
  for (const char name : {'y', 'z'}) EXPECT_EQ(enter(turns, name, 2), Entry::kLater);
  EXPECT_EQ(turns.waiting(), 6u);
  turns.leave(1);
  turns.leave(2);
  EXPECT_EQ(order, "ya") << "each lane in the order of arrival";
  for (int i = 0; i < 4; ++i) turns.leave(1);
  EXPECT_EQ(order, "yazbcd");
  EXPECT_EQ(turns.waiting(), 0u);
  for (int i = 0; i < 2; ++i) turns.leave(2);
  for (int i = 0; i < 2; ++i) turns.leave(1);
  EXPECT_TRUE(turns.stop().empty());
}

TEST_F(TurnsTest, MoreThanMayWaitAreRefused) {
  Turns turns(1, 1, 1);
  EXPECT_EQ(enter(turns, 'a', 1), Entry::kNow);
  EXPECT_EQ(enter(turns, 'b', 2), Entry::kLater);
  EXPECT_EQ(enter(turns, 'c', 3), Entry::kRefused);
  turns.leave(1);
  EXPECT_EQ(order, "b");
  EXPECT_EQ(enter(turns, 'd', 3), Entry::kLater);
  turns.leave(2);
  turns.leave(3);
}

TEST_F(TurnsTest, StopWaitsForThoseAtWorkAndDropsThoseThatWait) {
  Turns turns(1, 10, 1);
  EXPECT_EQ(enter(turns, 'a', 1), Entry::kNow);
  EXPECT_EQ(enter(turns, 'b', 1), Entry::kLater);
  std::thread leaver([&] {
    while (enter(turns, 'c', 1) != Entry::kRefused) std::this_thread::yield();
    turns.leave(1);
  });
  EXPECT_GE(turns.stop().size(), 1u);
  leaver.join();
  EXPECT_EQ(order, "");
  EXPECT_TRUE(turns.stop().empty());
  EXPECT_EQ(enter(turns, 'd', 1), Entry::kRefused);
}

}  // namespace
}  // namespace tallygate::http
