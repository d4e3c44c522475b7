// Calls a function again and again on a thread of its own, the first time at once.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

#include "core/io/event_loop.h"

namespace tallygate::api {

class Ticker {
 public:
  // `env` outlives it.
  Ticker(Env& env, int64_t interval_ms, std::function<void()> tick)
      : interval_ms_(interval_ms), loop_(env), tick_(std::move(tick)) {}
  ~Ticker() { stop(); }

  void start() {
    thread_ = std::thread([this] {
      while (!stopping_) {
        tick_();
        if (!stopping_) loop_.run_once(interval_ms_);
      }
    });
  }
  // Waits for the call that runs. Idempotent.
  void stop() {
    stopping_ = true;
    loop_.post([] {});
    if (thread_.joinable()) thread_.join();
  }

 private:
  const int64_t interval_ms_;
  EventLoop loop_;
  std::function<void()> tick_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace tallygate::api
