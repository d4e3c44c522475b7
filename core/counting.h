// Counters with one writing thread and readers on any: no read-modify-write instruction.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>

namespace tallygate {

// `by` ≥ 0.
template <std::integral T = uint64_t>
void count(std::atomic<uint64_t>& counter, T by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + static_cast<uint64_t>(by), std::memory_order_relaxed);
}

}  // namespace tallygate
