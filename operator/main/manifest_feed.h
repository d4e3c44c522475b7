// From a source of manifests to the publisher: what was last accepted (of the ledger), then what the source shows; accepts,
// compiles, tells faults. Everything on the loop's thread, but for state() and has_taken(), which any thread may call.
//
// One compile at a time: what a source has to say meanwhile comes with its next look. Who takes over the lead goes on from
// what the leader before it accepted: who held a name or an identity first keeps it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/leadership.h"
#include "operator/plan/compile.h"
#include "operator/source/acceptance.h"
#include "operator/source/source.h"

namespace tallygate::operator_main {

class ManifestFeed {
 public:
  // What is to be in force, and the snapshot that it was compiled from.
  using Offer =
      std::function<void(std::shared_ptr<const plan::Compiled>, const source::Snapshot&, int64_t noticed_ns)>;
  // After each look: the snapshot, and what is to be in force of it; null where that could not be compiled.
  using Observe = std::function<void(const source::Snapshot&, std::shared_ptr<const plan::Compiled>)>;
  // Asks the ledger; blocks. Asked again each second while it fails.
  using LoadBaseline = std::function<Result<source::Baseline>()>;
  // `loop`, `leadership` and what the functions refer to outlive it.
  ManifestFeed(Env& env, EventLoop& loop, const ledger::Leadership& leadership, std::unique_ptr<source::Source> source,
               LoadBaseline load_baseline,
               source::AcceptanceOptions options, Offer offer, Observe observe, metrics::Registry& registry);
  // Fails where the source cannot ever show anything.
  Result<void> start();
  void stop();

  struct State {
    size_t faults = 0;
    std::string first_fault;
    std::string failure;  // why the source or its objects could not be taken at all
    std::string lost;     // Snapshot's
    std::string trouble;  // Snapshot's
  };
  State state() const;
  // Whether what was accepted before this term of our lead is known and taken up. Any thread.
  bool has_taken(int64_t term) const { return term != 0 && term_.load() == term; }

 private:
  Result<void> begin();
  void take(const source::Look& look);
  void tell(const source::Snapshot& snapshot);
  void compile(int64_t noticed_ns);
  void set_failure(const std::string& failure);
  void tick();
  void look_who_leads();

  Env& env_;
  EventLoop& loop_;
  const ledger::Leadership& leadership_;
  std::unique_ptr<source::Source> source_;
  LoadBaseline load_baseline_;
  const source::AcceptanceOptions options_;
  Offer offer_;
  Observe observe_;
  std::optional<source::Acceptance> acceptance_;  // none before the baseline is known
  source::Look last_look_;
  int64_t ask_due_ms_ = 0;  // when the ledger may be asked again after a failure
  bool stood_by_ = false;  // another has led since the baseline was read
  std::atomic<int64_t> term_ = 0;  // of our lead, once its baseline is taken; 0: none yet
  std::shared_ptr<const plan::Compiled> compiled_;  // of the newest snapshot; null where that failed
  int64_t compiled_at_s_ = 0, recompile_at_s_ = 0;
  EventLoop::TimerId timer_ = 0;
  std::set<manifest::Fault> told_faults_, told_warnings_;
  std::string told_lost_;
  metrics::Counter reloads_, compile_failures_;
  metrics::Gauge faults_, warnings_, objects_, lost_;
  mutable std::mutex mutex_;
  State state_;                                          // under mutex_
};

}  // namespace tallygate::operator_main
