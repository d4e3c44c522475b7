// Slots: handed out again only when booked, and without waiting for their neighbours.
#include <set>

#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

constexpr size_t kSmallSlots = ((1 << 20) - 64) / 32;

TEST(Slots, NeverHandedOutTwiceWhileUnbooked) {
  for (const size_t charges : {size_t{1}, size_t{8}}) {
    TempFolder temp;
    auto log = UsageLog::create(temp / "inc-a", identity());
    const uint32_t id = (*log)->define(definition("shop/acme", charges)).value();
    const std::vector<int64_t> units(charges, 1);
    std::mt19937_64 random(charges);
    std::vector<Slot*> in_flight;
    std::set<Slot*> taken;  // in flight, or settled and not committed
    std::vector<Slot*> settled;
    for (int i = 0; i < 200'000; ++i) {
      if (random() % 2 == 0 && in_flight.size() < 20'000) {
        Slot* slot = (*log)->admit(id, units, kSecond);
        ASSERT_NE(slot, nullptr);
        ASSERT_TRUE(taken.insert(slot).second);
        in_flight.push_back(slot);
      } else if (!in_flight.empty()) {
        std::swap(in_flight[random() % in_flight.size()], in_flight.back());
        (*log)->settle(in_flight.back(), units);
        settled.push_back(in_flight.back());
        in_flight.pop_back();
      }
      if (random() % 5000 == 0) {
        ASSERT_TRUE((*log)->commit_batch().has_value());
        for (Slot* slot : settled) taken.erase(slot);
        settled.clear();
      }
    }
    EXPECT_EQ((*log)->in_flight(), in_flight.size());
  }
}

TEST(Slots, SpaceIsUsedAgainOnceBooked) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  for (size_t i = 0; i < 10 * kSmallSlots; ++i) {
    Slot* slot = (*log)->admit(id, one, kSecond);
    ASSERT_NE(slot, nullptr);
    (*log)->settle(slot, one);
    if (i % 1000 == 0) {
      ASSERT_TRUE((*log)->commit_batch().has_value());
    }
  }
  EXPECT_LE((*log)->segments(), 2u);
}

// A stream of an hour must not hold a whole segment: at one such stream every few seconds they would all be held.
TEST(Slots, AFewLongStreamsDoNotHoldTheirWholeSegments) {
  TempFolder temp;
  LogLimits limits;
  limits.max_segments = 4;
  auto log = UsageLog::create(temp / "inc-a", identity(), limits);
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  for (size_t i = 0; i < 12 * kSmallSlots; ++i) {
    Slot* slot = (*log)->admit(id, one, kSecond);
    ASSERT_NE(slot, nullptr) << "after " << i << ": " << (*log)->last_error();
    if (i % (kSmallSlots / 4) != 0) (*log)->settle(slot, one);  // the others stay
    if (i % 1000 == 0) {
      ASSERT_TRUE((*log)->commit_batch().has_value());
    }
  }
  EXPECT_GE((*log)->in_flight(), 48u);
}

TEST(Slots, FullMeansNullAndAReasonAndRecoversAfterABatch) {
  TempFolder temp;
  LogLimits limits;
  limits.max_segments = 1;
  auto log = UsageLog::create(temp / "inc-a", identity(), limits);
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1};
  std::vector<Slot*> slots;
  while (Slot* slot = (*log)->admit(id, one, kSecond)) slots.push_back(slot);
  EXPECT_EQ(slots.size(), kSmallSlots);
  EXPECT_NE((*log)->last_error(), "");
  for (Slot* slot : slots) (*log)->settle(slot, one);
  EXPECT_EQ((*log)->admit(id, one, kSecond), nullptr) << "settled, but not booked";
  ASSERT_TRUE((*log)->commit_batch().has_value());
  EXPECT_NE((*log)->admit(id, one, kSecond), nullptr);
  // The other size has no segment to go to, and the definition's frame is whole all the same.
  const uint32_t wide = (*log)->define(definition("shop/acme", 5)).value();
  const std::vector<int64_t> five(5, 1);
  EXPECT_EQ((*log)->admit(wide, five, kSecond), nullptr);
}

TEST(Slots, ARefusedBatchKeepsItsSlots) {
  TempFolder temp;
  auto log = UsageLog::create(temp / "inc-a", identity());
  const uint32_t id = (*log)->define(definition("shop/acme", 2)).value();
  const int64_t some[] = {5, 6};
  (*log)->settle((*log)->admit(id, some, kSecond), some);
  log->reset();  // as a crash: no batch
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ((*found)->recovered_admissions(), 1u);
}

// A segment's second round: what ended since it began is in no record yet, and stays until it is.
TEST(Slots, OneThatEndsAheadOfTheRoundIsPassedOver) {
  TempFolder temp;
  LogLimits limits;
  limits.max_segments = 1;
  auto log = UsageLog::create(temp / "inc-a", identity(), limits);
  const uint32_t id = (*log)->define(definition("shop/acme")).value();
  const int64_t one[] = {1}, seven[] = {7};
  std::vector<Slot*> streams;
  for (size_t i = 0; i < kSmallSlots; ++i) {
    Slot* slot = (*log)->admit(id, one, kSecond);
    ASSERT_NE(slot, nullptr);
    if (i % 4 == 0)
      streams.push_back(slot);
    else
      (*log)->settle(slot, one);
  }
  ASSERT_TRUE((*log)->commit_batch().has_value());
  int64_t spent = static_cast<int64_t>(kSmallSlots - streams.size());
  ASSERT_NE((*log)->admit(id, one, kSecond), nullptr);
  ++spent;
  for (Slot* slot : streams) (*log)->settle(slot, seven);
  spent += 7 * static_cast<int64_t>(streams.size());
  while ((*log)->admit(id, one, kSecond) != nullptr) ++spent;
  log->reset();  // as a crash
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE((*found)->torn());
  EXPECT_EQ((*found)->spent().begin()->second, spent);
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
