// A single-threaded epoll loop with timers: the I/O shell under the sidecar's data plane and the Redis client.
//
// Threading: every method belongs to the thread that runs the loop, except post() and stop(), which any thread may call.
// Ownership: the loop owns neither descriptors nor watchers. remove() before close(); after remove() returns, the watcher
// is not called again, not even for events that were already collected.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/env.h"

namespace tallygate {

class EventLoop {
 public:
  class Watcher {
   public:
    virtual void on_ready(uint32_t epoll_events) = 0;

   protected:
    ~Watcher() = default;
  };
  using TimerId = uint64_t;  // never 0

  explicit EventLoop(Env& env);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // `epoll_events` as in epoll_ctl(2), EPOLLET included or not as the watcher wants it.
  void add(int fd, uint32_t epoll_events, Watcher* watcher);
  void modify(int fd, uint32_t epoll_events, Watcher* watcher);
  void remove(int fd, Watcher* watcher);

  // Runs `fn` once, at or after the given monotonic time, earliest first; ties in order of creation.
  TimerId at_ns(int64_t mono_ns, std::function<void()> fn);
  TimerId after_ms(int64_t ms, std::function<void()> fn) { return at_ns(now_ns_ + ms * 1'000'000, std::move(fn)); }
  void cancel(TimerId id);

  // Runs `fn` at the end of the current turn, after all ready descriptors and due timers.
  void defer(std::function<void()> fn) { deferred_.push_back(std::move(fn)); }
  // Runs `fn` on the loop's thread, soon.
  void post(std::function<void()> fn);

  void run();
  // One turn: waits at most `max_wait_ms` (-1: until something happens), then dispatches.
  void run_once(int64_t max_wait_ms);
  void stop();

  // The monotonic time at the start of the current turn: one clock read a turn, not one an event.
  int64_t now_ns() const { return now_ns_; }
  int64_t now_ms() const { return now_ns_ / 1'000'000; }
  // For a turn that has taken long, or before the loop runs.
  void refresh_now() { now_ns_ = env_.mono_ns(); }
  Env& env() { return env_; }

 private:
  struct Timer {
    int64_t due_ns;
    TimerId id;
    bool operator<(const Timer& o) const { return due_ns != o.due_ns ? due_ns > o.due_ns : id > o.id; }
  };
  void run_timers();
  void run_deferred();
  void run_posted();
  int wait_ms(int64_t max_wait_ms) const;

  Env& env_;
  int epoll_fd_;
  int wake_fd_;
  int64_t now_ns_;
  bool stopped_ = false;
  void* ready_ = nullptr;  // the turn's epoll_event array, so that remove() can blank what is still to come
  int ready_count_ = 0;
  TimerId next_timer_ = 1;
  std::vector<Timer> heap_;  // may hold cancelled timers; `timers_` has the live ones
  std::unordered_map<TimerId, std::function<void()>> timers_;
  std::vector<std::function<void()>> deferred_;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
};

}  // namespace tallygate
