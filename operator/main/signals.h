// Signals as events of the loop. Construct it before any thread is started, so that every thread has them blocked.
#pragma once

#include <functional>
#include <initializer_list>

#include "core/io/event_loop.h"

namespace tallygate::operator_main {

// Blocks the signals for this thread and those it will start.
void block_signals(std::initializer_list<int> numbers);

class SignalWatch final : public EventLoop::Watcher {
 public:
  SignalWatch(EventLoop& loop, std::initializer_list<int> numbers, std::function<void(int number)> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  void on_ready(uint32_t epoll_events) override;

 private:
  EventLoop& loop_;
  std::function<void(int)> on_signal_;
  int fd_;
};

}  // namespace tallygate::operator_main
