// The process is killed at any instruction; nothing that was admitted is lost or counted twice.
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

struct Mix {
  uint64_t settle = 48, commit = 4, acknowledge = 2;  // of 100; the rest are admissions
  size_t definitions = 24;
  uint64_t max_file_bytes = 3000;
  size_t max_in_flight = 400;
};

void live(const std::string& folder, Truth& truth, uint64_t seed, const Mix& mix) {
  LogLimits limits;
  limits.max_file_bytes = mix.max_file_bytes;
  auto log = UsageLog::create(folder, identity(), limits);
  TG_ASSERT(log.has_value());
  truth.step();
  Driver driver(**log, truth, seed);
  int64_t second = kSecond;
  while (truth.ops_used < Truth::kMaxOps) {
    const uint64_t dice = driver.below(100);
    if (dice < mix.settle) {
      driver.settle_any();
    } else if (dice < mix.settle + mix.commit) {
      if (driver.below(30) == 0) ++second;
      TG_ASSERT(driver.commit().has_value());
    } else if (dice < mix.settle + mix.commit + mix.acknowledge) {
      driver.acknowledge_some();
    } else if (driver.in_flight() < mix.max_in_flight) {
      TG_ASSERT(driver.admit(driver.below(mix.definitions), second - static_cast<int64_t>(driver.below(2))));
    }
  }
}

pid_t fork_child(const std::function<void()>& body) {
  const pid_t pid = fork();
  TG_ASSERT(pid >= 0);
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  _exit(0);
}

// Passes an odd stretch of time, finer than any sleep.
void spin(uint64_t turns) {
  for (uint64_t i = 0; i < turns; ++i) asm volatile("");
}

// True where the child was killed, false where it had ended by itself.
bool reap(pid_t pid) {
  int status = 0;
  TG_ASSERT(waitpid(pid, &status, 0) == pid);
  if (WIFEXITED(status))
    EXPECT_EQ(WEXITSTATUS(status), 0);
  else
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
  return WIFSIGNALED(status);
}

void kill_after(pid_t pid, const Truth& truth, uint64_t steps, uint64_t spins) {
  while (__atomic_load_n(&truth.steps, __ATOMIC_ACQUIRE) < steps && waitpid(pid, nullptr, WNOHANG) == 0) sched_yield();
  spin(spins);
  kill(pid, SIGKILL);
}

void run_and_kill(const std::string& folder, Truth& truth, uint64_t seed, const Mix& mix, uint64_t max_steps) {
  std::mt19937_64 random(seed);
  const pid_t pid = fork_child([&] { live(folder, truth, seed, mix); });
  kill_after(pid, truth, 1 + random() % max_steps, random() % 3000);
  reap(pid);
}

TEST(UsageLogCrash, KilledAnywhereEachUnitIsInOneRecord) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    run_and_kill(temp / "inc-a", *truth, seed, {}, 1500);
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    ASSERT_TRUE(found.has_value()) << "seed " << seed << ": " << found.error().message;
    EXPECT_FALSE((*found)->torn());
    ASSERT_EQ(audit_recovered(*truth, **found), "") << "seed " << seed;
  }
}

TEST(UsageLogCrash, RecoveryThatIsKilledAndRepeatedComesToTheSame) {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    run_and_kill(temp / "inc-a", *truth, seed, {}, 1000);
    std::mt19937_64 random(seed);
    for (int attempt = 0; attempt < 4; ++attempt) {
      const pid_t pid = fork_child([&] { Predecessor::recover(temp / "inc-a", kBoot).has_value(); });
      spin(random() % 2'000'000);
      kill(pid, SIGKILL);
      reap(pid);
    }
    Outbox first("");
    for (int round = 0; round < 2; ++round) {
      auto found = Predecessor::recover(temp / "inc-a", kBoot);
      ASSERT_TRUE(found.has_value()) << "seed " << seed << ": " << found.error().message;
      ASSERT_EQ(audit_recovered(*truth, **found), "") << "seed " << seed;
      if (round == 0) first = (*found)->outbox();
      for (const auto& [shard, queue] : (*found)->outbox().shards()) {
        EXPECT_EQ(queue.unacked, first.shard(shard).unacked);
        EXPECT_EQ(queue.watermark, first.shard(shard).watermark);
      }
    }
  }
}

// Long enough for segments to be handed out again, many times over.
TEST(UsageLogCrash, SegmentsInTheirSecondLifeHoldOnlyWhatIsUnbooked) {
  Mix mix;
  mix.settle = 50;
  mix.acknowledge = 0;
  mix.definitions = 3;
  mix.commit = 1;
  mix.max_in_flight = 3000;
  mix.max_file_bytes = 1 << 20;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    run_and_kill(temp / "inc-a", *truth, seed, mix, 300'000);
    auto found = Predecessor::recover(temp / "inc-a", kBoot);
    ASSERT_TRUE(found.has_value()) << "seed " << seed << ": " << found.error().message;
    ASSERT_EQ(audit_recovered(*truth, **found), "") << "seed " << seed;
  }
}

TEST(UsageLogCrash, KilledWhileItIsMadeLeavesNothingOrAnEmptyLog) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    TempFolder temp;
    std::mt19937_64 random(seed);
    const pid_t pid = fork_child([&] {
      for (int i = 0; i < 1000; ++i) {
        TG_ASSERT(UsageLog::create(temp / ("inc-" + std::to_string(i)), identity(std::to_string(i))).has_value());
      }
    });
    spin(100'000 + random() % 3'000'000);
    kill(pid, SIGKILL);
    reap(pid);
    for (const auto& entry : std::filesystem::directory_iterator(temp.path())) {
      auto found = Predecessor::recover(entry.path(), kBoot);
      if (!found) {
        ASSERT_EQ(found.error().errc, Errc::kNotFound) << found.error().message;
      } else {
        ASSERT_TRUE((*found)->outbox().empty());
      }
    }
  }
}

// The head comes last, so whoever finds it without records knows that they were lost.
TEST(UsageLogCrash, AHeadWithoutRecordsFilesReturnsNothing) {
  TempFolder temp;
  { ASSERT_TRUE(UsageLog::create(temp / "inc-a", identity()).has_value()); }
  std::filesystem::remove((temp / "inc-a") + "/records-0");
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE((*found)->torn());
  EXPECT_TRUE((*found)->outbox().empty());
}

TEST(UsageLogCrash, InFlightIsBookedAtItsEstimateAndReleasedAtNothing) {
  TempFolder temp;
  {
    auto log = UsageLog::create(temp / "inc-a", identity());
    const uint32_t id = (*log)->define(definition("shop/acme", 2)).value();
    const int64_t ten[] = {10, 1000}, seven[] = {7, 70}, none[] = {0, 0};
    Slot* in_flight = (*log)->admit(id, ten, kSecond);
    Slot* metered = (*log)->admit(id, ten, kSecond);
    Slot* released = (*log)->admit(id, ten, kSecond);
    ASSERT_TRUE(in_flight && metered && released);
    (*log)->settle(metered, seven);
    (*log)->settle(released, none);
  }
  auto found = Predecessor::recover(temp / "inc-a", kBoot);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ((*found)->recovered_admissions(), 2u);
  EXPECT_EQ((*found)->spent().at({3, "shop/acme|limit-0@1700000000+86400"}), 17);
  EXPECT_EQ((*found)->spent().at({3, "shop/acme|limit-1@1700000000+86400"}), 1070);
  EXPECT_EQ((*found)->spent().at({3, "shop/acme|meter_1$"}), 1070);
}

TEST(UsageLogCrash, AnotherBootIdReturnsNothingAndBooksNoSlot) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    TempFolder temp;
    SharedTruth truth;
    run_and_kill(temp / "inc-a", *truth, seed, {}, 1000);
    for (int round = 0; round < 2; ++round) {
      auto found = Predecessor::recover(temp / "inc-a", kOtherBoot);
      ASSERT_TRUE(found.has_value()) << found.error().message;
      EXPECT_TRUE((*found)->torn());
      EXPECT_EQ((*found)->recovered_admissions(), 0u);
      // Whole records are kept, all that may have been sent among them, and no new one is formed: at most the frames of
      // a batch that was being committed stand beside what was seen.
      std::string problem;
      const Records seen = seen_records(*truth);
      Records records = seen;
      add_outbox((*found)->outbox(), &records, &problem);
      sum_records(records, &problem);
      ASSERT_EQ(problem, "") << "seed " << seed;
      for (const auto& [at, text] : seen) {
        const auto& queue = (*found)->outbox().shard(at.first);
        ASSERT_LE(at.second, queue.last_seq()) << "seed " << seed << ": a whole record was dropped";
      }
    }
    auto later = Predecessor::recover(temp / "inc-a", kBoot);
    ASSERT_TRUE(later.has_value());
    EXPECT_EQ((*later)->recovered_admissions(), 0u) << "a torn log must stay closed";
  }
}

TEST(UsageLogCrash, AnUnknownBootIdCountsAsAnotherBoot) {
  TempFolder temp;
  { ASSERT_TRUE(UsageLog::create(temp / "inc-a", identity()).has_value()); }
  auto found = Predecessor::recover(temp / "inc-a", "");
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE((*found)->torn());
}

// Two unknown ones are not the same: they might be of before and after a reboot.
TEST(UsageLogCrash, ABootIdThatWasUnknownIsNotTheUnknownOneOfNow) {
  TempFolder temp;
  {
    LogIdentity unknown = identity();
    unknown.boot_id = "";
    ASSERT_TRUE(UsageLog::create(temp / "inc-a", unknown).has_value());
  }
  auto found = Predecessor::recover(temp / "inc-a", "");
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE((*found)->torn());
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
