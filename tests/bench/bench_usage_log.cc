// What the usage log costs the data plane: nanoseconds per admission and settlement, milliseconds per batch.
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <vector>

#include "core/env.h"
#include "sidecar/log/usage_log.h"

using namespace tallygate;
using namespace tallygate::sidecar;

namespace {

constexpr int kAdmissions = 100'000;
constexpr int kRounds = 10;

Definition definition(size_t tenant, size_t charges) {
  Definition d{"shop/tenant-" + std::to_string(tenant), "search", 3, {}};
  for (size_t i = 0; i < charges; ++i) {
    d.charges.push_back({"meter_" + std::to_string(i), {"limit-" + std::to_string(i) + "@1700000000+86400"}});
  }
  return d;
}

struct Case {
  const char* name;
  size_t definitions, charges;
  int in_flight;  // admissions that are open at a time
};

void run(const std::string& folder, const Case& c) {
  Env& env = system_env();
  auto created = UsageLog::create(folder, {folder.substr(folder.rfind("/inc-") + 5), "boot", "pod"});
  if (!created) {
    std::printf("%s\n", created.error().message.c_str());
    return;
  }
  UsageLog& log = **created;
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < c.definitions; ++i) ids.push_back(log.define(definition(i, c.charges)).value());
  const std::vector<int64_t> units(c.charges, 3);
  std::vector<Slot*> open(static_cast<size_t>(c.in_flight), nullptr);
  int64_t request_ns = 0, batch_ns = 0;
  size_t at = 0, which = 0, records = 0;
  for (int round = 0; round <= kRounds; ++round) {
    const int64_t start_ns = env.mono_ns();
    for (int i = 0; i < kAdmissions; ++i) {
      if (open[at] != nullptr) log.settle(open[at], units);
      open[at] = log.admit(ids[which], units, 1'700'000'000 + round);
      if (++at == open.size()) at = 0;
      if (++which == ids.size()) which = 0;
    }
    const int64_t middle_ns = env.mono_ns();
    const size_t before = log.outbox().size();
    if (!log.commit_batch()) std::printf("commit failed: %s\n", log.last_error().c_str());
    const int64_t end_ns = env.mono_ns();
    if (round > 0) {  // the first touches fresh pages
      request_ns += middle_ns - start_ns;
      batch_ns += end_ns - middle_ns;
      records = log.outbox().size() - before;
    }
    for (const auto& [shard, queue] : log.outbox().shards()) log.outbox().acknowledge(shard, queue.last_seq());
    log.trim();
  }
  std::printf("%-44s %7.1f ns per admit+settle %8.3f ms per batch of %zu records\n", c.name,
              static_cast<double>(request_ns) / kRounds / kAdmissions, static_cast<double>(batch_ns) / kRounds / 1e6,
              records);
}

}  // namespace

int main() {
  std::string folder = (std::filesystem::temp_directory_path() / "tallygate-bench-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const Case cases[] = {
      {"1 tenant, 1 charge, 64 in flight", 1, 1, 64},
      {"100 tenants, 2 charges, 64 in flight", 100, 2, 64},
      {"100 tenants, 8 charges, 64 in flight", 100, 8, 64},
      {"10,000 tenants, 2 charges, 64 in flight", 10'000, 2, 64},
      {"100 tenants, 2 charges, 20,000 in flight", 100, 2, 20'000},
  };
  int number = 0;
  for (const Case& c : cases) run(folder + "/inc-" + std::to_string(number++), c);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}
