#include "core/io/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <thread>

namespace tallygate {
namespace {

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe(fds_), 0); }
  ~Pipe() {
    close(fds_[0]);
    close(fds_[1]);
  }
  int read_end() const { return fds_[0]; }
  void fill() { EXPECT_EQ(write(fds_[1], "x", 1), 1); }
  void drain() {
    char c;
    EXPECT_EQ(read(fds_[0], &c, 1), 1);
  }

 private:
  int fds_[2] = {-1, -1};
};

struct Recorder final : EventLoop::Watcher {
  explicit Recorder(std::function<void()> fn) : action(std::move(fn)) {}
  void on_ready(uint32_t) override { action(); }
  std::function<void()> action;
};

TEST(EventLoop, TimersRunInOrderOfTimeThenOfCreation) {
  ManualEnv env;
  EventLoop loop(env);
  std::string order;
  loop.after_ms(2, [&] { order += "c"; });
  loop.after_ms(1, [&] { order += "a"; });
  loop.after_ms(1, [&] { order += "b"; });
  loop.run_once(0);
  EXPECT_EQ(order, "");
  env.advance_ms(1);
  loop.run_once(0);
  EXPECT_EQ(order, "ab");
  env.advance_ms(10);
  loop.run_once(0);
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, ACancelledTimerDoesNotRunNotEvenInItsOwnTurn) {
  ManualEnv env;
  EventLoop loop(env);
  int ran = 0;
  EventLoop::TimerId second = 0;
  loop.after_ms(1, [&] { loop.cancel(second); });
  second = loop.after_ms(1, [&] { ++ran; });
  const auto third = loop.after_ms(1, [&] { ++ran; });
  loop.cancel(third);
  loop.cancel(third);
  env.advance_ms(5);
  loop.run_once(0);
  EXPECT_EQ(ran, 0);
}

TEST(EventLoop, ManyCancelledTimersDoNotDisturbTheLiveOnes) {
  ManualEnv env;
  EventLoop loop(env);
  int ran = 0;
  for (int i = 0; i < 10'000; ++i) {
    const auto id = loop.after_ms(i % 50, [&] { ++ran; });
    if (i % 100 != 0) loop.cancel(id);
  }
  env.advance_ms(100);
  loop.run_once(0);
  EXPECT_EQ(ran, 100);
}

TEST(EventLoop, DescriptorsAreDispatchedUntilRemoved) {
  EventLoop loop(system_env());
  Pipe pipe;
  int calls = 0;
  Recorder recorder([&] {
    ++calls;
    pipe.drain();
  });
  loop.add(pipe.read_end(), EPOLLIN, &recorder);
  pipe.fill();
  loop.run_once(1'000);
  EXPECT_EQ(calls, 1);
  loop.remove(pipe.read_end(), &recorder);
  pipe.fill();
  loop.run_once(0);
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, ARemovedWatcherIsNotCalledForEventsAlreadyCollected) {
  EventLoop loop(system_env());
  Pipe one, two;
  int calls = 0;
  Recorder* other_of_first = nullptr;
  Recorder first([&] {
    ++calls;
    loop.remove(two.read_end(), other_of_first);
  });
  Recorder second([&] {
    ++calls;
    loop.remove(one.read_end(), &first);
  });
  other_of_first = &second;
  loop.add(one.read_end(), EPOLLIN, &first);
  loop.add(two.read_end(), EPOLLIN, &second);
  one.fill();
  two.fill();
  loop.run_once(1'000);  // both are ready; whoever comes first removes the other
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, DeferredWorkRunsAtTheEndOfTheTurn) {
  ManualEnv env;
  EventLoop loop(env);
  std::string order;
  loop.defer([&] { order += "d"; });
  loop.after_ms(0, [&] { order += "t"; });
  loop.run_once(0);
  EXPECT_EQ(order, "td");
}

TEST(EventLoop, PostAndStopComeFromAnyThread) {
  EventLoop loop(system_env());
  int ran = 0;
  std::thread other([&] {
    for (int i = 0; i < 100; ++i) loop.post([&] { ++ran; });
    loop.stop();
  });
  loop.run();
  other.join();
  EXPECT_EQ(ran, 100);
}

}  // namespace
}  // namespace tallygate
