// Whether this ledger still knows what it once told: a backup that was restored does not (migration 0055,
// docs/adr/0008-a-restored-ledger.md).
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/env.h"
#include "operator/ledger/session.h"

namespace tallygate::ledger {

// How far a ledger is. Only ever higher, and told outside only after the commit that raised it.
struct Mark {
  int64_t generation = 0;  // how often it was recovered
  int64_t mark = 0;
  auto operator<=>(const Mark&) const = default;
};

struct Past {
  std::string id;  // which ledger it is
  Mark mark;
  std::string behind;  // why it is known to have gone back; empty: it has not
};

struct Gaps {
  int64_t open = 0;                                       // incarnations of which booked records are missing
  int64_t parked = 0;                                     // records that wait behind them
  int64_t lost = 0;                                       // records given up, ever
  std::vector<std::pair<int, std::string>> incarnations;  // shard and name of those open
};

// What this process knows of the ledger's past, and what it has found. Any thread.
class History {
 public:
  // The ledger, or somebody who has heard it, was that far.
  void heard(const Mark& mark);
  Mark known() const;
  // The ledger was read. An error where it is another than the one this process has served; nothing is heard then.
  Result<void> read(const Past& past);
  std::string id() const;  // empty: not read yet
  // What was found of the ledger as it is now; empty: it has not gone back. After anything else there may be gaps.
  void set_behind(const std::string& why);
  // What is amiss, of either kind.
  std::string trouble() const;
  // Whether Redis serves another ledger, by what was asked there; empty: it does not.
  void set_foreign(const std::string& why);
  bool foreign() const { return foreign_.load(std::memory_order_acquire); }
  // It was asked, and does not: until then nothing is written there.
  bool redis_is_ours() const { return ours_.load(std::memory_order_acquire); }
  // Ledger and Redis were compared, and nothing was amiss.
  void compared() { compared_.store(true, std::memory_order_release); }
  bool is_compared() const { return compared_.load(std::memory_order_acquire); }
  bool is_behind() const { return behind_.load(std::memory_order_acquire); }
  bool in_order() const { return !is_behind() && !foreign(); }
  void set_gaps(const Gaps& gaps);
  // Until set_gaps() has told, there may be some.
  void expect_gaps() { filling_.store(true, std::memory_order_release); }
  // Booked records are missing, or wait: whatever counts on all usage being here waits too.
  bool filling() const { return filling_.load(std::memory_order_acquire); }
  int64_t open_gaps() const { return open_gaps_.load(std::memory_order_relaxed); }
  int64_t lost_records() const { return lost_.load(std::memory_order_relaxed); }
  void refused_claim() { refused_claims_.fetch_add(1, std::memory_order_relaxed); }
  int64_t refused_claims() const { return refused_claims_.load(std::memory_order_relaxed); }

 private:
  void learn(const Mark& mark);
  mutable std::mutex mutex_;
  Mark known_;                                 // under mutex_
  std::string id_, why_behind_, why_foreign_;  // under mutex_
  std::atomic<bool> behind_ = false, foreign_ = false, ours_ = false, compared_ = false, filling_ = false;
  std::atomic<int64_t> open_gaps_ = 0, lost_ = 0, refused_claims_ = 0;
};

// An incarnation and its watermark, by the ledger.
struct MemberMark {
  int shard = 0;
  std::string incarnation;
  int64_t watermark = 0;
};

// Threading: one thread at a time.
class HistoryStore {
 public:
  HistoryStore(Env& env, Session& session) : env_(env), session_(session) {}

  Result<Past> look();
  static Result<Past> look(Transaction& transaction);
  // One step on, unless more is known or it is behind: then nothing changes, and the answer says so.
  Result<Past> advance(const Mark& known);
  static Result<Past> advance(Transaction& transaction, const Mark& known);
  // True where it is news.
  Result<bool> found_behind(const std::string& why);
  // Of incarnations that may come again: alive, or with an open gap.
  Result<std::vector<MemberMark>> watermarks(std::span<const int> shards);
  // Resolves what can be. `first`: JSON {"shard/incarnation": first record that its sidecar can still send}.
  Result<Gaps> tend_gaps(const std::string& first);

 private:
  Env& env_;
  Session& session_;
};

}  // namespace tallygate::ledger
