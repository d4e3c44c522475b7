// Keys that need work: each at most once in the queue and at one worker at a time; a key that is added while it is
// worked on comes again afterwards. Failures come again after an exponential back-off of their own (5 ms, doubled, to
// 1000 s as controller-runtime's), all together bounded by a rate (10 a second, bursts of 100). As long as the keys are
// names of objects, so is it bounded by their number.
//
// Metrics under the names that controller-runtime's dashboards know (workqueue_depth, workqueue_adds_total,
// workqueue_queue_duration_seconds, workqueue_work_duration_seconds, workqueue_retries_total,
// workqueue_unfinished_work_seconds, workqueue_longest_running_processor_seconds), label name.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/env.h"
#include "core/telemetry/metrics.h"

namespace tallygate::kube {

struct WorkQueueOptions {
  std::string name = {};
  int64_t backoff_min_ms = 5, backoff_max_ms = 1'000'000;
  double retries_per_second = 10;
  int64_t retry_burst = 100;
};

class WorkQueue {
 public:
  // `env` and `registry` outlive it.
  WorkQueue(Env& env, WorkQueueOptions options, metrics::Registry& registry);
  ~WorkQueue();  // stop(); no worker may still be in it
  // Any thread.
  void add(const std::string& key);
  void add_after(const std::string& key, int64_t delay_ms);  // the earliest of several wins
  // A worker: waits for a key; nullopt: stopped. Each key taken is given back by exactly one of the two.
  std::optional<std::string> take();
  std::optional<std::string> try_take();  // does not wait; nullopt: nothing is due
  void done(const std::string& key);      // well; its back-off is forgotten
  void failed(const std::string& key);    // comes again after its back-off, or at once where it was added meanwhile
  void stop();
  size_t depth() const;  // of what is due

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::kube
