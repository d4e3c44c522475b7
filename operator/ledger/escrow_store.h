// The escrow ladder's side of PostgreSQL, typed: epochs, members, funding, booking (migrations 0005 and 0006).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/redis_contract/record.h"
#include "operator/ledger/history.h"
#include "operator/ledger/session.h"

namespace tallygate::ledger {

// For Session's constructor, where book() is to be called.
inline constexpr const char* kBookingSetup = "select prepare_booking(), ensure_usage_partitions(now())";

struct ShardEpoch {
  int shard = 0;
  int64_t number = 0;
};

struct EpochMembers {
  int shard = 0;
  int64_t number = 0;                     // 0: no epoch was ever opened
  std::vector<std::string> incarnations;  // who may lease under it, sorted
};

struct FundRequest {
  int shard = 0;
  int64_t epoch = 0;
  std::string tenant, bucket;
  int64_t funded = 0, recalled = 0, free = 0, need = 0;  // what Redis says of the bucket (stat.lua)
  int64_t want = 0;
  std::string born = {};
};

enum class FundStatus : uint8_t { kOk, kEpoch, kLost, kNone };

// What to take back from other buckets of its wallet, so that a request can be funded: operator/escrow/recall.h.
struct RecallPlan {
  size_t request = 0;  // its place
  std::string plan;
};

// What fund.lua answered.
struct FundedTotal {
  std::string tenant, bucket;
  int64_t epoch = 0, total = 0;
};

// What fund.lua shall be told. kEpoch and kLost: nothing to tell.
struct FundAnswer {
  FundStatus status = FundStatus::kEpoch;
  int64_t acked = 0, total = 0, avail = 0, used = 0, low = 1;
  std::string dry;
  int64_t granted = 0;
};

struct StagedRecord {
  int shard = 0;
  redis_contract::Record record;
};

struct PoisonRecord {
  int shard = 0;
  std::string stream_id, raw, error;
  // Whose record it was, where that can be read. It counts as passed: those that follow it are booked (rule 16).
  std::string incarnation = {};
  int64_t seq = 0;  // 0: not known
};

struct BookedIncarnation {
  int shard = 0;
  std::string incarnation;
  int64_t watermark = 0;
  int64_t taken = 0;       // records of this batch
  bool may_lease = false;  // it said hello in this batch and is alive: register it under `epoch`
  int64_t epoch = 0;       // the shard's current one
};

// Who gave a sign of life in Redis, of the incarnations of a shard under its current epoch.
struct HeardShard {
  int shard = 0;
  int64_t epoch = 0;
  std::vector<std::string> incarnations;
};

// An incarnation that is gone; or, `back`, was declared so and is there.
struct Absentee {
  int shard = 0;
  int64_t epoch = 0;  // the shard's current one
  std::string incarnation;
  bool back = false;
};

// Of an incarnation, in Redis: leased less returned.
struct HeldUnits {
  std::string member;  // "tenant|bucket"
  int64_t units = 0;
};

struct WrittenOff {
  std::string tenant, bucket;
  int64_t spent = 0;  // for give_back.lua: of Redis's units, as far as is known
  int64_t units = 0;  // that come back
};

// Rounds in which nobody hears of an incarnation until it is declared gone: an hour.
inline constexpr int64_t kPresenceRound_ms = 60'000;
inline constexpr int kSilentRounds = 60;
// After the end of an epoch, what is left of wallets' float in it is written off.
inline constexpr int64_t kWriteOffAfter_ms = 3'600'000;

// Threading: one thread at a time.
class EscrowStore {
 public:
  EscrowStore(Env& env, Session& session) : env_(env), session_(session) {}

  // The current number of every shard, in order.
  Result<std::vector<ShardEpoch>> numbers();
  // Number and members of each shard, in order of shards, one snapshot.
  Result<std::vector<EpochMembers>> members(std::span<const int> shards);
  // Compare and set; the new numbers, 0 where another was current or opening backs off.
  Result<std::vector<ShardEpoch>> open(std::span<const ShardEpoch> expected);
  // As many answers as requests, in order. One transaction.
  Result<std::vector<FundAnswer>> fund(std::span<const FundRequest> requests, int64_t target_units);
  // What Redis knows of from now on, so that it can be held to it.
  Result<void> acknowledged(std::span<const FundedTotal> totals);
  // For those of the wallet buckets that recalling would help to the units they lack (`need`, or one).
  Result<std::vector<RecallPlan>> recall_plans(std::span<const FundRequest> requests);
  // Counts what was recalled by a plan of this tenant's.
  Result<void> count_recalled(const std::string& tenant, const std::string& totals);
  // One transaction. On kTimeout repeat it: what is booked is not booked again. kInvalid: some record of the batch is
  // refused by the database; split the batch to find it. kConflict: the ledger has gone back, by what `history` knows;
  // nothing is booked. What this commit made of it is heard by `history`.
  Result<std::vector<BookedIncarnation>> book(std::span<const StagedRecord> records,
                                              std::span<const PoisonRecord> poison, History* history = nullptr);
  // One round of presence (migration 0051); those that something has to be done about, `limit` at most.
  Result<std::vector<Absentee>> absentees(std::span<const HeardShard> heard, int rounds, int limit);
  // What comes back of an absentee's, audited; then that it has come back.
  Result<std::vector<WrittenOff>> write_off(const Absentee& gone, std::span<const HeldUnits> held);
  Result<void> written_off(const Absentee& gone);
  // Makes the monthly partitions of usage_records ahead of time. A few times a day is enough.
  Result<void> ensure_partitions();

 private:
  std::string now() const;
  Result<void> book_staged(Transaction& transaction, bool filling, std::vector<BookedIncarnation>* booked);
  Env& env_;
  Session& session_;
};

}  // namespace tallygate::ledger
