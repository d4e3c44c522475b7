// Whether a part of the background does what it is for, and where it does not: why, and since when. Any thread.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "core/env.h"

namespace tallygate {

class Standing {
 public:
  struct Trouble {
    std::string why;     // as of the last failure
    int64_t for_ms = 0;  // since the first one after the last success
  };
  // `env` outlives it.
  explicit Standing(Env& env) : env_(env) {}

  void succeeded() {
    const std::lock_guard lock(mutex_);
    why_.clear();
    worked_ = true;
  }
  void failed(std::string why) {
    const std::lock_guard lock(mutex_);
    if (why_.empty()) since_ms_ = env_.mono_ms();
    why_ = why.empty() ? "it is not known why" : std::move(why);
  }
  // Nothing is asked of it: another instance leads.
  void rests() {
    const std::lock_guard lock(mutex_);
    why_.clear();
    worked_ = false;
  }
  std::optional<Trouble> trouble() const {
    const std::lock_guard lock(mutex_);
    if (why_.empty()) return std::nullopt;
    return Trouble{why_, env_.mono_ms() - since_ms_};
  }
  // Whether it fails and has for longer than this, or has not succeeded at all since it began, or rested.
  bool fails_for_good(int64_t longer_than_ms) const {
    const std::lock_guard lock(mutex_);
    return !why_.empty() && (!worked_ || env_.mono_ms() - since_ms_ > longer_than_ms);
  }

 private:
  Env& env_;
  mutable std::mutex mutex_;
  std::string why_;  // empty: none; with what follows under mutex_
  int64_t since_ms_ = 0;
  bool worked_ = false;
};

}  // namespace tallygate
