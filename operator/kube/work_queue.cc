#include "operator/kube/work_queue.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "core/result.h"

namespace tallygate::kube {
namespace {

// As client-go's: 10 ns to 1000 s, by tens.
const std::vector<double> kBuckets = {1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1000};

double seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace

class WorkQueue::Impl {
 public:
  Impl(Env& env, WorkQueueOptions options, metrics::Registry& registry)
      : env_(env),
        options_(std::move(options)),
        tokens_(static_cast<double>(options_.retry_burst)),
        filled_ms_(env.mono_ms()) {
    const metrics::Labels labels = {{"name", options_.name}};
    depth_ = registry.gauge("workqueue_depth", "Keys that wait for a worker.", labels);
    adds_ = registry.counter("workqueue_adds_total", "Keys added.", labels);
    retries_ = registry.counter("workqueue_retries_total", "Keys that failed and come again.", labels);
    waited_ =
        registry.histogram("workqueue_queue_duration_seconds", "How long keys waited for a worker.", kBuckets, labels);
    worked_ = registry.histogram("workqueue_work_duration_seconds", "How long work on a key took.", kBuckets, labels);
    running_ = registry.collect([this, labels](metrics::Scrape& scrape) {
      const auto [sum, longest] = in_work();
      scrape.gauge("workqueue_unfinished_work_seconds", "How long the work under way has taken, summed.", labels, sum);
      scrape.gauge("workqueue_longest_running_processor_seconds", "How long the longest work under way has taken.",
                   labels, longest);
    });
  }

  void add(const std::string& key) {
    const std::lock_guard lock(mutex_);
    add_locked(key);
  }

  void add_after(const std::string& key, int64_t delay_ms) {
    const std::lock_guard lock(mutex_);
    add_after_locked(key, delay_ms);
  }

  std::optional<std::string> take() {
    std::unique_lock lock(mutex_);
    while (!stopped_) {
      if (auto key = next()) return key;
      if (later_.empty()) {
        changed_.wait(lock);
      } else {
        const int64_t wait_ms = later_.begin()->first - env_.mono_ms();
        changed_.wait_for(lock, std::chrono::milliseconds(std::max<int64_t>(wait_ms, 1)));
      }
    }
    return std::nullopt;
  }

  std::optional<std::string> try_take() {
    const std::lock_guard lock(mutex_);
    return stopped_ ? std::nullopt : next();
  }

  void done(const std::string& key) {
    const std::lock_guard lock(mutex_);
    failures_.erase(key);
    give_back(key);
  }

  void failed(const std::string& key) {
    const std::lock_guard lock(mutex_);
    retries_.add();
    const int64_t delay_ms = std::max(backoff_ms(failures_[key]++), spare_ms());
    if (!give_back(key)) add_after_locked(key, delay_ms);
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
  }

  size_t depth() const {
    const std::lock_guard lock(mutex_);
    return ready_.size();
  }

 private:
  void add_locked(const std::string& key) {
    if (stopped_ || !wanted_.emplace(key, env_.mono_ns()).second) return;
    adds_.add();
    if (taken_.count(key) == 0) push(key);
  }

  void add_after_locked(const std::string& key, int64_t delay_ms) {
    if (delay_ms <= 0) return add_locked(key);
    if (stopped_) return;
    const int64_t due_ms = env_.mono_ms() + delay_ms;
    const auto known = due_.find(key);
    if (known != due_.end()) {
      if (known->second <= due_ms) return;
      later_.erase({known->second, key});
    }
    due_[key] = due_ms;
    later_.emplace(due_ms, key);
    changed_.notify_one();
  }

  void push(const std::string& key) {
    ready_.push_back(key);
    depth_.set(static_cast<double>(ready_.size()));
    changed_.notify_one();
  }

  std::optional<std::string> next() {
    const int64_t now_ms = env_.mono_ms();
    while (!later_.empty() && later_.begin()->first <= now_ms) {
      const std::string key = later_.begin()->second;
      later_.erase(later_.begin());
      due_.erase(key);
      add_locked(key);
    }
    if (ready_.empty()) return std::nullopt;
    std::string key = std::move(ready_.front());
    ready_.pop_front();
    depth_.set(static_cast<double>(ready_.size()));
    const int64_t now_ns = env_.mono_ns();
    const auto wanted = wanted_.find(key);
    waited_.observe(seconds(now_ns - wanted->second));
    wanted_.erase(wanted);
    taken_.emplace(key, now_ns);
    return key;
  }

  // → whether it was added meanwhile, and so comes again.
  bool give_back(const std::string& key) {
    const auto taken = taken_.find(key);
    TG_ASSERT(taken != taken_.end());
    worked_.observe(seconds(env_.mono_ns() - taken->second));
    taken_.erase(taken);
    if (wanted_.count(key) == 0) return false;
    push(key);
    return true;
  }

  int64_t backoff_ms(int failures) const {
    int64_t ms = options_.backoff_min_ms;
    for (int i = 0; i < failures && ms < options_.backoff_max_ms; ++i) ms *= 2;
    return std::min(ms, options_.backoff_max_ms);
  }

  // Takes a token of the rate that all retries share: → how long until it is there.
  int64_t spare_ms() {
    const int64_t now_ms = env_.mono_ms();
    tokens_ = std::min(static_cast<double>(options_.retry_burst),
                       tokens_ + static_cast<double>(now_ms - filled_ms_) * options_.retries_per_second / 1000);
    filled_ms_ = now_ms;
    tokens_ -= 1;
    return tokens_ >= 0 ? 0 : static_cast<int64_t>(-tokens_ * 1000 / options_.retries_per_second);
  }

  std::pair<double, double> in_work() const {
    const std::lock_guard lock(mutex_);
    double sum = 0, longest = 0;
    for (const auto& [key, since_ns] : taken_) {
      const double took = seconds(env_.mono_ns() - since_ns);
      sum += took;
      longest = std::max(longest, took);
    }
    return {sum, longest};
  }

  Env& env_;
  const WorkQueueOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::deque<std::string> ready_;                    // due, and not taken
  std::map<std::string, int64_t> wanted_, taken_;    // since when, monotonic ns; a key may be both
  std::set<std::pair<int64_t, std::string>> later_;  // by when they are due, monotonic ms
  std::map<std::string, int64_t> due_;               // the same, by key
  std::map<std::string, int> failures_;              // in a row
  double tokens_;
  int64_t filled_ms_;
  metrics::Gauge depth_;
  metrics::Counter adds_, retries_;
  metrics::Histogram waited_, worked_;
  std::shared_ptr<metrics::Registry::Collector> running_;  // last: the first to go
};

WorkQueue::WorkQueue(Env& env, WorkQueueOptions options, metrics::Registry& registry)
    : impl_(std::make_unique<Impl>(env, std::move(options), registry)) {}
WorkQueue::~WorkQueue() { stop(); }
void WorkQueue::add(const std::string& key) { impl_->add(key); }
void WorkQueue::add_after(const std::string& key, int64_t delay_ms) { impl_->add_after(key, delay_ms); }
std::optional<std::string> WorkQueue::take() { return impl_->take(); }
std::optional<std::string> WorkQueue::try_take() { return impl_->try_take(); }
void WorkQueue::done(const std::string& key) { impl_->done(key); }
void WorkQueue::failed(const std::string& key) { impl_->failed(key); }
void WorkQueue::stop() { impl_->stop(); }
size_t WorkQueue::depth() const { return impl_->depth(); }

}  // namespace tallygate::kube
