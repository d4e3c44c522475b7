// The sidecar's ledger-backed leases: what purses live on while Redis is away (requirement A8).
//
// Before the ledger is first asked for units of an (epoch, bucket), that pair is noted in a file of the incarnation's
// folder. kill -9 leaves the page cache, so a successor finds every lease that may stand, and settles it: what was
// spent counts against the ledger's lease first, the rest of the lease goes back to the ledger, and what was spent
// beyond came from Redis.
//
// Threading: the event loop's thread only.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/escrow/ledger_client.h"
#include "sidecar/escrow/ledger_wire.h"

namespace tallygate::sidecar {

using LeaseNote = std::pair<int64_t, std::string>;  // epoch, "tenant|bucket"

struct LedgerCounters {
  std::atomic<uint64_t> asked{0}, granted_units{0}, returned_units{0}, dry{0}, wait{0}, refused{0}, errors{0},
      closed{0};
  // Leases that wait to be settled for good; of these, how many the ledger refused to settle the last time.
  std::atomic<int64_t> unsettled{0}, unsettled_refused{0};
};

class LedgerLeases {
 public:
  // `folder`: the live incarnation's.
  LedgerLeases(EventLoop& loop, LedgerClient& client, std::string folder, std::string incarnation);
  ~LedgerLeases();
  LedgerLeases(const LedgerLeases&) = delete;

  bool usable() const { return client_.usable(); }
  bool answers() const { return client_.answers(); }
  // Asks for one bucket of `member`; calls `fn` with the answer, once, never from inside.
  void ask(const std::string& member, int64_t epoch, LeaseRequest::Bucket bucket,
           std::function<void(Result<LeaseAnswer>)> fn);
  // Whether the live incarnation may hold units of this.
  bool noted(int64_t epoch, const std::string& member) const { return notes_.contains({epoch, member}); }
  const std::set<LeaseNote>& notes() const { return notes_; }

  // Settles what an incarnation leased, for good; `spent` of it in all under that epoch, wherever from. Tries again for
  // as long as it takes; `fn` is told what the lease paid for. A refusal (a wrong token, say) ends nothing, for it can
  // be mended: it is told of, and tried again ever less often, each minute at last.
  void close(const std::string& incarnation, const LeaseNote& note, int64_t spent, std::function<void(int64_t)> fn);
  static std::set<LeaseNote> read_notes(const std::string& folder);

  // The version of a tenant's document that is known here; 0: none.
  void on_version(std::function<int64_t(const std::string& tenant)> fn) { version_of_ = std::move(fn); }
  // The ledger has answered for a tenant.
  void on_answer(std::function<void(const std::string& tenant, const LeaseAnswer&)> fn) { on_answer_ = std::move(fn); }
  LedgerCounters& counters() { return counters_; }
  const std::string& last_error() const { return client_.last_error(); }

 private:
  struct Closing {
    std::string incarnation;
    LeaseNote note;
    int64_t spent;
    std::function<void(int64_t)> fn;
    int64_t retry_ms = 0;
    bool refused = false;  // the last time
  };
  Result<void> write_note(const LeaseNote& note);
  void try_close(std::shared_ptr<Closing> closing);
  void close_again(std::shared_ptr<Closing> closing, const Error& error);
  void note_refusal(Closing& closing, bool refused);
  void send(const std::string& tenant, LeaseRequest request, std::function<void(Result<LeaseAnswer>)> fn);

  EventLoop& loop_;
  LedgerClient& client_;
  std::string folder_, incarnation_;
  int fd_ = -1;
  std::set<LeaseNote> notes_;
  std::function<int64_t(const std::string&)> version_of_ = [](const std::string&) { return int64_t{0}; };
  std::function<void(const std::string&, const LeaseAnswer&)> on_answer_ = [](const std::string&, const LeaseAnswer&) {
  };
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  LedgerCounters counters_;
};

}  // namespace tallygate::sidecar
