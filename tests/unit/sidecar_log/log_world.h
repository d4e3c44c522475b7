// A usage log's life against a ledger of what really happened, in shared memory: it survives the SIGKILL of the process
// that writes it. An independent auditor compares the two afterwards.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/redis_contract/keys.h"
#include "core/redis_contract/record.h"
#include "sidecar/log/data_folder.h"
#include "sidecar/log/predecessor.h"
#include "sidecar/log/usage_log.h"

namespace tallygate::sidecar::log_tests {

inline constexpr const char* kBoot = "3f0a9c52-0000-4000-8000-000000000001";
inline constexpr const char* kOtherBoot = "3f0a9c52-0000-4000-8000-000000000002";
inline constexpr const char* kIncarnation = "a";

class TempFolder {
 public:
  TempFolder() {
    // Memory where there is any: what a SIGKILL leaves is the same, and nothing waits for a disk.
    const bool memory = access("/dev/shm", W_OK) == 0;
    std::string text =
        (memory ? "/dev/shm" : std::filesystem::temp_directory_path().string()) + "/tallygate-log-XXXXXX";
    TG_ASSERT(mkdtemp(text.data()) != nullptr);
    path_ = text;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

namespace fs = std::filesystem;

inline std::string read_all(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
// The file stays the same one where there is one.
inline void write_all(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline LogIdentity identity(const std::string& incarnation = kIncarnation) {
  return {incarnation, kBoot, "shop/api-0"};
}

inline Definition definition(const std::string& tenant, size_t charges = 1, int64_t epoch = 3,
                             const std::string& route = "all") {
  Definition d{tenant, route, epoch, {}};
  for (size_t i = 0; i < charges; ++i) {
    const std::string n = std::to_string(i);
    d.charges.push_back({"meter_" + n, {"limit-" + n + "@1700000000+86400"}});
  }
  if (charges > 1) d.charges[1].buckets.push_back("meter_1$");
  return d;
}

inline constexpr int64_t kSecond = 1'700'000'000;
inline constexpr size_t kMaxDefinitions = 64;

// The i-th of a fixed set: several tenants, shards, epochs, routes and both sizes of slots.
inline Definition some_definition(size_t i) {
  return definition("ns-" + std::to_string(i % 5) + "/tenant", 1 + i % 8, 3 + static_cast<int64_t>(i % 2),
                    i % 3 == 0 ? "all" : "search");
}

// One admission as its maker knows it. Written before and after each step, so that at most one is uncertain at a kill.
struct Op {
  enum State : uint32_t { kNone, kAdmitting, kAdmitted, kSettling, kSettled, kRefused };
  uint32_t state;
  uint32_t definition;  // index of some_definition()
  int64_t second;
  int64_t estimate[kMaxCharges];
  int64_t final[kMaxCharges];
  void set(State s) { __atomic_store_n(&state, s, __ATOMIC_RELEASE); }
};

// A record as it was seen in the outbox, and so may have been sent.
struct Seen {
  uint32_t whole;
  int32_t shard;
  char text[504];
};

struct Truth {
  static constexpr size_t kMaxOps = 400'000;
  static constexpr size_t kMaxSeen = 100'000;
  uint64_t steps;
  uint64_t ops_used;
  uint64_t seen_used;
  uint64_t done;  // the writer has ended by itself
  Op ops[kMaxOps];
  Seen seen[kMaxSeen];

  void step() { __atomic_store_n(&steps, steps + 1, __ATOMIC_RELEASE); }
};

class SharedTruth {
 public:
  SharedTruth() {
    void* at = mmap(nullptr, sizeof(Truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TG_ASSERT(at != MAP_FAILED);
    truth_ = static_cast<Truth*>(at);
  }
  ~SharedTruth() { munmap(truth_, sizeof(Truth)); }
  SharedTruth(const SharedTruth&) = delete;
  Truth* operator->() { return truth_; }
  Truth& operator*() { return *truth_; }

 private:
  Truth* truth_;
};

// Drives a log at random and keeps the books.
class Driver {
 public:
  Driver(UsageLog& log, Truth& truth, uint64_t seed) : log_(log), truth_(truth), random_(seed) {}

  uint64_t below(uint64_t n) { return random_() % n; }
  size_t in_flight() const { return live_.size(); }

  // False where the log refused.
  bool admit(size_t which, int64_t second) {
    const Definition wanted = some_definition(which);
    auto id = log_.define(wanted);
    if (!id) return false;
    TG_ASSERT(truth_.ops_used < Truth::kMaxOps);
    Op& op = truth_.ops[truth_.ops_used];
    op.definition = static_cast<uint32_t>(which);
    op.second = second;
    const size_t n = wanted.charges.size();
    for (size_t i = 0; i < n; ++i) op.estimate[i] = static_cast<int64_t>(below(1000));
    op.set(Op::kAdmitting);
    ++truth_.ops_used;
    Slot* slot = log_.admit(*id, {op.estimate, n}, second);
    op.set(slot != nullptr ? Op::kAdmitted : Op::kRefused);
    truth_.step();
    if (slot != nullptr) live_.push_back({slot, &op, n});
    return slot != nullptr;
  }

  void settle(size_t index) {
    const Live live = live_[index];
    live_[index] = live_.back();
    live_.pop_back();
    const bool released = below(6) == 0;
    for (size_t i = 0; i < live.charges; ++i) live.op->final[i] = released ? 0 : static_cast<int64_t>(below(2000));
    live.op->set(Op::kSettling);
    log_.settle(live.slot, {live.op->final, live.charges});
    live.op->set(Op::kSettled);
    truth_.step();
  }
  void settle_any() {
    if (!live_.empty()) settle(below(live_.size()));
  }
  void settle_all() {
    while (!live_.empty()) settle(live_.size() - 1);
  }

  Result<void> commit() {
    auto committed = log_.commit_batch();
    note_seen();
    truth_.step();
    return committed;
  }

  // The ledger books a random prefix of each shard.
  void acknowledge_some() {
    note_seen();
    for (const auto& [shard, queue] : log_.outbox().shards()) {
      const auto n = static_cast<uint64_t>(queue.last_seq() - queue.watermark);
      TG_ASSERT(log_.outbox().acknowledge(shard, queue.watermark + static_cast<int64_t>(below(n + 1))));
    }
    log_.trim();
    truth_.step();
  }

  // Everything that stands in the outbox could be sent from now on.
  void note_seen() {
    for (const auto& [shard, queue] : log_.outbox().shards()) {
      auto& noted = noted_[shard];
      for (; noted < queue.last_seq(); ++noted) {
        TG_ASSERT(noted >= queue.watermark && truth_.seen_used < Truth::kMaxSeen);
        const std::string& text = queue.unacked[static_cast<size_t>(noted - queue.watermark)];
        Seen& seen = truth_.seen[truth_.seen_used];
        TG_ASSERT(text.size() < sizeof seen.text);
        seen.shard = shard;
        std::memcpy(seen.text, text.c_str(), text.size() + 1);
        __atomic_store_n(&seen.whole, 1, __ATOMIC_RELEASE);
        ++truth_.seen_used;
      }
    }
  }

 private:
  struct Live {
    Slot* slot;
    Op* op;
    size_t charges;
  };
  UsageLog& log_;
  Truth& truth_;
  std::mt19937_64 random_;
  std::vector<Live> live_;
  std::map<int, int64_t> noted_;
};

// tenant, meter, epoch, second, route
using Key = std::tuple<std::string, std::string, int64_t, int64_t, std::string>;
using Records = std::map<std::pair<int, int64_t>, std::string>;  // (shard, seq) → text

inline void add_outbox(const Outbox& outbox, Records* records, std::string* problem) {
  for (const auto& [shard, queue] : outbox.shards()) {
    int64_t seq = queue.watermark;
    for (const auto& text : queue.unacked) {
      const auto [it, fresh] = records->try_emplace({shard, ++seq}, text);
      if (!fresh && it->second != text && problem->size() < 500)
        *problem += "a record was formed again: " + it->second + " / " + text + "\n";
    }
  }
}

inline Records seen_records(const Truth& truth) {
  Records records;
  for (size_t i = 0; i < Truth::kMaxSeen && truth.seen[i].whole != 0; ++i) {
    auto record = redis_contract::decode(truth.seen[i].text);
    TG_ASSERT(record.has_value());
    records[{truth.seen[i].shard, record->seq}] = truth.seen[i].text;
  }
  return records;
}

struct Sums {
  std::map<Key, int64_t> units;
  Spent spent;
};

// Reads the records as the ledger would: numbered from 1 without a gap, hello first, in the tenant's shard.
inline Sums sum_records(const Records& records, std::string* problem) {
  Sums sums;
  int shard = -1;
  int64_t seq = 0;
  for (const auto& [at, text] : records) {
    if (at.first != shard) seq = 0;
    shard = at.first;
    auto record = redis_contract::decode(text);
    if (!record) {
      *problem += record.error().message + "\n";
      continue;
    }
    if (at.second != ++seq || record->seq != seq) {
      *problem += "shard " + std::to_string(shard) + ": seq " + std::to_string(record->seq) + " where " +
                  std::to_string(seq) + " was due\n";
      seq = at.second;
    }
    const bool hello = record->kind == redis_contract::RecordKind::kHello;
    if (hello != (record->seq == 1)) *problem += "hello is not the first record of its shard\n";
    if (record->incarnation != kIncarnation) *problem += "a foreign record\n";
    if (record->kind != redis_contract::RecordKind::kUsage) continue;
    if (redis_contract::shard_of(record->tenant) != shard) *problem += "a record in another tenant's shard\n";
    sums.units[{record->tenant, record->meter, record->epoch, record->second, record->dims.at(0).second}] +=
        record->units;
    for (const auto& bucket : record->buckets) {
      sums.spent[{record->epoch, redis_contract::member(record->tenant, bucket)}] += record->units;
    }
  }
  return sums;
}

// Compares with what really happened. Empty: everything is there once.
inline std::string audit(const Truth& truth, const Records& records, Spent spent) {
  std::string problem;
  Sums found = sum_records(records, &problem);
  std::erase_if(spent, [](const auto& entry) { return entry.second == 0; });
  if (found.spent != spent) problem += "spent differs from the sum of the records\n";
  const Op* uncertain = nullptr;
  for (size_t i = 0; i < Truth::kMaxOps && truth.ops[i].state != Op::kNone; ++i) {
    const Op& op = truth.ops[i];
    if (op.state == Op::kAdmitting || op.state == Op::kSettling) {
      if (uncertain != nullptr) return "the test itself is wrong: two uncertain steps";
      uncertain = &op;
      continue;
    }
    if (op.state == Op::kRefused) continue;
    const Definition d = some_definition(op.definition);
    for (size_t c = 0; c < d.charges.size(); ++c) {
      found.units[{d.tenant, d.charges[c].meter, d.epoch, op.second, d.route}] -=
          op.state == Op::kSettled ? op.final[c] : op.estimate[c];
    }
  }
  std::map<Key, std::vector<int64_t>> allowed;
  if (uncertain != nullptr) {
    const Definition d = some_definition(uncertain->definition);
    for (size_t c = 0; c < d.charges.size(); ++c) {
      const bool settling = uncertain->state == Op::kSettling;
      allowed[{d.tenant, d.charges[c].meter, d.epoch, uncertain->second, d.route}] = {
          uncertain->estimate[c], settling ? uncertain->final[c] : 0};
      found.units.try_emplace({d.tenant, d.charges[c].meter, d.epoch, uncertain->second, d.route}, 0);
    }
  }
  for (const auto& [key, rest] : found.units) {
    const auto options = allowed.find(key);
    const bool fine = options == allowed.end() ? rest == 0 : rest == options->second[0] || rest == options->second[1];
    if (!fine) {
      if (problem.size() > 500) continue;
      problem += std::get<0>(key) + " " + std::get<1>(key) + " of second " + std::to_string(std::get<3>(key)) +
                 ": off by " + std::to_string(rest) + "\n";
    }
  }
  return problem;
}

// A log of a few files, with work in flight and unbooked.
inline void make_log(const std::string& folder, Truth& truth, uint64_t seed) {
  LogLimits limits;
  limits.max_file_bytes = 4000;
  auto log = UsageLog::create(folder, identity(), limits);
  Driver driver(**log, truth, seed);
  for (int i = 0; i < 300; ++i) {
    TG_ASSERT(driver.admit(driver.below(16), kSecond + i / 100));
    if (i % 5 != 0) driver.settle_any();
    if (i % 25 == 0) TG_ASSERT(driver.commit().has_value());
    if (i == 150) driver.acknowledge_some();
  }
}

// What was seen may have been sent: it may be missing, not differ; and if anything is missing nothing is returned.
inline std::string audit_damaged(const Truth& truth, Predecessor& found) {
  std::string problem;
  const Records seen = seen_records(truth);
  Records all = seen;
  add_outbox(found.outbox(), &all, &problem);
  sum_records(all, &problem);
  if (!found.torn()) problem += audit(truth, all, found.spent());
  if (found.torn() && all.size() > seen.size()) problem += "a damaged log formed new records\n";
  return problem;
}

inline std::string audit_recovered(const Truth& truth, Predecessor& predecessor) {
  std::string problem;
  Records records = seen_records(truth);
  add_outbox(predecessor.outbox(), &records, &problem);
  return problem + audit(truth, records, predecessor.spent());
}

}  // namespace tallygate::sidecar::log_tests
