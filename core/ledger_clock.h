// The ledger's clock, as far as it can be told from here: windows, epochs and whatever else is decided by the time
// follow it, and no machine's own (docs/PROTOCOL.md, Clocks). Each answer that carries the ledger's time narrows down
// how far it stands from this machine's monotonic clock; between answers the monotonic clock carries it on, so that a
// step of this machine's wall clock changes nothing. Until the first answer it is this machine's wall clock.
//
// An estimate is off by no more than the round trip of the answer that it came from. The monotonic clock stands still
// while a host suspends a virtual machine unasked: the first answer after it sets that right.
//
// Threading: any. The machine's clocks outlive it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <string>

#include "core/env.h"

namespace tallygate {

// How far a machine's wall clock may be off before that is said. It is obeyed in neither case.
inline constexpr int64_t kClockBound_ms = 2'000;

class LedgerClock final : public Env {
 public:
  explicit LedgerClock(Env& machine) : machine_(machine) {}

  int64_t mono_ns() override { return machine_.mono_ns(); }
  int64_t wall_ns() override {
    const int64_t offset_ns = offset_ns_.load(std::memory_order_relaxed);
    return offset_ns == kUnknown ? machine_.wall_ns() : machine_.mono_ns() + offset_ns;
  }
  void random_bytes(void* out, size_t size) override { machine_.random_bytes(out, size); }
  void sleep_ms(int64_t ms) override { machine_.sleep_ms(ms); }

  // The ledger's clock said `ledger_ns` at some moment between these two of the monotonic clock.
  void heard(int64_t ledger_ns, int64_t sent_ns, int64_t received_ns) {
    const int64_t least = ledger_ns - received_ns, most = ledger_ns - sent_ns;
    const int64_t now = offset_ns_.load(std::memory_order_relaxed);
    offset_ns_.store(now == kUnknown ? least + (most - least) / 2 : std::clamp(now, least, most),
                     std::memory_order_relaxed);
  }
  bool known() const { return offset_ns_.load(std::memory_order_relaxed) != kUnknown; }
  // How far the machine's wall clock is ahead of the ledger's; negative: behind. 0 while that is not known.
  int64_t machine_ahead_ms() { return (machine_.wall_ns() - wall_ns()) / 1'000'000; }
  // For people, once the machine's wall clock is further off than the bound; else empty.
  std::string machine_fault();

 private:
  static constexpr int64_t kUnknown = std::numeric_limits<int64_t>::min();
  Env& machine_;
  std::atomic<int64_t> offset_ns_ = kUnknown;  // the ledger's clock less the monotonic one
};

}  // namespace tallygate
