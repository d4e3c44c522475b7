// One active instance: whoever holds a lease in the ledger (migration 0045), judged by the ledger's clock. It is
// renewed five times in its life; the holder is leader only as long as this machine's monotonic clock says that the
// lease cannot have ended, counted from before the last renewal was sent. So a holder that was stopped, cut off or
// whose server is away is no leader by itself, within kHold_ms, and the next one leads within kLease_ms + kInterval_ms;
// a holder that ends in order releases the lease. (A virtual machine that its host suspends without a word counts no
// time: it is leader for up to kHold_ms after it wakes. The renewals do not wait for the disk: a ledger that crashes
// may know an older expiry.)
//
// Not needed for safety, so a moment with two leaders or none does no harm, and what a leader writes that slept through
// its successor's work does none either:
//   epoch keeper  numbers come from a compare-and-set in the ledger, `open` refuses all but a higher one, `register`
//                 all but the current one; the offset of Redis' clock that it tells was measured in good time
//   funder        the ledger's sums are under row locks; `fund` refuses another epoch and takes no lower total; what it
//                 tells of exhaustion is told anew with the next scan
//   pump          books the continuation of a watermark under its lock, acknowledges what is booked: twice is once
//   aggregator    one transaction; a record is aggregated once, by its own mark
//   submitter     claims end by themselves; an event's identifier is the same whoever sends it, and how often
//   publisher     terms are written under the row of its reign, and refused once another has begun one; documents in
//                 Redis that are not the last publication's are found at the next look, and published anew
//   housekeeper   statements that say themselves what is due
// What a stopped leader has locked in the ledger is free within kIdleInTransaction_ms (session.h).
#pragma once

#include <atomic>
#include <limits>
#include <memory>
#include <string>
#include <thread>

#include "core/ledger_clock.h"

namespace tallygate {
class EventLoop;
}

namespace tallygate::ledger {

class Leadership {
 public:
  static constexpr int64_t kInterval_ms = 400;  // between renewals, and between the looks of who stands by
  static constexpr int64_t kLease_ms = 2'500;
  static constexpr int64_t kHold_ms = 1'500;  // of it, what the holder counts on

  // `clock` learns the ledger's time from each answer. It outlives this.
  Leadership(LedgerClock& clock, std::string database_url);
  ~Leadership();
  // Idempotent. stop() releases the lease.
  void start();
  void stop();
  bool is_leader() const { return clock_.mono_ms() < leads_until_ms_.load(std::memory_order_relaxed); }
  // The ledger has answered of late: another instance leads.
  bool is_standby() const {
    return !is_leader() && clock_.mono_ms() < answered_until_ms_.load(std::memory_order_relaxed);
  }
  // Of the last reign of this instance; 0: it has not led.
  int64_t term() const { return term_.load(std::memory_order_relaxed); }

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::min();
  void run();
  LedgerClock& clock_;
  const std::string database_url_;
  std::unique_ptr<EventLoop> loop_;
  std::atomic<int64_t> leads_until_ms_ = kNever, answered_until_ms_ = kNever;  // of the monotonic clock
  std::atomic<int64_t> term_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace tallygate::ledger
