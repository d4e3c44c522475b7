#include "operator/escrow/funder.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "core/ids.h"
#include "core/io/event_loop.h"
#include "core/redis_client/client.h"
#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/scripts.h"
#include "core/telemetry/log.h"
#include "operator/escrow/recall.h"
#include "operator/ledger/escrow_store.h"
#include "operator/ledger/fault.h"

namespace tallygate::escrow {
namespace {

using ledger::FundAnswer;
using ledger::FundRequest;
using ledger::FundStatus;
using redis_contract::kShards;

constexpr int64_t kFollowerInterval_ms = 200;
constexpr int64_t kBackoff_ms = 200;
constexpr int64_t kWantedWithin_ms = 60'000;
constexpr int64_t kForgetAfter_ms = 3'600'000;  // members not asked for that long leave the set
constexpr int64_t kLatest_s = 253'402'300'799;  // the end of the year 9999
constexpr size_t kMaxPending = 100'000;
constexpr int kRefreshTurns = 5;  // buckets that need nothing are told of usage and availability each so many scans

// Which buckets of a batch need the ledger.
enum class Pick { kAll, kAttention };

struct Member {
  int shard = 0;
  std::string name;  // "tenant|bucket"
  auto operator<=>(const Member&) const = default;
};

}  // namespace

struct Funder::Worker {
  Worker(Env& env, const FunderOptions& options, FunderCounters& counters, EpochKeeper& keeper)
      : env(env),
        options(options),
        counters(counters),
        keeper(keeper),
        loop(env),
        wants(loop, options.redis),
        session(options.database_url),
        store(env, session),
        redis(env, options.redis) {
    wants.subscribe({redis_contract::want_channel()}, [this](std::string, std::string text) { hear(text); });
  }

  Env& env;
  const FunderOptions& options;
  FunderCounters& counters;
  EpochKeeper& keeper;
  EventLoop loop;
  redis::Connection wants;
  ledger::Session session;
  ledger::EscrowStore store;
  redis::Client redis;
  std::set<Member> pending;
  int scans = 0;
  std::atomic<bool> stopping = false;

  // "NN tenant|bucket"
  void hear(std::string_view text) {
    Member member;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + std::min<size_t>(2, text.size()), member.shard);
    if (error != std::errc() || text.size() < 4 || end != text.data() + 2 || text[2] != ' ' || member.shard >= kShards)
      return;
    member.name = text.substr(3);
    if (pending.size() >= kMaxPending)
      ++counters.dropped;
    else
      pending.insert(std::move(member));
  }

  // Members asked for of late, of the given shards.
  Result<std::vector<Member>> wanted(const std::vector<int>& shards) {
    std::vector<redis::Command> commands;
    std::vector<int> asked;
    for (const int shard : shards) {
      const int64_t epoch = keeper.current(shard);
      if (epoch == 0) continue;
      asked.push_back(shard);
      commands.push_back({"ZRANGEBYSCORE", redis_contract::want_key(shard, epoch),
                          std::to_string(env.wall_ms() - kWantedWithin_ms), "+inf"});
    }
    std::vector<Member> members;
    auto results = redis.pipeline(commands);
    for (size_t i = 0; i < results.size(); ++i) {
      auto result = redis::Client::check(std::move(results[i]));
      if (!result) return tl::unexpected(result.error());
      for (auto& element : result->elements) members.push_back({asked[i], std::move(element.text)});
    }
    return members;
  }

  Result<void> forget_old() {
    std::vector<redis::Command> commands;
    for (int shard = 0; shard < kShards; ++shard) {
      const int64_t epoch = keeper.current(shard);
      if (epoch == 0) continue;
      commands.push_back({"ZREMRANGEBYSCORE", redis_contract::want_key(shard, epoch), "-inf",
                          std::to_string(env.wall_ms() - kForgetAfter_ms)});
    }
    for (auto& result : redis.pipeline(commands)) {
      if (!result) return tl::unexpected(result.error());
    }
    return {};
  }

  Result<void> scan() {
    std::vector<int> shards(kShards);
    for (int i = 0; i < kShards; ++i) shards[static_cast<size_t>(i)] = i;
    const auto members = wanted(shards);
    if (!members) return tl::unexpected(members.error());
    ++scans;
    if (scans % 60 == 0) {
      if (Result<void> done = forget_old(); !done) return done;
    }
    return fund_all(*members, Pick::kAttention);
  }

  Result<void> fund_tenants(const std::vector<std::string>& tenants) {
    std::set<int> shards;
    std::set<std::string, std::less<>> names(tenants.begin(), tenants.end());
    for (const std::string& tenant : tenants) shards.insert(redis_contract::shard_of(tenant));
    auto members = wanted({shards.begin(), shards.end()});
    if (!members) return tl::unexpected(members.error());
    std::erase_if(*members, [&](const Member& m) {
      return !names.contains(std::string_view(m.name).substr(0, m.name.find('|')));
    });
    return fund_all(*members, Pick::kAll);
  }

  Result<void> fund_all(const std::vector<Member>& members, Pick pick) {
    for (size_t from = 0; from < members.size(); from += options.max_batch) {
      const size_t count = std::min(options.max_batch, members.size() - from);
      if (Result<void> done = fund_batch(std::span(members).subspan(from, count), pick); !done) return done;
    }
    return {};
  }

  bool due_for_refresh(const Member& member) const {
    return static_cast<int>(std::hash<std::string>{}(member.name) % kRefreshTurns) == scans % kRefreshTurns;
  }

  // Splits a member's name. False for what no ledger account can stand for: it must not spoil the batch that it is in.
  static bool parse(const Member& member, FundRequest* request) {
    const size_t bar = member.name.find('|');
    if (bar == std::string::npos) return false;
    request->tenant = member.name.substr(0, bar);
    request->bucket = member.name.substr(bar + 1);
    if (!TenantId::parse(request->tenant) || redis_contract::shard_of(request->tenant) != member.shard) return false;
    const auto id = redis_contract::BucketId::parse(request->bucket);
    return id && !id->redis_only() && id->start_s <= kLatest_s && id->length_s <= kLatest_s;
  }

  // What Redis says of the buckets, in one round trip: those that are to be funded.
  Result<std::vector<FundRequest>> stat(std::span<const Member> members, Pick pick) {
    std::map<int, std::vector<const Member*>> by_shard;
    for (const Member& member : members) {
      if (keeper.current(member.shard) > 0) by_shard[member.shard].push_back(&member);
    }
    std::vector<redis::Client::Eval> calls;
    std::vector<std::vector<FundRequest>> groups;
    for (const auto& [shard, group] : by_shard) {
      const int64_t epoch = keeper.current(shard);
      redis::Client::Eval call{
          &redis_contract::kStat, {redis_contract::epoch_key(shard)}, {std::to_string(epoch), env.random_hex(8)}};
      groups.emplace_back();
      for (const Member* member : group) {
        FundRequest request;
        request.shard = shard;
        request.epoch = epoch;
        if (!parse(*member, &request)) continue;
        call.keys.push_back(redis_contract::bucket_key(shard, epoch, request.tenant, request.bucket));
        groups.back().push_back(std::move(request));
      }
      calls.push_back(std::move(call));
    }
    auto results = redis.eval_all(std::move(calls));
    std::vector<FundRequest> requests;
    for (size_t i = 0; i < results.size(); ++i) {
      auto result = redis::Client::check(std::move(results[i]));
      if (!result) return tl::unexpected(result.error());
      if (!result->is_array() || result->elements.size() != groups[i].size())
        continue;  // EPOCH: the keeper will see to it
      for (size_t k = 0; k < groups[i].size(); ++k) {
        const auto& facts = result->elements[k].elements;
        if (facts.size() != 7) continue;
        FundRequest& request = groups[i][k];
        const Member self{request.shard, redis_contract::member(request.tenant, request.bucket)};
        if (pick == Pick::kAttention && facts[4].to_integer() == 0 && !due_for_refresh(self)) continue;
        request.funded = facts[0].to_integer();
        request.recalled = facts[1].to_integer();
        request.free = facts[2].to_integer();
        request.need = facts[3].to_integer();
        request.want = facts[5].to_integer();
        request.born = facts[6].text;
        requests.push_back(std::move(request));
      }
    }
    return requests;
  }

  Result<void> fund_batch(std::span<const Member> members, Pick pick) {
    const auto requests = stat(members, pick);
    if (!requests) return tl::unexpected(requests.error());
    ledger::fault_point("funder.after_stat");
    return fund_requests(*requests);
  }

  // Where the ledger refuses the data of one, halves until the others have what they asked for.
  Result<void> fund_requests(std::span<const FundRequest> requests) {
    if (requests.empty()) return {};
    auto answers = store.fund(requests, options.float_units);
    if (answers) {
      ledger::fault_point("funder.after_commit");
      recall_for_short(requests, &*answers);
      return tell(requests, *answers);
    }
    if (answers.error().errc != Errc::kInvalid) return tl::unexpected(answers.error());
    if (requests.size() == 1) {
      ++counters.refused;
      log::error("the ledger refuses to fund a bucket",
                 {{"tenant", requests[0].tenant}, {"bucket", requests[0].bucket}, {"error", answers.error().message}});
      return {};
    }
    if (Result<void> done = fund_requests(requests.first(requests.size() / 2)); !done) return done;
    return fund_requests(requests.subspan(requests.size() / 2));
  }

  // Wallet buckets that got less than a request needs: idle float of the same wallet's other buckets is taken back for
  // them, and they are funded once more. Where that does not do, or fails, they stay dry; the next scan tries again.
  void recall_for_short(std::span<const FundRequest> requests, std::vector<FundAnswer>* answers) {
    std::vector<FundRequest> lacking;
    std::vector<FundAnswer*> places;
    for (size_t i = 0; i < requests.size(); ++i) {
      const FundRequest& r = requests[i];
      FundAnswer& a = (*answers)[i];
      if (a.status != FundStatus::kOk || !r.bucket.ends_with('$')) continue;
      if (r.free + a.total - r.funded >= std::max<int64_t>(1, r.need)) continue;
      lacking.push_back(r);
      places.push_back(&a);
    }
    recall_for(lacking, places);
  }

  // What fails for one wallet by its data keeps no other from what it needs: plans are made by halves then.
  void recall_for(std::span<const FundRequest> lacking, std::span<FundAnswer* const> answers) {
    if (lacking.empty()) return;
    const auto plans = store.recall_plans(lacking);
    if (!plans && plans.error().errc == Errc::kInvalid && lacking.size() > 1) {
      const size_t half = lacking.size() / 2;
      recall_for(lacking.first(half), answers.first(half));
      return recall_for(lacking.subspan(half), answers.subspan(half));
    }
    if (!plans) return recall_failed(lacking[0], plans.error());
    for (const ledger::RecallPlan& plan : *plans) {
      const FundRequest& r = lacking[plan.request];
      auto again = fund_by_recall(r, plan.plan);
      if (again) {
        *answers[plan.request] = std::move(*again);
        continue;
      }
      recall_failed(r, again.error());
      if (again.error().errc != Errc::kInvalid) return;  // Redis or PostgreSQL is away
    }
  }

  Result<FundAnswer> fund_by_recall(const FundRequest& request, const std::string& plan) {
    const auto totals = recall(redis, request.tenant, plan);
    if (!totals) return tl::unexpected(totals.error());
    if (Result<void> done = store.count_recalled(request.tenant, *totals); !done) return tl::unexpected(done.error());
    auto again = store.fund(std::span(&request, 1), options.float_units);
    if (!again) return tl::unexpected(again.error());
    ++counters.recalls;
    return std::move((*again)[0]);
  }

  void recall_failed(const FundRequest& request, const Error& error) {
    if (error.errc == Errc::kInvalid) ++counters.refused;
    static log::Throttle throttle(10);
    log::warn(throttle, "float could not be recalled for a bucket of the same wallet",
              {{"tenant", request.tenant}, {"bucket", request.bucket}, {"error", error.message}});
  }

  Result<void> tell(std::span<const FundRequest> requests, const std::vector<FundAnswer>& answers) {
    std::vector<redis::Client::Eval> calls;
    std::vector<const FundRequest*> told;
    for (size_t i = 0; i < requests.size(); ++i) {
      const FundRequest& r = requests[i];
      const FundAnswer& a = answers[i];
      if (a.status == FundStatus::kLost) report_lost(r);
      if (a.status != FundStatus::kOk && a.status != FundStatus::kNone) continue;
      ++counters.funded_calls;
      counters.funded_units += a.granted;
      if (!a.dry.empty()) ++counters.dry_answers;
      calls.push_back(
          {&redis_contract::kFund,
           {redis_contract::epoch_key(r.shard), redis_contract::bucket_key(r.shard, r.epoch, r.tenant, r.bucket)},
           {std::to_string(r.epoch), std::to_string(a.acked), std::to_string(a.total), std::to_string(a.avail),
            std::to_string(a.used), a.dry, std::to_string(a.low), r.born}});
      told.push_back(&r);
    }
    auto results = redis.eval_all(std::move(calls));
    ledger::fault_point("funder.after_fund");
    std::vector<ledger::FundedTotal> totals;
    for (size_t i = 0; i < results.size(); ++i) {
      auto result = redis::Client::check(std::move(results[i]));
      if (!result) return tl::unexpected(result.error());
      const FundRequest& r = *told[i];
      if (result->is_text("LOST")) report_lost(r);
      if (result->is_integer() && result->integer > r.funded)
        totals.push_back({r.tenant, r.bucket, r.epoch, result->integer});
    }
    if (totals.empty()) return {};
    auto done = store.acknowledged(totals);
    ledger::fault_point("funder.after_acknowledged");
    return done;
  }

  void report_lost(const FundRequest& request) {
    ++counters.lost;
    log::warn("Redis has forgotten what it had acknowledged",
              {{"shard", request.shard}, {"epoch", request.epoch}, {"bucket", request.bucket}});
    keeper.lost(request.shard, request.epoch);
  }
};

Funder::Funder(Env& env, FunderOptions options, EpochKeeper& keeper)
    : env_(env), options_(std::move(options)), keeper_(keeper), standing_(env) {}
Funder::~Funder() { stop(); }

void Funder::start() {
  if (thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    worker_ = std::make_unique<Worker>(env_, options_, counters_, keeper_);
  }
  thread_ = std::thread([this] { run(); });
}

void Funder::stop() {
  if (!thread_.joinable()) return;
  worker_->stopping = true;
  worker_->loop.post([] {});
  thread_.join();
  std::lock_guard lock(mutex_);
  worker_.reset();
}

void Funder::kick(std::string_view tenant) {
  std::lock_guard lock(mutex_);
  if (kicked_.size() >= kMaxPending) return;  // the scan comes by
  kicked_.emplace_back(tenant);
  if (worker_) worker_->loop.post([] {});
}

void Funder::run() {
  Worker& worker = *worker_;
  worker.wants.start();
  int64_t next_scan_ms = env_.mono_ms();
  while (!worker.stopping) {
    if (!options_.is_leader()) {
      standing_.rests();
      worker.pending.clear();
      worker.loop.run_once(kFollowerInterval_ms);
      continue;
    }
    worker.loop.run_once(std::clamp<int64_t>(next_scan_ms - env_.mono_ms(), 0, options_.scan_interval_ms));
    std::vector<std::string> kicked;
    {
      std::lock_guard lock(mutex_);
      kicked.swap(kicked_);
    }
    std::vector<Member> asked(worker.pending.begin(), worker.pending.end());
    worker.pending.clear();
    Result<void> done = worker.fund_all(asked, Pick::kAll);
    if (done && !kicked.empty()) done = worker.fund_tenants(kicked);
    if (done && env_.mono_ms() >= next_scan_ms) {
      next_scan_ms = env_.mono_ms() + options_.scan_interval_ms;
      done = worker.scan();
    }
    done ? standing_.succeeded() : standing_.failed(done.error().message);
    if (done) continue;
    ++counters_.failures;
    static log::Throttle throttle(10);
    log::warn(throttle, "buckets cannot be funded", {{"error", done.error().message}});
    next_scan_ms = env_.mono_ms() + kBackoff_ms;  // what was asked meanwhile is found by the scan
    worker.loop.run_once(kBackoff_ms);
  }
  worker.wants.stop();
}

}  // namespace tallygate::escrow
