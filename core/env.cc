#include "core/env.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include <cstdio>
#include <cstring>

#include "core/result.h"

namespace tallygate {
namespace {

int64_t read_clock(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

class SystemEnv final : public Env {
 public:
  // Not CLOCK_MONOTONIC, which stands still while the machine is suspended: what was known then is not so young after
  // it.
  int64_t mono_ns() override { return read_clock(CLOCK_BOOTTIME); }
  int64_t wall_ns() override { return read_clock(CLOCK_REALTIME); }
  void random_bytes(void* out, size_t size) override {
    auto* at = static_cast<char*>(out);
    while (size > 0) {
      const ssize_t n = getrandom(at, size, 0);
      if (n < 0 && errno == EINTR) continue;
      TG_ASSERT(n > 0);
      at += n;
      size -= static_cast<size_t>(n);
    }
  }
  void sleep_ms(int64_t ms) override {
    timespec left{ms / 1000, (ms % 1000) * 1'000'000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
  }
};

}  // namespace

uint64_t Env::random_u64() {
  uint64_t value;
  random_bytes(&value, sizeof value);
  return value;
}

uint64_t Env::random_below(uint64_t bound) {
  TG_ASSERT(bound > 0);
  const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  uint64_t value;
  do value = random_u64();
  while (value >= limit);
  return value % bound;
}

std::string Env::random_hex(size_t bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string raw(bytes, '\0');
  random_bytes(raw.data(), raw.size());
  std::string text;
  text.reserve(bytes * 2);
  for (const char c : raw) {
    text += kDigits[(static_cast<unsigned char>(c) >> 4) & 15];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

Env& system_env() {
  static SystemEnv env;
  return env;
}

std::string kernel_boot_id() {
  std::string id;
  if (FILE* f = std::fopen("/proc/sys/kernel/random/boot_id", "re")) {
    char text[64] = {};
    const size_t n = std::fread(text, 1, sizeof text - 1, f);
    std::fclose(f);
    id.assign(text, n);
    while (!id.empty() && (id.back() == '\n' || id.back() == ' ')) id.pop_back();
  }
  return id;
}

void ManualEnv::random_bytes(void* out, size_t size) {
  auto* at = static_cast<char*>(out);
  while (size > 0) {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);  // splitmix64, Steele, Lea, Flood 2014
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    const size_t n = size < 8 ? size : 8;
    std::memcpy(at, &z, n);
    at += n;
    size -= n;
  }
}

}  // namespace tallygate
