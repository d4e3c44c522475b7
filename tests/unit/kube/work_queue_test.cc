#include "operator/kube/work_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <thread>

namespace tallygate::kube {
namespace {

class WorkQueueTest : public testing::Test {
 protected:
  std::string take() { return queue_.try_take().value_or("-"); }
  ManualEnv env_;
  metrics::Registry registry_;
  WorkQueue queue_{env_, {.name = "tenants"}, registry_};
};

TEST_F(WorkQueueTest, GivesEachKeyOnceInTheOrderOfArrival) {
  for (const char* key : {"a", "b", "a", "c", "b"}) queue_.add(key);
  EXPECT_EQ(queue_.depth(), 3u);
  for (const char* expected : {"a", "b", "c", "-"}) EXPECT_EQ(take(), expected);
}

TEST_F(WorkQueueTest, AKeyIsAtOneWorkerAtATime) {
  queue_.add("a");
  EXPECT_EQ(take(), "a");
  queue_.add("a");
  queue_.add("a");
  EXPECT_EQ(take(), "-");
  queue_.done("a");
  EXPECT_EQ(take(), "a");
  queue_.done("a");
  EXPECT_EQ(take(), "-");
}

TEST_F(WorkQueueTest, FailuresComeAgainAfterADoublingBackOffThatSuccessForgets) {
  queue_.add("a");
  for (int64_t backoff_ms = 5; backoff_ms < 100'000; backoff_ms *= 2) {
    ASSERT_EQ(take(), "a");
    queue_.failed("a");
    env_.advance_ms(backoff_ms - 1);
    ASSERT_EQ(take(), "-") << backoff_ms;
    env_.advance_ms(1);
  }
  ASSERT_EQ(take(), "a");
  queue_.done("a");
  queue_.add("a");
  ASSERT_EQ(take(), "a");
  queue_.failed("a");
  env_.advance_ms(5);
  EXPECT_EQ(take(), "a");
}

TEST_F(WorkQueueTest, TheBackOffEnds) {
  queue_.add("a");
  for (int i = 0; i < 200; ++i) {
    env_.advance_ms(1'000'000);
    ASSERT_EQ(take(), "a") << i;
    queue_.failed("a");
  }
}

TEST_F(WorkQueueTest, WhatWasAddedMeanwhileDoesNotWaitForTheBackOff) {
  queue_.add("a");
  ASSERT_EQ(take(), "a");
  queue_.add("a");
  queue_.failed("a");
  EXPECT_EQ(take(), "a");
  queue_.done("a");
  env_.advance_ms(10'000'000);
  EXPECT_EQ(take(), "-");
}

TEST_F(WorkQueueTest, AllRetriesTogetherKeepARate) {
  for (int i = 0; i < 300; ++i) {
    queue_.add(std::to_string(i));
    ASSERT_NE(take(), "-");
  }
  for (int i = 0; i < 300; ++i) queue_.failed(std::to_string(i));
  const auto due = [&] {
    int count = 0;
    while (take() != "-") ++count;
    return count;
  };
  env_.advance_ms(5);
  EXPECT_EQ(due(), 100);
  env_.advance_ms(995);
  EXPECT_EQ(due(), 10);
  env_.advance_ms(19'000);
  EXPECT_EQ(due(), 190);
}

TEST_F(WorkQueueTest, TheEarliestOfSeveralDelaysWins) {
  queue_.add_after("a", 1'000);
  queue_.add_after("a", 100);
  queue_.add_after("a", 500);
  queue_.add_after("b", 0);
  EXPECT_EQ(take(), "b");
  env_.advance_ms(100);
  EXPECT_EQ(take(), "a");
  queue_.done("a");
  env_.advance_ms(10'000);
  EXPECT_EQ(take(), "-");
}

TEST_F(WorkQueueTest, TellsWhatItDoesUnderTheKnownNames) {
  queue_.add("a");
  queue_.add("b");
  queue_.add("c");
  env_.advance_ms(1'500);
  take();
  take();
  queue_.failed("a");
  env_.advance_ms(2'000);
  const std::string text = registry_.text();
  for (const char* line : {"workqueue_depth{name=\"tenants\"} 1\n", "workqueue_adds_total{name=\"tenants\"} 3\n",
                           "workqueue_retries_total{name=\"tenants\"} 1\n",
                           "workqueue_queue_duration_seconds_bucket{name=\"tenants\",le=\"10\"} 2\n",
                           "workqueue_work_duration_seconds_count{name=\"tenants\"} 1\n",
                           "workqueue_unfinished_work_seconds{name=\"tenants\"} 2\n",
                           "workqueue_longest_running_processor_seconds{name=\"tenants\"} 2\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

// Whatever the workers do, after the last word about a key somebody works on it once more, and nobody together.
TEST(WorkQueueThreads, NothingIsLostAndNothingTwiceAtATime) {
  metrics::Registry registry;
  WorkQueue queue(system_env(), {.name = "t", .retries_per_second = 1e9}, registry);
  constexpr int kKeys = 50;
  std::atomic<int> written[kKeys] = {}, seen[kKeys] = {};
  std::atomic<int> at_work[kKeys] = {};
  std::atomic<bool> collided = false;
  std::vector<std::thread> workers;
  for (int w = 0; w < 4; ++w) {
    workers.emplace_back([&, w] {
      std::mt19937 random(static_cast<uint32_t>(w));
      while (const auto key = queue.take()) {
        const int i = std::stoi(*key);
        if (at_work[i]++ != 0) collided = true;
        const int now = written[i];
        const bool fails = random() % 4 == 0;
        if (!fails) seen[i] = now;
        --at_work[i];
        fails ? queue.failed(*key) : queue.done(*key);
      }
    });
  }
  std::mt19937 random(7);
  for (int n = 0; n < 20'000; ++n) {
    const auto i = random() % kKeys;
    ++written[i];
    random() % 8 == 0 ? queue.add_after(std::to_string(i), 1) : queue.add(std::to_string(i));
  }
  const auto all_seen = [&] {
    return std::equal(std::begin(written), std::end(written), std::begin(seen),
                      [](const auto& a, const auto& b) { return a.load() == b.load(); });
  };
  for (int i = 0; i < 2000 && !all_seen(); ++i) system_env().sleep_ms(5);
  EXPECT_TRUE(all_seen());
  EXPECT_FALSE(collided);
  queue.stop();
  for (auto& worker : workers) worker.join();
  queue.add("1");
  EXPECT_FALSE(queue.take());
}

}  // namespace
}  // namespace tallygate::kube
