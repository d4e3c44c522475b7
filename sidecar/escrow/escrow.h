// Leases units into purses, returns idle ones, follows epochs and watermarks. Where Redis has not granted within the
// patience what a request needs, for whatever reason (it is away, silent, out of memory, a replica, or nobody funds),
// the ledger is asked (escrow_ledger.cc): its units are spent and given back like Redis's, in totals of their own.
//
// Threading: the event loop's thread only. The connection, the log and the ledger's leases outlive it.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/io/event_loop.h"
#include "core/redis_client/connection.h"
#include "core/redis_contract/keys.h"
#include "sidecar/escrow/known_ledger.h"
#include "sidecar/escrow/ledger_leases.h"
#include "sidecar/escrow/purse.h"
#include "sidecar/log/usage_log.h"

namespace tallygate::sidecar {

struct EscrowOptions {
  int64_t horizon_ms = 200;  // a refill should last about so long
  int64_t target_min = 16;
  int64_t target_max = 65'536;
  int64_t idle_return_ms = 1500;        // unspent units of a purse that nobody used for so long go back
  int64_t idle_return_scarce_ms = 300;  // the same, where others have little else to lease
  int64_t heartbeat_ms = 1000;
  int64_t forget_every_ms = 60'000;  // purses of windows that are long over, or not for long
  int64_t dry_recheck_ms = 250;
  int64_t redis_patience_ms = 200;  // requests wait for Redis alone for so long, then the ledger is asked too
  int64_t ledger_pause_ms = 500;    // after an answer of the ledger's that brings nothing
};

struct EscrowCounters {
  std::atomic<uint64_t> leases{0}, granted_units{0}, returned_units{0}, dry{0}, wait{0}, epoch_changes{0},
      not_registered{0}, errors{0}, clock_refused{0}, lost{0};
};

class Escrow {
 public:
  // What the operator-side epoch of a shard looks like from here.
  struct Shard {
    bool used = false;
    int64_t epoch = 0;
    int64_t last_reply_ns = 0;
    int64_t last_beat_ns = 0;
    int64_t forgotten_until_s = 0;  // under `epoch`: of windows that end later, no purse with grants was forgotten
    int64_t claimed_ns = 0;         // on_behind was last called
    bool beating = false;
  };

  // Without `ledger` there is nothing but Redis.
  Escrow(EventLoop& loop, redis::Connection& redis, UsageLog& log, EscrowOptions options = {},
         LedgerLeases* ledger = nullptr);
  ~Escrow();

  void start();
  // No more leases from now on; heartbeats go on.
  void stop_leasing() { leasing_ = false; }

  // The purse of a bucket; made on first use. Stays valid while `keep` says so, at least until its window has ended.
  Purse* purse(const std::string& tenant, const std::string& bucket, int64_t end_s, int64_t mint, bool again = false);
  // Makes the shard's epoch known, soon. 0: not known yet.
  int64_t epoch(int shard);

  // After units were taken: asks for more in the background once half of the target is gone.
  void spent_from(Purse& purse) {
    purse.last_spend_ns = loop_.now_ns();
    if (purse.available() * 2 < purse.target && !purse.asking) [[unlikely]]
      refill(purse);
  }
  // A request needs `units` and the purse has fewer: asks at once, unless an answer is due anyway.
  void need(Purse& purse, int64_t units);
  // Whether the ledger is known to have fewer than `units`; with `fresh`, known from just now. Old news are no ground
  // to deny where new ones can be had: a wallet may have been topped up while nobody asked.
  bool exhausted(const Purse& purse, int64_t units, bool fresh) const {
    return purse.state == PurseState::kDry && units - purse.available() >= purse.dry_lack &&
           (!fresh || loop_.now_ns() < purse.dry_until_ns);
  }
  // Units that were spent under `epoch` are not owed after all; whoever waits for some may have them.
  void release(Purse& purse, int64_t epoch, int64_t units);
  // The tenant's limits changed, or something came back: dry is not certain any more.
  void reconsider(const std::string& tenant);

  // Called whenever a purse's outlook changed: tickets in purse.waiting may be asked again.
  void on_change(std::function<void(Purse&)> fn) { on_change_ = std::move(fn); }
  // Called with (ns since the Unix epoch, sent, received) from every reply that tells the ledger's time; the last two
  // by the monotonic clock.
  void on_time(std::function<void(int64_t, int64_t, int64_t)> fn) { on_time_ = std::move(fn); }
  // Called with (shard, generation, watermark) from every reply that carries one. A watermark of a newer generation of
  // the ledger may be lower than one before.
  void on_watermark(std::function<void(int, int64_t, int64_t)> fn) { on_watermark_ = std::move(fn); }
  // The ledger is known to have gone back: what is known here is to be told. Once a second for each shard.
  void on_behind(std::function<void(int)> fn) { on_behind_ = std::move(fn); }
  bool ledger_behind() const { return loop_.now_ns() < behind_until_ns_; }
  // How far the ledger is known to have been; know() before start().
  const LedgerMark& ledger() const { return known_; }
  void know(const LedgerMark& mark);
  // Adds what is on lease and not spent.
  void add_leased(Spent* totals) const;
  // A shard's epoch has become another.
  void on_epoch(std::function<void(int, int64_t)> fn) { on_epoch_ = std::move(fn); }

  // For a predecessor: its watermark, and the ledger's generation that it belongs to.
  void ask_watermark(int shard, const std::string& incarnation,
                     std::function<void(int64_t generation, int64_t watermark)> fn);
  void beat(int shard);

  const Shard& shard(int number) const { return shards_[static_cast<size_t>(number)]; }
  bool connected() const { return redis_.connected(); }
  // Whether units of this purse may come soon: from Redis, else from the ledger.
  bool may_lease(const Purse& purse) const { return redis_.connected() || may_ask_ledger(purse); }
  // The ledger is there, as far as is known, and has not said just now that it has nothing.
  bool may_ask_ledger(const Purse& purse) const;
  // For units where the purse needs some, else only for news of its tenant.
  void ask_ledger(Purse& purse);
  // Why Redis, though connected, has lately granted nothing to those who need units; empty: it has, or nobody does.
  std::string stalled() const { return loop_.now_ns() < stalled_until_ns_ ? stalled_ : std::string(); }
  size_t purses() const { return purses_.size(); }
  const EscrowCounters& counters() const { return counters_; }

 private:
  void tick();
  bool overdue(const Purse& purse) const {
    return purse.unmet_ns != 0 && loop_.now_ns() - purse.unmet_ns > options_.redis_patience_ms * 1'000'000;
  }
  void note_stalled(const Purse& purse);
  void refused(const redis::Reply& reply);
  void refill(Purse& purse);
  void wake(Purse& purse);
  bool untold(const Purse& purse) const;
  bool tend(Purse& purse, int64_t now_ns);
  void send(Purse& purse);
  void answered(Purse& purse, int64_t epoch, int64_t returned, int64_t lack, Result<redis::Reply> reply);
  void measure(Purse& purse);
  int64_t idle_ns(const Purse& purse) const;
  void granted(Purse& purse, const redis::Reply& bucket, int64_t returned);
  void remember(Purse& purse, const redis::Reply& bucket);
  // Of any reply of lease.lua: what it says beside the buckets.
  void hear(int shard, const redis::Reply& reply);
  void hear_epoch(int shard, int64_t epoch);
  void hear_time(const redis::Reply& ledger_ms, int64_t sent_ns);
  void adopt(Purse& purse, int64_t epoch);
  int64_t too_many(Purse& purse, int64_t now_ns);
  void give_back(Purse& purse, int64_t units);
  void send_return(Purse& purse);
  void retry_later(Purse& purse, int64_t max_ms);
  void forget_ended(int64_t now_s);
  void ledger_answered(Purse& purse, const LeaseRequest::Bucket& asked, int64_t epoch, int64_t lack,
                       Result<LeaseAnswer> answer);
  void lent(Purse& purse, const LeaseAnswer::Bucket& bucket, int64_t returned);
  void settle_lease(const Purse& purse);
  std::vector<std::string> lease_keys(int shard, int64_t epoch, const std::string& incarnation) const;
  std::vector<std::string> lease_args(int shard, int64_t epoch, const std::string& incarnation) const;

  EventLoop& loop_;
  redis::Connection& redis_;
  UsageLog& log_;
  EscrowOptions options_;
  LedgerLeases* ledger_;
  bool leasing_ = true;
  std::array<Shard, redis_contract::kShards> shards_{};
  std::unordered_map<std::string, std::unique_ptr<Purse>> purses_;  // by member
  std::vector<Purse*> awake_;  // with units, debts or wishes: of thousands of tenants few are active at a time
  std::unordered_map<std::string, std::vector<Purse*>> by_tenant_;
  std::function<void(Purse&)> on_change_ = [](Purse&) {};
  std::function<void(int, int64_t, int64_t)> on_watermark_ = [](int, int64_t, int64_t) {};
  std::function<void(int)> on_behind_ = [](int) {};
  LedgerMark known_;
  int64_t behind_until_ns_ = 0;
  std::function<void(int, int64_t)> on_epoch_ = [](int, int64_t) {};
  std::function<void(int64_t, int64_t, int64_t)> on_time_ = [](int64_t, int64_t, int64_t) {};
  EventLoop::TimerId timer_ = 0;
  int64_t forgot_ns_ = 0, time_heard_ns_ = 0;
  std::string refusal_;  // what Redis last answered in place of units
  std::string stalled_;
  int64_t stalled_until_ns_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  EscrowCounters counters_;
};

}  // namespace tallygate::sidecar
