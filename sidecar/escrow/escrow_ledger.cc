// The half of Escrow that leases from the ledger.
#include <algorithm>

#include "core/counting.h"
#include "core/money.h"
#include "sidecar/escrow/escrow.h"

namespace tallygate::sidecar {

bool Escrow::may_ask_ledger(const Purse& purse) const {
  return ledger_ != nullptr && leasing_ && !purse.redis_only && shards_[static_cast<size_t>(purse.shard)].epoch != 0 &&
         (purse.asking_ledger || (ledger_->usable() && loop_.now_ns() >= purse.ledger_after_ns));
}

void Escrow::ask_ledger(Purse& purse) {
  if (purse.asking_ledger || !may_ask_ledger(purse)) return;
  const int64_t epoch = shards_[static_cast<size_t>(purse.shard)].epoch;
  if (purse.epoch != epoch) adopt(purse, epoch);
  const int64_t lack = std::max<int64_t>(0, purse.needed - purse.available());
  LeaseRequest::Bucket bucket;
  bucket.least = purse.lent + lack;
  // What only comes back, or is only to be known, asks for nothing.
  const bool wants = purse.needed > 0 || (purse.lent_returned == purse.lent_returned_known && !purse.lent_unknown);
  bucket.best = wants ? std::max(bucket.least, purse.lent + std::max(purse.wanted, purse.target) - purse.available())
                      : bucket.least;
  bucket.best = std::min(bucket.best, kMaxInteger);
  bucket.returned = purse.lent_returned;
  purse.asking_ledger = true;
  ++purse.users;
  wake(purse);
  ledger_->ask(purse.member, epoch, bucket,
               [this, alive = alive_, &purse, bucket, epoch, lack](Result<LeaseAnswer> answer) {
                 if (*alive) ledger_answered(purse, bucket, epoch, lack, std::move(answer));
               });
}

void Escrow::ledger_answered(Purse& purse, const LeaseRequest::Bucket& asked, int64_t epoch, int64_t lack,
                             Result<LeaseAnswer> answer) {
  purse.asking_ledger = false;
  --purse.users;
  wake(purse);
  purse.needed = purse.wanted = 0;  // whoever still waits is asked again, and says so again
  const int64_t pause_until_ns = loop_.now_ns() + options_.ledger_pause_ms * 1'000'000;
  purse.lent_unknown = answer ? false : purse.lent_unknown || answer.error().errc == Errc::kTimeout;
  if (!answer) {
    purse.ledger_after_ns = pause_until_ns;
    return on_change_(purse);
  }
  hear_epoch(purse.shard, answer->epoch);
  if (purse.epoch != epoch) return on_change_(purse);  // a late answer of an epoch that is over (rule 7)
  if (!answer->buckets.empty()) lent(purse, answer->buckets[0], asked.returned);
  LedgerCounters& counters = ledger_->counters();
  if (answer->status == LeaseStatus::kGrant) {
    purse.ledger_after_ns = 0;
  } else if (answer->status == LeaseStatus::kDry) {
    count(counters.dry);
    purse.state = PurseState::kDry;
    purse.dry_lack = lack;
    purse.dry_until_ns = purse.refill_after_ns = loop_.now_ns() + options_.dry_recheck_ms * 1'000'000;
  } else {
    // Nothing that time alone would bring: what is missing may be in Redis (kWait), or this incarnation gets nothing.
    count(answer->status == LeaseStatus::kWait ? counters.wait : counters.refused);
    purse.ledger_after_ns = pause_until_ns;
  }
  on_change_(purse);
}

// Totals only grow: a late answer's are old.
void Escrow::lent(Purse& purse, const LeaseAnswer::Bucket& bucket, int64_t returned) {
  measure(purse);
  purse.lent_returned_known = std::max(purse.lent_returned_known, std::min(returned, bucket.returned));
  purse.elsewhere = bucket.remaining;
  purse.lying = 0;  // it does not say
  purse.told = true;
  const int64_t now_ns = loop_.now_ns();
  if (bucket.granted > purse.lent) {
    count(ledger_->counters().granted_units, bucket.granted - purse.lent);
    purse.lent = bucket.granted;
    purse.last_grant_ns = now_ns;
    purse.state = PurseState::kFunding;
    purse.refill_after_ns = 0;
  } else {
    purse.refill_after_ns = now_ns + 100'000'000;  // nothing to be had in the background
  }
  if (purse.last_spend_ns == 0) purse.last_spend_ns = now_ns;
}

// An epoch is over for this purse: what the ledger lent under it is settled there, so that only what was spent stays on
// hold. Nothing more is spent of it, and what is in flight counts in full.
void Escrow::settle_lease(const Purse& purse) {
  if (ledger_ == nullptr || !ledger_->noted(purse.epoch, purse.member)) return;
  ledger_->close(log_.incarnation(), {purse.epoch, purse.member}, purse.spent, [](int64_t) {});
}

}  // namespace tallygate::sidecar
