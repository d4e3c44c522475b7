#include "sidecar/escrow/escrow.h"

#include <algorithm>
#include <optional>

#include "core/counting.h"
#include "core/money.h"
#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/scripts.h"
#include "core/telemetry/log.h"

namespace tallygate::sidecar {

namespace rc = redis_contract;

namespace {

constexpr int64_t kTickMs = 20;
constexpr int64_t kStalledMs = 2000;  // how long it is told of after it was last seen
constexpr size_t kReplyHead = 8;      // of lease.lua's reply, before the buckets
constexpr int64_t kClaimNs = 900'000'000;
constexpr int64_t kBehindNs = 3'000'000'000;  // what is told with each heartbeat holds for so long
constexpr int64_t kForgetAfterS = 60;         // whoever may still settle against a purse is among its users

std::string two_digits(int n) { return {static_cast<char>('0' + n / 10), static_cast<char>('0' + n % 10)}; }

}  // namespace

Escrow::Escrow(EventLoop& loop, redis::Connection& redis, UsageLog& log, EscrowOptions options, LedgerLeases* ledger)
    : loop_(loop), redis_(redis), log_(log), options_(options), ledger_(ledger) {}

Escrow::~Escrow() {
  *alive_ = false;
  loop_.cancel(timer_);
}

void Escrow::start() { tick(); }

void Escrow::tick() {
  timer_ = loop_.after_ms(kTickMs, [this] { tick(); });
  const int64_t now_ns = loop_.now_ns();
  std::erase_if(awake_, [this, now_ns](Purse* purse) { return !(purse->awake = tend(*purse, now_ns)); });
  for (int n = 0; n < rc::kShards; ++n) {
    Shard& s = shards_[static_cast<size_t>(n)];
    const int64_t every_ms = s.epoch == 0 ? 100 : options_.heartbeat_ms;
    if (s.used && now_ns - std::max(s.last_beat_ns, s.last_reply_ns) > every_ms * 1'000'000) beat(n);
  }
  // The ledger's time is learned at once, and kept where nothing else is asked.
  const int64_t time_ms = time_heard_ns_ == 0 ? 100 : options_.heartbeat_ms;
  if (now_ns - std::max(time_heard_ns_, shards_[0].last_beat_ns) > time_ms * 1'000'000) beat(0);
  if (now_ns - forgot_ns_ > options_.forget_every_ms * 1'000'000) {
    forgot_ns_ = now_ns;
    forget_ended(loop_.env().wall_s());
  }
}

// What time brings to a purse. False: nothing, until it is woken.
bool Escrow::tend(Purse& purse, int64_t now_ns) {
  const bool spends = now_ns - purse.last_spend_ns < options_.horizon_ms * 1'000'000;
  if (purse.needed > 0 && overdue(purse)) {
    note_stalled(purse);
    ask_ledger(purse);
  }
  if (purse.asking || now_ns < purse.ask_after_ns) return true;
  if (purse.needed > 0) {
    send(purse);
  } else if (purse.available() > 0 && now_ns - std::max(purse.last_spend_ns, purse.last_grant_ns) > idle_ns(purse)) {
    purse.target = options_.target_min;
    give_back(purse, purse.available());
  } else if (const int64_t units = too_many(purse, now_ns); units > 0) {
    give_back(purse, units);
  } else if (purse.returned > purse.returned_known) {
    send_return(purse);  // its answer was lost
  } else if (purse.lent_returned > purse.lent_returned_known || purse.lent_unknown) {
    ask_ledger(purse);  // likewise
  } else if (purse.refill_after_ns != 0 && purse.available() * 2 < purse.target && spends) {
    refill(purse);  // was put off
  } else if (untold(purse) && now_ns - purse.last_spend_ns > idle_ns(purse)) {
    send_return(purse);
  }
  return spends || untold(purse) || purse.asking || purse.asking_ledger || purse.needed > 0 || purse.available() > 0 ||
         purse.returned > purse.returned_known || purse.lent_returned > purse.lent_returned_known || purse.lent_unknown;
}

// Others are still told that units lie here, and there are none.
bool Escrow::untold(const Purse& purse) const {
  return purse.available() == 0 && purse.spent_told != purse.spent_of_redis() && leasing_ && redis_.connected();
}

void Escrow::wake(Purse& purse) {
  if (!std::exchange(purse.awake, true)) awake_.push_back(&purse);
}

// What a purse holds beyond what its traffic needs, after a burst: it goes back as idle units do, sooner where others
// have little. Looked at only where no grant has just done so; the target falls by halves, so several times after a
// burst.
int64_t Escrow::too_many(Purse& purse, int64_t now_ns) {
  if (purse.available() <= options_.target_min || now_ns - purse.sampled_ns <= idle_ns(purse)) return 0;
  measure(purse);
  return std::max<int64_t>(0, purse.available() - purse.target);
}

// Idle units go back sooner where little is left for others.
int64_t Escrow::idle_ns(const Purse& purse) const {
  const bool scarce = purse.elsewhere < 8 * purse.available();
  return (scarce ? options_.idle_return_scarce_ms : options_.idle_return_ms) * 1'000'000;
}

void Escrow::forget_ended(int64_t now_s) {
  std::erase_if(purses_, [&](const auto& entry) {
    Purse& p = *entry.second;
    const bool ended = now_s > p.end_s + kForgetAfterS;
    // Of a clock that was wrong: what it holds goes back first, as of any purse that nobody uses. A lease of the
    // ledger's, once settled, could not be had again when the window begins.
    const bool early = now_s < p.start_s - kForgetAfterS && p.available() == 0 && p.returned == p.returned_known &&
                       p.lent == 0 && !p.lent_unknown;
    // A call under way is among the users.
    const bool over = p.end_s != 0 && (ended || early) && p.waiting.empty() && p.users == 0;
    if (over) settle_lease(p);
    // That a window is over says a clock, and a clock may be set back.
    int64_t& until_s = shards_[static_cast<size_t>(p.shard)].forgotten_until_s;
    if (over && p.granted > 0) until_s = std::max(until_s, p.end_s);
    if (over) std::erase(by_tenant_[p.tenant], &p);
    if (over && p.awake) std::erase(awake_, &p);
    return over;
  });
  std::erase_if(by_tenant_, [](const auto& entry) { return entry.second.empty(); });
}

Purse* Escrow::purse(const std::string& tenant, const std::string& bucket, int64_t end_s, int64_t mint, bool again) {
  std::string member = rc::member(tenant, bucket);
  auto& slot = purses_[member];
  if (!slot) {
    slot = std::make_unique<Purse>();
    slot->tenant = tenant;
    slot->bucket = bucket;
    slot->member = std::move(member);
    slot->shard = rc::shard_of(tenant);
    slot->end_s = end_s;
    const auto id = rc::BucketId::parse(bucket);
    slot->redis_only = id && id->redis_only();
    if (id) slot->start_s = id->start_s;
    slot->target = options_.target_min;
    slot->epoch = epoch(slot->shard);
    slot->unsure = end_s != 0 && end_s <= shards_[static_cast<size_t>(slot->shard)].forgotten_until_s;
    by_tenant_[tenant].push_back(slot.get());
  }
  slot->mint = mint;
  slot->again = again;
  return slot.get();
}

int64_t Escrow::epoch(int number) {
  Shard& s = shards_[static_cast<size_t>(number)];
  if (!s.used) {
    s.used = true;
    beat(number);
  }
  return s.epoch;
}

void Escrow::note_stalled(const Purse& purse) {
  if (!redis_.connected()) return;  // everybody knows
  const Shard& s = shards_[static_cast<size_t>(purse.shard)];
  stalled_ = !refusal_.empty() ? refusal_
             : s.epoch == 0 && s.last_reply_ns != 0
                 ? "no epoch is open there: is an operator running, and does one lead?"
                 : "it does not answer";
  stalled_until_ns_ = loop_.now_ns() + kStalledMs * 1'000'000;
}

void Escrow::need(Purse& purse, int64_t units) {
  // Whoever needed some then has been answered, and has left.
  const bool forgotten = purse.needed == 0 && loop_.now_ns() - purse.asked_ns > kStalledMs * 1'000'000;
  if (purse.unmet_ns == 0 || forgotten) purse.unmet_ns = loop_.now_ns();
  purse.needed = purse.needed == 0 ? units : std::min(purse.needed, units);
  purse.wanted = std::min(purse.wanted + units, kMaxInteger);
  wake(purse);
  if (!purse.asking && loop_.now_ns() >= purse.ask_after_ns) send(purse);
}

void Escrow::refill(Purse& purse) {
  if (!purse.asking && loop_.now_ns() >= std::max(purse.ask_after_ns, purse.refill_after_ns)) send(purse);
}

void Escrow::release(Purse& purse, int64_t epoch, int64_t units) {
  if (purse.epoch != epoch || epoch == 0) return;
  purse.spent -= units;
  wake(purse);
  if (!purse.waiting.empty()) on_change_(purse);
}

void Escrow::reconsider(const std::string& tenant) {
  const auto found = by_tenant_.find(tenant);
  if (found == by_tenant_.end()) return;
  for (Purse* purse : found->second) {
    purse->state = PurseState::kFunding;
    purse->ask_after_ns = purse->refill_after_ns = purse->ledger_after_ns = 0;
    purse->backoff_ms = 0;
    on_change_(*purse);
  }
}

std::vector<std::string> Escrow::lease_keys(int shard, int64_t epoch, const std::string& incarnation) const {
  return {rc::epoch_key(shard),         rc::registered_key(shard, epoch),
          rc::closed_key(shard, epoch), rc::want_key(shard, epoch),
          rc::watermark_key(shard),     rc::held_key(shard, epoch, incarnation),
          rc::minted_key(shard, epoch), rc::heard_key(shard),
          rc::ledger_key(shard)};
}

std::vector<std::string> Escrow::lease_args(int shard, int64_t epoch, const std::string& incarnation) const {
  return {std::to_string(epoch), incarnation, std::to_string(loop_.env().wall_ms()), rc::want_channel(),
          two_digits(shard),     known_.id,   std::to_string(known_.generation),     std::to_string(known_.mark)};
}

void Escrow::send(Purse& purse) {
  if (!leasing_) return;
  if (!redis_.connected()) return ask_ledger(purse);
  if (overdue(purse)) ask_ledger(purse);  // and Redis too: the first answer serves
  const int64_t epoch = shards_[static_cast<size_t>(purse.shard)].epoch;
  if (epoch == 0) return;  // the heartbeat finds out; its answer asks again
  if (purse.epoch != epoch) adopt(purse, epoch);
  const int64_t lack = purse.unsure ? 0 : std::max<int64_t>(0, purse.needed - purse.available());
  const int64_t least = purse.granted + lack;
  // At most a quarter of what is left in all, so that no pod sits on a quota that others need.
  const int64_t fair = purse.told ? std::min(purse.target, purse.remaining() / 4) : purse.target;
  const int64_t more = purse.unsure ? 0 : std::max(purse.wanted, fair) - purse.available();
  const int64_t best = purse.granted + std::max<int64_t>(0, more);
  auto keys = lease_keys(purse.shard, epoch, log_.incarnation());
  keys.push_back(rc::bucket_key(purse.shard, epoch, purse.tenant, purse.bucket));
  auto args = lease_args(purse.shard, epoch, log_.incarnation());
  for (const int64_t n : {least, best, purse.returned, purse.mint}) args.push_back(std::to_string(n));
  args.push_back(purse.member);
  purse.spent_told = purse.spent_of_redis();
  args.push_back(std::to_string(purse.spent_told));
  args.push_back(purse.again ? "1" : "0");
  purse.asking = true;
  purse.asked_ns = loop_.now_ns();
  ++purse.users;
  count(counters_.leases);
  redis_.eval(rc::kLease, std::move(keys), std::move(args),
              [this, alive = alive_, &purse, epoch, returned = purse.returned, lack](Result<redis::Reply> reply) {
                if (*alive) answered(purse, epoch, returned, lack, std::move(reply));
              });
}

void Escrow::retry_later(Purse& purse, int64_t max_ms) {
  purse.backoff_ms = std::min(max_ms, purse.backoff_ms == 0 ? 2 : purse.backoff_ms * 2);
  purse.ask_after_ns = loop_.now_ns() + purse.backoff_ms * 1'000'000;
}

void Escrow::answered(Purse& purse, int64_t epoch, int64_t returned, int64_t lack, Result<redis::Reply> reply) {
  purse.asking = false;
  wake(purse);
  purse.needed = purse.wanted = 0;  // whoever still waits is asked again, and says so again
  --purse.users;
  if (!reply || !reply->is_array() || reply->elements.size() < kReplyHead) {
    count(counters_.errors);
    if (reply) refused(*reply);
    if (redis_.connected()) retry_later(purse, 200);  // else the ledger is asked, at once
    return on_change_(purse);
  }
  const auto& e = reply->elements;
  hear_time(e[3], purse.asked_ns);
  hear(purse.shard, *reply);
  if (purse.epoch != epoch) return on_change_(purse);  // a late answer of an epoch that is over (rule 7)
  refusal_.clear();
  if (e[0].is_text("GRANT") && e.size() == kReplyHead + 1) {
    purse.unmet_ns = 0;
    granted(purse, e[kReplyHead], returned);
  } else if (e[0].is_text("DRY") || e[0].is_text("WAIT")) {
    const bool dry = e[0].is_text("DRY");
    if (dry)
      purse.unmet_ns = 0;
    else
      refusal_ = "nobody funds its buckets: is an operator running, and does one lead?";
    count(dry ? counters_.dry : counters_.wait);
    if (e.size() == kReplyHead + 1 && e[kReplyHead].elements.size() == 6) {
      purse.elsewhere = e[kReplyHead].elements[1].to_integer();
      purse.lying = e[kReplyHead].elements[5].to_integer();
      purse.told = true;
    }
    purse.state = dry ? PurseState::kDry : PurseState::kFunding;
    if (dry) {
      purse.dry_lack = lack;
      purse.dry_until_ns = purse.refill_after_ns = loop_.now_ns() + options_.dry_recheck_ms * 1'000'000;
    } else {
      retry_later(purse, 50);
    }
  } else if (e[0].is_text("LOST")) {
    count(counters_.lost);
    purse.unmet_ns = 0;
    purse.state = PurseState::kLost;
    retry_later(purse, 1000);
  } else if (e[0].is_text("CLOCK")) {
    // The same answer has set the clock right; what waits is asked again, for the window that is now.
    count(counters_.clock_refused);
    refusal_ = "this sidecar's clock was off, or its calls take seconds";
    retry_later(purse, 50);
  } else if (e[0].is_text("REG")) {
    count(counters_.not_registered);
    refusal_ = "this sidecar is not registered: is an operator running, and does one lead?";
    retry_later(purse, 100);
  } else {
    refusal_ = "it is a replica, or has lost its data, and no operator has opened an epoch there";
    retry_later(purse, 100);
  }
  on_change_(purse);
}

// An error, such as those of a server out of memory or of a replica.
void Escrow::refused(const redis::Reply& reply) {
  static log::Throttle throttle(10);
  refusal_ = "it answers: " + (reply.is_error() ? reply.text : std::string("nonsense"));
  log::warn(throttle, "Redis refuses to lease", {{"error", refusal_}, {"ledger", ledger_ != nullptr}});
}

// What a purse should hold: twice a horizon's worth of its traffic, since it is refilled at half.
void Escrow::measure(Purse& purse) {
  const int64_t now_ns = loop_.now_ns();
  const int64_t elapsed_ns = now_ns - purse.sampled_ns;
  if (purse.sampled_ns != 0 && elapsed_ns < 10'000'000) return;  // too short to tell
  if (purse.sampled_ns != 0) {
    const int64_t spent = std::max<int64_t>(0, purse.spent - purse.sampled_spent);
    const auto wanted =
        static_cast<int64_t>(static_cast<__int128>(spent) * 2 * options_.horizon_ms * 1'000'000 / elapsed_ns);
    // Up at once, down by halves: a pause is not the end of the traffic.
    purse.target = std::clamp(std::max(wanted, purse.target / 2), options_.target_min, options_.target_max);
  }
  purse.sampled_ns = now_ns;
  purse.sampled_spent = purse.spent;
}

// A purse that is here again: what it had been granted before, and had not given back, counts as spent.
void Escrow::remember(Purse& purse, const redis::Reply& bucket) {
  purse.unsure = false;
  purse.granted = bucket.elements[0].to_integer();
  purse.returned = purse.returned_known = bucket.elements[4].to_integer();
  purse.spent += purse.granted - purse.returned;
}

void Escrow::granted(Purse& purse, const redis::Reply& bucket, int64_t returned) {
  if (bucket.elements.size() != 6) return;
  if (purse.unsure) return remember(purse, bucket);
  purse.returned_known = std::max(purse.returned_known, returned);
  measure(purse);
  const int64_t total = bucket.elements[0].to_integer();
  const int64_t now_ns = loop_.now_ns();
  if (total > purse.granted) {
    count(counters_.granted_units, total - purse.granted);
    purse.granted = total;
    purse.last_grant_ns = now_ns;
    purse.state = PurseState::kFunding;
    purse.backoff_ms = 0;
    purse.ask_after_ns = purse.refill_after_ns = 0;
  } else if (purse.returned == returned) {
    // Nothing to be had in the background. A request that lacks something need not wait for that.
    retry_later(purse, 100);
    purse.refill_after_ns = std::exchange(purse.ask_after_ns, 0);
  }
  purse.elsewhere = bucket.elements[1].to_integer();
  purse.lying = bucket.elements[5].to_integer();
  purse.told = true;
  if (purse.last_spend_ns == 0) purse.last_spend_ns = now_ns;
}

void Escrow::hear(int number, const redis::Reply& reply) {
  const auto at = [&reply](size_t i) { return reply.elements[i].to_integer(); };
  Shard& s = shards_[static_cast<size_t>(number)];
  const int64_t now_ns = s.last_reply_ns = loop_.now_ns();
  const LedgerMark told{reply.elements[7].text, at(4), at(5)};
  if (at(6) != 0) {
    // 2: it may also be Redis that has forgotten; then this is soon over.
    if (at(6) == 1) behind_until_ns_ = now_ns + kBehindNs;
    if (now_ns - s.claimed_ns > kClaimNs) {
      s.claimed_ns = now_ns;
      on_behind_(number);
    }
  }
  know(told);
  on_watermark_(number, told.generation, at(2));
  hear_epoch(number, at(1));
}

// A ledger that is another than the data folder knew: what was known of that one says nothing of it.
void Escrow::know(const LedgerMark& mark) {
  if (mark.id.empty()) return;
  if (known_.id == mark.id && !known_.is_before(mark)) return;
  if (!known_.id.empty() && known_.id != mark.id) {
    log::warn("Redis serves another ledger than this data folder has known: what was known of that one counts no more",
              {{"ledger", mark.id}, {"before", known_.id}});
  }
  known_ = mark;
}

void Escrow::add_leased(Spent* totals) const {
  for (const auto& [member, purse] : purses_) {
    if (purse->epoch > 0 && purse->available() > 0)
      add_saturating(&(*totals)[{purse->epoch, member}], purse->available());
  }
}

void Escrow::hear_epoch(int number, int64_t epoch) {
  Shard& s = shards_[static_cast<size_t>(number)];
  if (epoch <= s.epoch) return;  // never back; 0 says that none is in force just now
  const bool change = s.epoch != 0;
  s.epoch = epoch;
  s.forgotten_until_s = 0;
  if (change) count(counters_.epoch_changes);
  for (auto& [member, purse] : purses_) {
    if (purse->shard != number) continue;
    adopt(*purse, epoch);
    on_change_(*purse);
  }
  on_epoch_(number, epoch);
}

// A newer epoch: older units are not spent any more, and nothing is known of the new bucket (rule 7).
void Escrow::adopt(Purse& purse, int64_t epoch) {
  if (purse.epoch == epoch) return;
  settle_lease(purse);
  purse.epoch = epoch;
  purse.unsure = false;
  purse.granted = purse.returned = purse.returned_known = purse.spent = purse.sampled_spent = 0;
  purse.lent = purse.lent_returned = purse.lent_returned_known = 0;
  purse.lent_unknown = false;
  purse.elsewhere = purse.lying = purse.spent_told = 0;
  purse.told = false;
  purse.state = PurseState::kFunding;
  purse.ask_after_ns = purse.refill_after_ns = purse.ledger_after_ns = purse.unmet_ns = 0;
  purse.backoff_ms = 0;
}

// To the ledger first, as far as it has lent: there they can be had again by everybody, whether Redis is there or not.
void Escrow::give_back(Purse& purse, int64_t units) {
  if (!leasing_ || purse.epoch != shards_[static_cast<size_t>(purse.shard)].epoch) return;
  if (const int64_t owed = std::min(units, purse.owed_to_ledger()); owed > 0) {
    purse.lent_returned += owed;
    count(ledger_->counters().returned_units, owed);
    return ask_ledger(purse);
  }
  if (!redis_.connected()) return;
  purse.returned += units;
  count(counters_.returned_units, units);
  send_return(purse);
}

void Escrow::send_return(Purse& purse) {
  const int64_t target = std::exchange(purse.target, 0);  // this call asks for nothing
  send(purse);
  purse.target = target;
}

// 0: a server that acts under no epoch knows nothing of the ledger's time.
void Escrow::hear_time(const redis::Reply& ledger_ms, int64_t sent_ns) {
  const int64_t ms = ledger_ms.to_integer(0);
  if (ms == 0) return;
  time_heard_ns_ = loop_.env().mono_ns();
  on_time_(ms * 1'000'000, sent_ns, time_heard_ns_);
}

void Escrow::beat(int number) {
  Shard& s = shards_[static_cast<size_t>(number)];
  if (s.beating || !redis_.connected()) return;
  s.beating = true;
  s.last_beat_ns = loop_.now_ns();
  redis_.eval(rc::kLease, lease_keys(number, s.epoch, log_.incarnation()),
              lease_args(number, s.epoch, log_.incarnation()),
              [this, alive = alive_, number](Result<redis::Reply> reply) {
                if (!*alive) return;
                Shard& shard = shards_[static_cast<size_t>(number)];
                shard.beating = false;
                if (!reply || !reply->is_array() || reply->elements.size() < kReplyHead) return;
                hear_time(reply->elements[3], shard.last_beat_ns);
                hear(number, *reply);
              });
}

// Not by a heartbeat: that would be a sign of life. The generation first: a watermark of a later one than it is too
// low, and heard again under its own.
void Escrow::ask_watermark(int number, const std::string& incarnation, std::function<void(int64_t, int64_t)> fn) {
  auto generation = std::make_shared<std::optional<int64_t>>();
  redis_.call({"HGET", rc::ledger_key(number), "gen"}, [generation](Result<redis::Reply> reply) {
    if (reply && !reply->is_error()) *generation = reply->to_integer(0);
  });
  redis_.call({"HGET", rc::watermark_key(number), incarnation},
              [fn = std::move(fn), generation, alive = alive_](Result<redis::Reply> reply) {
                if (*alive && *generation && reply && !reply->is_error()) fn(**generation, reply->to_integer(0));
              });
}

}  // namespace tallygate::sidecar
