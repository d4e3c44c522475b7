// Time and randomness, injected. Nothing else in the tree reads a clock or a random device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tallygate {

class Env {
 public:
  virtual ~Env() = default;
  // Never goes back; its zero means nothing. For intervals and time-outs.
  virtual int64_t mono_ns() = 0;
  // Nanoseconds since the Unix epoch, may jump. For records and windows.
  virtual int64_t wall_ns() = 0;
  // Cryptographically strong.
  virtual void random_bytes(void* out, size_t size) = 0;
  // Blocks the calling thread. Never on an event loop.
  virtual void sleep_ms(int64_t ms) = 0;

  int64_t mono_ms() { return mono_ns() / 1'000'000; }
  int64_t wall_ms() { return wall_ns() / 1'000'000; }
  int64_t wall_s() { return wall_ns() / 1'000'000'000; }
  uint64_t random_u64();
  // Uniform in [0, bound); bound > 0.
  uint64_t random_below(uint64_t bound);
  // 2 × bytes lower-case hexadecimal digits.
  std::string random_hex(size_t bytes);
};

// The process's real clocks and the kernel's random source. Thread-safe.
Env& system_env();

// The kernel's boot id (a UUID, text): differs after every reboot. Empty where the kernel does not tell.
std::string kernel_boot_id();

// A clock that moves only when told; random numbers from a seed (splitmix64). Not thread-safe.
class ManualEnv final : public Env {
 public:
  explicit ManualEnv(uint64_t seed = 1, int64_t wall_ns = 1'700'000'000'000'000'000) : state_(seed), wall_ns_(wall_ns) {}
  int64_t mono_ns() override { return mono_ns_; }
  int64_t wall_ns() override { return wall_ns_; }
  void random_bytes(void* out, size_t size) override;
  void sleep_ms(int64_t ms) override { advance_ms(ms); }
  void advance_ns(int64_t ns) {
    mono_ns_ += ns;
    wall_ns_ += ns;
  }
  void advance_ms(int64_t ms) { advance_ns(ms * 1'000'000); }
  void set_wall_ns(int64_t wall_ns) { wall_ns_ = wall_ns; }

 private:
  uint64_t state_;
  int64_t mono_ns_ = 1'000'000'000;
  int64_t wall_ns_;
};

}  // namespace tallygate
