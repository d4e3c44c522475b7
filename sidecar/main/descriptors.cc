#include "sidecar/main/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace tallygate::sidecar {
namespace {

// 256 segments and some files of the usage log, twice while they are synced, and 256 connections to the admin port. Of
// a small limit no more than half: a log that is nearly full is rare.
constexpr uint64_t kReserved = 1024;

}  // namespace

uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kReserved;
  rlimit raised = limit;
  raised.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  return limit.rlim_cur;
}

size_t clients_within(uint64_t descriptor_limit) {
  const uint64_t reserved = std::min(kReserved, descriptor_limit / 2);
  return std::max<size_t>((descriptor_limit - reserved) / 2, 1);
}

}  // namespace tallygate::sidecar
