#include "core/io/event_loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "core/result.h"

namespace tallygate {
namespace {
constexpr int kEventsPerTurn = 512;
}

EventLoop::EventLoop(Env& env)
    : env_(env), epoll_fd_(epoll_create1(EPOLL_CLOEXEC)), wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      now_ns_(env.mono_ns()) {
  TG_ASSERT(epoll_fd_ >= 0 && wake_fd_ >= 0);
  add(wake_fd_, EPOLLIN, nullptr);
}

EventLoop::~EventLoop() {
  close(wake_fd_);
  close(epoll_fd_);
}

void EventLoop::add(int fd, uint32_t epoll_events, Watcher* watcher) {
  epoll_event event{};
  event.events = epoll_events;
  event.data.ptr = watcher;
  const int rc = epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event);
  TG_ASSERT(rc == 0);
}

void EventLoop::modify(int fd, uint32_t epoll_events, Watcher* watcher) {
  epoll_event event{};
  event.events = epoll_events;
  event.data.ptr = watcher;
  const int rc = epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
  TG_ASSERT(rc == 0);
}

void EventLoop::remove(int fd, Watcher* watcher) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  auto* events = static_cast<epoll_event*>(ready_);
  for (int i = 0; i < ready_count_; ++i) {
    if (events[i].data.ptr == watcher) events[i].events = 0;
  }
}

EventLoop::TimerId EventLoop::at_ns(int64_t mono_ns, std::function<void()> fn) {
  const TimerId id = next_timer_++;
  timers_.emplace(id, std::move(fn));
  heap_.push_back({mono_ns, id});
  std::push_heap(heap_.begin(), heap_.end());
  return id;
}

void EventLoop::cancel(TimerId id) {
  timers_.erase(id);
  if (heap_.size() > 64 && heap_.size() > 4 * timers_.size()) {  // mostly cancelled: sweep
    std::erase_if(heap_, [this](const Timer& t) { return !timers_.contains(t.id); });
    std::make_heap(heap_.begin(), heap_.end());
  }
}

void EventLoop::post(std::function<void()> fn) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(fn));
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_fd_, &one, sizeof one);
}

void EventLoop::stop() {
  post([this] { stopped_ = true; });
}

void EventLoop::run() {
  stopped_ = false;
  while (!stopped_) run_once(-1);
}

int EventLoop::wait_ms(int64_t max_wait_ms) const {
  if (!deferred_.empty()) return 0;
  if (heap_.empty()) return static_cast<int>(std::min<int64_t>(max_wait_ms, 60'000));
  // Rounded up: a loop that wakes early would spin through the last millisecond.
  const int64_t due_ms = std::max<int64_t>(0, (heap_.front().due_ns - env_.mono_ns() + 999'999) / 1'000'000);
  return static_cast<int>(std::min<int64_t>(max_wait_ms < 0 ? due_ms : std::min(due_ms, max_wait_ms), 60'000));
}

void EventLoop::run_once(int64_t max_wait_ms) {
  epoll_event events[kEventsPerTurn];
  const int n = epoll_wait(epoll_fd_, events, kEventsPerTurn, wait_ms(max_wait_ms));
  TG_ASSERT(n >= 0 || errno == EINTR);
  now_ns_ = env_.mono_ns();
  ready_ = events;
  ready_count_ = std::max(n, 0);
  bool woken = false;
  for (int i = 0; i < ready_count_; ++i) {
    if (events[i].events == 0) continue;  // removed earlier in this turn
    if (events[i].data.ptr == nullptr) {
      woken = true;
      continue;
    }
    static_cast<Watcher*>(events[i].data.ptr)->on_ready(events[i].events);
  }
  ready_ = nullptr;
  ready_count_ = 0;
  if (woken) run_posted();
  run_timers();
  run_deferred();
}

void EventLoop::run_timers() {
  while (!heap_.empty() && heap_.front().due_ns <= now_ns_) {
    std::pop_heap(heap_.begin(), heap_.end());
    const TimerId id = heap_.back().id;
    heap_.pop_back();
    auto it = timers_.find(id);
    if (it == timers_.end()) continue;
    auto fn = std::move(it->second);
    timers_.erase(it);
    fn();
  }
}

void EventLoop::run_deferred() {
  std::vector<std::function<void()>> batch;
  batch.swap(deferred_);  // what these defer runs in the next turn
  for (auto& fn : batch) fn();
}

void EventLoop::run_posted() {
  uint64_t count;
  [[maybe_unused]] const ssize_t n = read(wake_fd_, &count, sizeof count);
  std::vector<std::function<void()>> batch;
  {
    std::lock_guard lock(posted_mutex_);
    batch.swap(posted_);
  }
  for (auto& fn : batch) fn();
}

}  // namespace tallygate
