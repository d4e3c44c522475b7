// Whom this sidecar believes of what is published in Redis: who signed it (core/redis_contract/signature.h), or, without a
// file of keys, Redis itself.
//
// The file has the operator's public keys, PEM, two of them while one takes the other's place. It is followed. One that is
// not there yet is waited for: nothing is believed until it is. One that is gone, or cannot be used, changes nothing.
//
// Signatures are looked at when a document arrives, never for a request (100 µs each).
// Threading: the event loop's thread; trouble() and counters() any.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/io/event_loop.h"
#include "core/redis_contract/signature.h"

namespace tallygate::sidecar {

struct TrustCounters {
  std::array<std::atomic<uint64_t>, static_cast<size_t>(redis_contract::Distrust::kCount)> refused{};
  std::atomic<uint64_t> verified{0};
};

class Trust {
 public:
  // `file` empty: Redis is believed. `loop` outlives it.
  Trust(EventLoop& loop, std::string file);
  ~Trust();
  // Reads the file, and follows it from then on.
  void start();
  bool verifies() const { return !file_.empty(); }
  // The keys are others now.
  void on_change(std::function<void()> fn) { changed_ = std::move(fn); }

  // Whether what came under this name may go in force. `known`: the edition of it that was last believed, which goes up
  // with what is believed now. Refusals are counted, and told in the log.
  bool believes(std::string_view name, std::string_view document, std::string_view signature,
                redis_contract::Edition* known);

  // For /health: why nothing, or not everything, is believed; empty: all is well, or Redis is believed.
  std::string trouble() const;
  const TrustCounters& counters() const { return counters_; }

 private:
  void look();
  void refuse(std::string_view name, redis_contract::Distrust why, const redis_contract::Edition& known);
  void set_file_trouble(std::string trouble);

  EventLoop& loop_;
  const std::string file_;
  redis_contract::TrustedKeys keys_;
  bool has_keys_ = false;
  std::string content_;  // of the file, as last looked at
  std::function<void()> changed_ = [] {};
  EventLoop::TimerId timer_ = 0;
  TrustCounters counters_;
  mutable std::mutex mutex_;
  std::string file_trouble_;                // under mutex_
  std::string refused_;                     // under mutex_: the last refusal, for people
  std::atomic<int64_t> refused_at_ns_{0};   // 0: none yet
};

}  // namespace tallygate::sidecar
