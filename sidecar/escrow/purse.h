// This sidecar's units of one bucket under one epoch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace tallygate::sidecar {

enum class PurseState : uint8_t {
  kFunding,  // units may come: a request that finds none waits
  kDry,      // the ledger says exhausted: a request that finds none is denied
  kLost,     // what was used of this window is lost with a Redis, so that none is to be had until the next one begins
};

struct Purse {
  // Fixed.
  std::string tenant;
  std::string bucket;  // bucket id
  std::string member;  // "tenant|bucket"
  int shard = 0;
  bool redis_only = false;         // a window shorter than an hour: the ledger knows nothing of it
  int64_t mint = 0;                // Redis-only window: the units it starts with; else 0
  bool again = false;              // and starts with them again where what was used of it is lost
  int64_t start_s = 0, end_s = 0;  // the window's; 0: none (wallet)

  // Cumulative under `epoch`; starts from zero under a newer one.
  int64_t epoch = 0;
  bool unsure = false;  // one of this bucket was forgotten under `epoch`: Redis is asked first what it had granted
  int64_t granted = 0;
  int64_t returned = 0;
  int64_t returned_known = 0;  // of `returned`, what Redis has confirmed
  int64_t lent = 0;            // by the ledger, while Redis was away: totals of their own, for the two never meet
  int64_t lent_returned = 0;
  int64_t lent_returned_known = 0;  // of `lent_returned`, what the ledger has confirmed
  bool lent_unknown = false;        // an answer of the ledger's was lost: it may have lent more than `lent`
  int64_t spent_told = 0;           // of `spent`, as Redis was last told
  int64_t spent = 0;                // admitted and not released; an upper estimate while requests are in flight

  PurseState state = PurseState::kFunding;
  int64_t elsewhere = 0;  // what others than this purse could still get, as last told
  int64_t lying = 0;      // what other sidecars have leased and not spent, of late: some of it comes back soon
  bool told = false;      // both were told under this epoch
  int64_t allowed = 0;    // units admitted without a lease in this window, by this data folder

  // Asking. One call in flight per purse, to Redis and to the ledger each.
  bool asking = false;
  int64_t asked_ns = 0;  // Redis, the last time
  bool asking_ledger = false;
  int64_t ledger_after_ns = 0;  // the ledger is not asked before: it had nothing, or did not answer
  bool awake = false;           // among those that the clock looks after
  // Since the last answer: the least that a request needs which cannot go on (so that a fat one does not hold up thin
  // ones; it is asked for again, alone, once those are served), and what all of them need together.
  int64_t needed = 0;
  int64_t wanted = 0;
  int64_t unmet_ns = 0;         // since when Redis owes an answer to a request that needs units; 0: it does not
  int64_t ask_after_ns = 0;     // nothing is asked before
  int64_t refill_after_ns = 0;  // nor, where no request waits, before this
  int64_t dry_lack = 0;         // kDry: that many units, or more, could not be had
  int64_t dry_until_ns = 0;     // kDry: until then that is news enough to deny on
  int64_t backoff_ms = 0;
  int64_t target = 0;      // units to hold after a refill
  int64_t sampled_ns = 0;  // when and at what `spent` the rate was last measured
  int64_t sampled_spent = 0;
  int64_t last_spend_ns = 0;
  int64_t last_grant_ns = 0;
  int64_t users = 0;              // plans, requests and calls that refer to it
  std::vector<uint64_t> waiting;  // keys of tickets to resume on any change

  int64_t available() const { return granted - returned + lent - lent_returned - spent; }
  int64_t owed_to_ledger() const { return lent - lent_returned; }
  int64_t spent_of_redis() const { return std::max<int64_t>(0, spent - owed_to_ledger()); }
  // What may be leased of the whole bucket now, this purse's included, as far as is known here.
  int64_t remaining() const { return elsewhere + available(); }
  // What nobody has spent, as far as is known here: other sidecars' purses too.
  int64_t unspent() const { return remaining() + lying; }
};

}  // namespace tallygate::sidecar
