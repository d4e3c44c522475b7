#include "core/ledger_clock.h"

#include <gtest/gtest.h>

namespace tallygate {
namespace {

constexpr int64_t kSecond_ns = 1'000'000'000;

// The ledger's time is `ledger_ns` just now, heard over a round trip of twice `one_way_ns`.
void hear(LedgerClock& clock, ManualEnv& machine, int64_t ledger_ns, int64_t one_way_ns = 0) {
  const int64_t now_ns = machine.mono_ns();
  clock.heard(ledger_ns, now_ns - one_way_ns, now_ns + one_way_ns);
}

TEST(LedgerClock, IsTheMachinesUntilTheLedgerWasHeard) {
  ManualEnv machine;
  LedgerClock clock(machine);
  EXPECT_EQ(clock.wall_ns(), machine.wall_ns());
  EXPECT_EQ(clock.mono_ns(), machine.mono_ns());
  EXPECT_FALSE(clock.known());
  EXPECT_EQ(clock.machine_fault(), "");
}

TEST(LedgerClock, FollowsTheLedgerWhateverTheMachineSays) {
  ManualEnv machine;
  LedgerClock clock(machine);
  const int64_t ledger_ns = machine.wall_ns() - 3600 * kSecond_ns;
  hear(clock, machine, ledger_ns);
  EXPECT_EQ(clock.wall_ns(), ledger_ns);
  EXPECT_EQ(clock.machine_ahead_ms(), 3'600'000);
  machine.set_wall_ns(5);
  EXPECT_EQ(clock.wall_ns(), ledger_ns) << "a step of the machine's clock is nothing to it";
  machine.advance_ms(1500);
  EXPECT_EQ(clock.wall_ns(), ledger_ns + 1'500'000'000) << "it goes on between answers";
}

TEST(LedgerClock, ALateAnswerSpoilsNothing) {
  ManualEnv machine;
  LedgerClock clock(machine);
  const int64_t ledger_ns = 1'800'000'000 * kSecond_ns;
  hear(clock, machine, ledger_ns, 100'000);
  hear(clock, machine, ledger_ns + 20 * kSecond_ns, 30 * kSecond_ns);
  EXPECT_EQ(clock.wall_ns(), ledger_ns) << "what is known lies within the answer's uncertainty";
}

TEST(LedgerClock, AStepOfTheLedgersClockIsFollowedWithTheNextAnswer) {
  ManualEnv machine;
  LedgerClock clock(machine);
  const int64_t ledger_ns = 1'800'000'000 * kSecond_ns;
  hear(clock, machine, ledger_ns, 100'000);
  for (const int64_t step_s : {3600, -7200}) {
    hear(clock, machine, ledger_ns + step_s * kSecond_ns, 100'000);
    EXPECT_NEAR(static_cast<double>(clock.wall_ns()), static_cast<double>(ledger_ns + step_s * kSecond_ns), 1e6);
  }
}

TEST(LedgerClock, SaysWhatIsWrongPastTheBound) {
  ManualEnv machine;
  LedgerClock clock(machine);
  hear(clock, machine, machine.wall_ns() + kClockBound_ms * 1'000'000);
  EXPECT_EQ(clock.machine_fault(), "");
  hear(clock, machine, machine.wall_ns() + 90 * kSecond_ns);
  EXPECT_NE(clock.machine_fault().find("90.0 s behind the ledger's"), std::string::npos) << clock.machine_fault();
  hear(clock, machine, machine.wall_ns() - 3 * kSecond_ns);
  EXPECT_NE(clock.machine_fault().find("3.0 s ahead of the ledger's"), std::string::npos) << clock.machine_fault();
}

}  // namespace
}  // namespace tallygate
