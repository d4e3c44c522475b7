#include "operator/escrow/epoch_keeper.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/io/event_loop.h"
#include "core/redis_client/client.h"
#include "core/redis_contract/scripts.h"
#include "core/telemetry/log.h"
#include "operator/escrow/absentees.h"
#include "operator/escrow/fitness.h"
#include "operator/escrow/ledger_watch.h"
#include "operator/ledger/escrow_store.h"

namespace tallygate::escrow {
namespace {

using ledger::EpochMembers;
using ledger::ShardEpoch;
using redis_contract::kShards;

constexpr int64_t kFollowerInterval_ms = 200;
constexpr int64_t kBackoffMax_ms = 1000;
constexpr int kTurnsPerRegistration =
    10;  // members are registered again that often, which heals what the pump could not

redis::ConnectionOptions quick_reconnect() {
  redis::ConnectionOptions options;
  options.backoff_max_ms = 200;
  return options;
}

}  // namespace

struct EpochKeeper::Worker {
  Worker(Env& env, const EpochKeeperOptions& options, EpochKeeperCounters& counters)
      : env(env),
        loop(env),
        session(options.database_url),
        store(env, session),
        redis(env, options.redis, quick_reconnect()),
        options(options),
        watch(env, session, redis, *options.history),
        counters(counters) {}

  Env& env;
  EventLoop loop;  // only to wait on, so that lost() and stop() can end the wait
  ledger::Session session;
  ledger::EscrowStore store;
  redis::Client redis;
  const EpochKeeperOptions& options;
  LedgerWatch watch;
  EpochKeeperCounters& counters;
  std::optional<int64_t> ahead_ms;
  int turn = 0;
  int64_t next_round_ms = 0;
  std::atomic<bool> stopping = false;

  // How far the ledger's clock is ahead of Redis': each answer says the least and the most that it can be, by when it
  // was asked for and when it came. A slow one tells little, and what is known stays where it may.
  Result<void> measure_clock() {
    const int64_t sent_ms = env.mono_ms(), ledger_ms = env.wall_ms();
    const auto reply = redis::Client::check(redis.call({"TIME"}));
    if (!reply) return tl::unexpected(reply.error());
    const int64_t took_ms = env.mono_ms() - sent_ms;
    if (!reply->is_array() || reply->elements.size() != 2) return {};
    const int64_t redis_ms = reply->elements[0].to_integer() * 1'000 + reply->elements[1].to_integer() / 1'000;
    const int64_t least_ms = ledger_ms - redis_ms;
    ahead_ms = std::clamp(ahead_ms.value_or(least_ms + took_ms / 2), least_ms, least_ms + took_ms);
    counters.redis_behind_ms = *ahead_ms;
    return {};
  }

  // The epoch that Redis may act under, per shard. Where that is the ledger's, it is told of the ledger's clock.
  Result<std::vector<int64_t>> renew(const std::vector<ShardEpoch>& numbers) {
    std::vector<redis::Client::Eval> calls;
    for (const ShardEpoch& e : numbers) {
      std::vector<std::string> args;
      if (ahead_ms) args = {std::to_string(e.number), std::to_string(*ahead_ms)};
      calls.push_back({&redis_contract::kRenew, {redis_contract::epoch_key(e.shard)}, std::move(args)});
    }
    std::vector<int64_t> epochs;
    for (auto& result : redis.eval_all(std::move(calls))) {
      result = redis::Client::check(std::move(result));
      if (!result) return tl::unexpected(result.error());
      epochs.push_back(result->to_integer());
    }
    return epochs;
  }

  // Sends `open` once for each new number. What comes of it the next turn's `renew` tells.
  void send_open(const std::vector<ShardEpoch>& opened, std::vector<int64_t>* current) {
    std::vector<redis::Client::Eval> calls;
    for (const ShardEpoch& e : opened) {
      calls.push_back({&redis_contract::kOpen,
                       {redis_contract::epoch_key(e.shard)},
                       {std::to_string(e.number), std::to_string(ahead_ms.value_or(0))}});
    }
    auto results = redis.eval_all(std::move(calls));
    for (size_t i = 0; i < opened.size(); ++i) {
      const bool done = results[i] && results[i]->is_integer() && results[i]->integer == opened[i].number;
      (*current)[static_cast<size_t>(opened[i].shard)] = done ? opened[i].number : 0;
    }
  }

  Result<void> register_members(const std::vector<int>& shards) {
    if (shards.empty()) return {};
    const auto members = store.members(shards);
    if (!members) return tl::unexpected(members.error());
    std::vector<redis::Client::Eval> calls;
    for (const EpochMembers& m : *members) {
      if (m.incarnations.empty() || m.number == 0) continue;
      std::vector<std::string> args = {std::to_string(m.number)};
      args.insert(args.end(), m.incarnations.begin(), m.incarnations.end());
      calls.push_back({&redis_contract::kRegister,
                       {redis_contract::epoch_key(m.shard), redis_contract::registered_key(m.shard, m.number)},
                       std::move(args)});
      counters.registered += static_cast<int64_t>(m.incarnations.size());
    }
    for (auto& result : redis.eval_all(std::move(calls))) {
      result = redis::Client::check(std::move(result));
      if (!result) return tl::unexpected(result.error());
    }
    return {};
  }

  // One turn; `current` becomes the epoch that each shard's Redis acts under.
  Result<void> run_turn(const std::vector<std::pair<int, int64_t>>& lost, std::vector<int64_t>* current) {
    auto view = watch.look();
    if (!view) return tl::unexpected(view.error());
    if (!view->in_order) return {};
    if (const auto measured = measure_clock(); !measured) return measured;
    auto in_redis = renew(view->numbers);
    if (!in_redis) return tl::unexpected(in_redis.error());
    std::vector<ShardEpoch> stale;
    for (const ShardEpoch& e : view->numbers) {
      int64_t& in_force = (*in_redis)[static_cast<size_t>(e.shard)];
      const bool forgot = std::ranges::find(lost, std::pair(e.shard, e.number)) != lost.end();
      if (e.number != 0 && in_force == e.number && !forgot) continue;
      in_force = 0;
      if (!view->wait.contains(e.shard)) stale.push_back(e);
    }
    *current = std::move(*in_redis);
    std::vector<int> to_register;
    if (!stale.empty()) {
      // A number that is spent on a server which cannot take it is spent again with the next turn, without end.
      const auto why = unfit(redis, Trial::kWhole);
      if (!why) return tl::unexpected(why.error());
      if (!why->empty()) return fail(Errc::kConflict, "Redis cannot be used: " + *why);
      auto opened = store.open(stale);
      if (!opened) return tl::unexpected(opened.error());
      std::erase_if(*opened, [](const ShardEpoch& e) { return e.number == 0; });
      if (!opened->empty()) {
        counters.epochs_opened += static_cast<int64_t>(opened->size());
        log::warn("epochs opened",
                  {{"shards", opened->size()}, {"first_shard", (*opened)[0].shard}, {"number", (*opened)[0].number}});
        send_open(*opened, current);
        for (const ShardEpoch& e : *opened) to_register.push_back(e.shard);
      }
    }
    if (turn++ % kTurnsPerRegistration == 0) {
      to_register.resize(kShards);
      std::iota(to_register.begin(), to_register.end(), 0);
    }
    return register_members(to_register);
  }

  // A command that Redis refuses is told of as what is wrong with the server, where something is.
  Result<void> explained(Result<void> done) {
    if (done || !done.error().message.starts_with("Redis: ")) return done;
    const auto why = unfit(redis, Trial::kQuiet);
    if (!why || why->empty()) return done;
    return fail(Errc::kConflict, "Redis cannot be used: " + *why);
  }

  // A round counts what was heard since the one before: after anything that kept them from coming, the next one only
  // begins to count.
  Result<std::vector<ShardEpoch>> look_for_absentees(std::span<const int64_t> current) {
    const int64_t late_ms = env.mono_ms() - next_round_ms;
    if (late_ms < 0) return {};
    next_round_ms = env.mono_ms() + options.presence_round_ms;
    if (late_ms > options.presence_round_ms) return {};
    auto found = find_absentees(store, redis, current, options.presence_round_ms, options.silent_rounds);
    if (!found) return tl::unexpected(found.error());
    counters.gone += found->written_off;
    return std::move(found->to_reopen);
  }
};

EpochKeeper::EpochKeeper(Env& env, EpochKeeperOptions options)
    : env_(env), options_(std::move(options)), standing_(env) {}
EpochKeeper::~EpochKeeper() { stop(); }

void EpochKeeper::start() {
  if (thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    worker_ = std::make_unique<Worker>(env_, options_, counters_);
  }
  thread_ = std::thread([this] { run(); });
}

void EpochKeeper::stop() {
  if (!thread_.joinable()) return;
  worker_->stopping = true;
  worker_->loop.post([] {});
  thread_.join();
  std::lock_guard lock(mutex_);
  worker_.reset();
}

void EpochKeeper::lost(int shard, int64_t epoch) {
  std::lock_guard lock(mutex_);
  const std::pair entry(shard, epoch);
  if (std::ranges::find(lost_, entry) != lost_.end()) return;
  ++counters_.lost_buckets;
  lost_.push_back(entry);
  if (worker_) worker_->loop.post([] {});
}

void EpochKeeper::run() {
  Worker& worker = *worker_;
  int64_t backoff_ms = options_.interval_ms;
  while (!worker.stopping) {
    std::vector<int64_t> current(kShards, 0);
    int64_t wait_ms = kFollowerInterval_ms;
    if (options_.is_leader()) {
      std::vector<std::pair<int, int64_t>> lost;
      {
        std::lock_guard lock(mutex_);
        lost = lost_;
      }
      Result<void> done = worker.explained(worker.run_turn(lost, &current));
      if (done) {
        const auto to_reopen = worker.look_for_absentees(current);
        if (!to_reopen) done = tl::unexpected(to_reopen.error());
        std::lock_guard lock(mutex_);
        for (const ShardEpoch& e : to_reopen ? *to_reopen : std::vector<ShardEpoch>())
          lost_.emplace_back(e.shard, e.number);
      }
      done ? standing_.succeeded() : standing_.failed(done.error().message);
      wait_ms = done ? options_.interval_ms : backoff_ms;
      backoff_ms = done ? options_.interval_ms : std::min(kBackoffMax_ms, backoff_ms * 2);
      if (!done) {
        ++counters_.failures;
        static log::Throttle throttle(10);
        log::warn(throttle, "epochs cannot be kept", {{"error", done.error().message}});
      } else {
        // Those reported while opening backed off are still the ledger's current ones: they are tried again.
        std::lock_guard lock(mutex_);
        std::erase_if(lost_, [&](const auto& e) { return current[static_cast<size_t>(e.first)] > e.second; });
      }
    } else {
      standing_.rests();
      worker.turn = 0;  // a new leader registers all members first
      worker.watch.rest();
    }
    for (size_t shard = 0; shard < current_.size(); ++shard)
      current_[shard].store(current[shard], std::memory_order_release);
    counters_.shards_ready = std::ranges::count_if(current, [](int64_t e) { return e > 0; });
    worker.loop.run_once(wait_ms);
  }
}

}  // namespace tallygate::escrow
