// From the folder of manifests to the publisher: watches, compiles, tells faults. Everything on the loop's thread, but
// for state(), which any thread may call.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/telemetry/metrics.h"
#include "operator/manifest/dir_source.h"
#include "operator/plan/compile.h"

namespace tallygate::operator_main {

class ManifestFeed {
 public:
  using Offer = std::function<void(std::shared_ptr<const plan::Compiled>, int64_t noticed_ns)>;
  // `loop` and what `offer` refers to outlive it.
  ManifestFeed(Env& env, EventLoop& loop, const std::string& folder, Offer offer, metrics::Registry& registry);
  Result<void> start();
  void stop();

  struct State {
    size_t faults = 0;
    std::string first_fault;
    std::string failure;  // why the folder or its objects could not be taken at all
  };
  State state() const;

 private:
  void take(const manifest::Snapshot& snapshot);
  void tell(const manifest::Accepted& accepted);
  void compile(int64_t noticed_ns);
  void set_failure(const std::string& failure);
  void tick();

  Env& env_;
  EventLoop& loop_;
  manifest::DirSource source_;
  Offer offer_;
  std::shared_ptr<const manifest::Accepted> accepted_;
  int64_t compiled_at_s_ = 0, recompile_at_s_ = 0;
  EventLoop::TimerId timer_ = 0;
  std::set<manifest::Fault> told_faults_, told_warnings_;
  metrics::Counter reloads_, compile_failures_;
  metrics::Gauge faults_, warnings_, objects_;
  mutable std::mutex mutex_;
  State state_;  // under mutex_
};

}  // namespace tallygate::operator_main
