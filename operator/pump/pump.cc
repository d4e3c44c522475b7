#include "operator/pump/pump.h"

#include <algorithm>

#include "core/redis_client/advice.h"
#include "core/redis_client/client.h"
#include "core/redis_contract/keys.h"
#include "core/redis_contract/scripts.h"
#include "core/telemetry/log.h"
#include "operator/ledger/fault.h"
#include "operator/pump/batch.h"

namespace tallygate::pump {
namespace {

using ledger::BookedIncarnation;
using ledger::StagedRecord;
using redis_contract::kConsumerGroup;
using redis_contract::kShards;

constexpr int64_t kFollowerInterval_ms = 200;
constexpr int64_t kBackoffMin_ms = 50;
constexpr int64_t kBackoffMax_ms = 1000;
constexpr int64_t kPartitions_ms = 6 * 3'600'000;
constexpr size_t kMaxPerStream = 4096;
constexpr int64_t kAnswerTime_ms = 5000;  // beyond what XREADGROUP may block

}  // namespace

// An entry of any size is read, to be put aside: whoever may write it must not hold up the others'.
constexpr size_t kReplyBytesMax = size_t{1} << 30;

class Pump::Worker {
 public:
  Worker(Env& env, const PumpOptions& options, PumpCounters& counters)
      : env_(env),
        options_(options),
        counters_(counters),
        session_(options.database_url, ledger::kBookingSetup),
        store_(env, session_),
        redis_(env, options.redis, {.reply_bytes_max = kReplyBytesMax}) {}

  // One turn. After an error everything that was read and not acknowledged is read again.
  Result<void> run_turn() {
    if (!groups_made_) {
      if (Result<void> done = make_groups(); !done) return done;
    }
    if (env_.mono_ms() >= next_partitions_ms_) {
      if (Result<void> done = store_.ensure_partitions(); !done) return done;
      next_partitions_ms_ = env_.mono_ms() + kPartitions_ms;
    }
    auto batch = read();
    if (!batch) return tl::unexpected(batch.error());
    if (batch->empty()) pending_first_ = false;
    if (batch->empty() && !options_.history->filling()) return {};
    ledger::fault_point("pump.after_read");
    std::vector<BookedIncarnation> booked;
    if (Result<void> done = book(batch->records, batch->poison, &booked); !done) return done;
    ledger::fault_point("pump.after_commit");
    if (Result<void> done = acknowledge(*batch, booked); !done) return done;
    ledger::fault_point("pump.after_ack");
    ++counters_.batches;
    if (!batch->empty()) counters_.lag_ms = std::max<int64_t>(0, env_.wall_ms() - batch->oldest_ms);
    return register_newcomers(booked);
  }

  void forget() {
    groups_made_ = false;
    pending_first_ = true;
  }

 private:
  Result<void> make_groups() {
    std::vector<redis::Command> commands;
    for (int shard = 0; shard < kShards; ++shard) {
      commands.push_back({"XGROUP", "CREATE", redis_contract::usage_key(shard), kConsumerGroup, "0", "MKSTREAM"});
    }
    for (auto& result : redis_.pipeline(commands)) {
      if (!result) return tl::unexpected(result.error());
      if (result->is_error() && !result->text.starts_with("BUSYGROUP"))
        return fail(Errc::kInternal, "Redis: " + redis::with_advice(result->text));
    }
    groups_made_ = true;
    return {};
  }

  Result<Batch> read() {
    redis::Command command = {"XREADGROUP",   "GROUP",
                              kConsumerGroup, options_.consumer,
                              "COUNT",        std::to_string(count_),
                              "BLOCK",        std::to_string(options_.block_ms),
                              "STREAMS"};
    for (int shard = 0; shard < kShards; ++shard) command.push_back(redis_contract::usage_key(shard));
    for (int shard = 0; shard < kShards; ++shard) command.emplace_back(pending_first_ ? "0" : ">");
    auto reply = redis::Client::check(redis_.call(command, options_.block_ms + kAnswerTime_ms));
    if (!reply) return tl::unexpected(reply.error());
    Batch batch = read_batch(std::move(*reply));
    adapt_count(batch);
    counters_.records_read += static_cast<int64_t>(batch.entries);
    return batch;
  }

  // COUNT is per stream: an even share of the batch to start with, doubled while few streams have more than that.
  void adapt_count(const Batch& batch) {
    const size_t share = std::max<size_t>(1, options_.max_batch / kShards);
    if (batch.entries == 0 || batch.entries > options_.max_batch)
      count_ = share;
    else if (batch.longest >= count_ && batch.entries <= options_.max_batch / 2)
      count_ = std::min(count_ * 2, kMaxPerStream);
  }

  // Books all; where the database refuses the data, halves until it knows which record it refuses, and quarantines
  // that.
  Result<void> book(std::span<const StagedRecord> records, std::span<const ledger::PoisonRecord> poison,
                    std::vector<BookedIncarnation>* booked) {
    auto result = store_.book(records, poison, options_.history.get());
    if (result) {
      counters_.poison += static_cast<int64_t>(poison.size());
      for (const BookedIncarnation& one : *result) counters_.records_booked += one.taken;
      booked->insert(booked->end(), result->begin(), result->end());
      return {};
    }
    if (result.error().errc != Errc::kInvalid || records.empty()) return tl::unexpected(result.error());
    if (records.size() == 1) {
      std::vector<ledger::PoisonRecord> more(poison.begin(), poison.end());
      const redis_contract::Record& refused = records[0].record;
      more.push_back({records[0].shard, "refused", redis_contract::encode(refused), result.error().message,
                      refused.incarnation, refused.seq});
      return book({}, more, booked);
    }
    if (Result<void> done = book(records.first(records.size() / 2), poison, booked); !done) return done;
    return book(records.subspan(records.size() / 2), {}, booked);
  }

  Result<void> acknowledge(Batch& batch, const std::vector<BookedIncarnation>& booked) {
    std::vector<redis::Client::Eval> calls;
    const ledger::Mark mark = options_.history->known();
    for (const BookedIncarnation& one : booked) batch.entry_ids.try_emplace(one.shard);  // parked before
    for (auto& [shard, ids] : batch.entry_ids) {
      redis::Client::Eval call{
          &redis_contract::kAck,
          {redis_contract::usage_key(shard), redis_contract::watermark_key(shard), redis_contract::ledger_key(shard)},
          {kConsumerGroup, std::to_string(mark.generation), std::to_string(mark.mark), std::to_string(ids.size())}};
      std::ranges::move(ids, std::back_inserter(call.args));
      for (const BookedIncarnation& one : booked) {
        if (one.shard != shard) continue;
        call.args.push_back(one.incarnation);
        call.args.push_back(std::to_string(one.watermark));
      }
      calls.push_back(std::move(call));
    }
    for (auto& result : redis_.eval_all(std::move(calls))) {
      result = redis::Client::check(std::move(result));
      if (!result) return tl::unexpected(result.error());
    }
    return {};
  }

  // Only for speed: where this fails, the epoch keeper registers them soon.
  Result<void> register_newcomers(const std::vector<BookedIncarnation>& booked) {
    std::vector<redis::Client::Eval> calls;
    for (const BookedIncarnation& one : booked) {
      if (!one.may_lease || one.epoch == 0) continue;
      calls.push_back({&redis_contract::kRegister,
                       {redis_contract::epoch_key(one.shard), redis_contract::registered_key(one.shard, one.epoch)},
                       {std::to_string(one.epoch), one.incarnation}});
    }
    for (auto& result : redis_.eval_all(std::move(calls))) {
      result = redis::Client::check(std::move(result));
      if (!result) return tl::unexpected(result.error());
    }
    return {};
  }

  Env& env_;
  const PumpOptions& options_;
  PumpCounters& counters_;
  ledger::Session session_;
  ledger::EscrowStore store_;
  redis::Client redis_;
  bool groups_made_ = false;
  bool pending_first_ = true;
  int64_t next_partitions_ms_ = 0;
  size_t count_ = std::max<size_t>(1, options_.max_batch / kShards);
};

Pump::Pump(Env& env, PumpOptions options) : env_(env), options_(std::move(options)), standing_(env) {}
Pump::~Pump() { stop(); }

void Pump::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Pump::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  thread_.join();
}

void Pump::run() {
  Worker worker(env_, options_, counters_);
  int64_t backoff_ms = kBackoffMin_ms;
  while (!stopping_) {
    if (!options_.is_leader()) {
      standing_.rests();
      worker.forget();
      env_.sleep_ms(kFollowerInterval_ms);
      continue;
    }
    const Result<void> done = worker.run_turn();
    if (done) {
      standing_.succeeded();
      backoff_ms = kBackoffMin_ms;
      continue;
    }
    ++counters_.failures;
    standing_.failed(done.error().message);
    static log::Throttle throttle(10);
    log::warn(throttle, "usage cannot be pumped", {{"error", done.error().message}});
    worker.forget();
    env_.sleep_ms(backoff_ms);
    backoff_ms = std::min(kBackoffMax_ms, backoff_ms * 2);
  }
}

}  // namespace tallygate::pump
