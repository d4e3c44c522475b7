#include "operator/kube/reflector.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/telemetry/log.h"

namespace tallygate::kube {
namespace {

// Watches end by themselves after this and up to twice this, so that not all come at once.
constexpr int64_t kWatch_s = 300;
// A watch that has been silent for longer, to its end, is not believed.
constexpr int64_t kSilent_ms = 120'000;
// A watch that ended earlier, and told nothing, counts as a failure.
constexpr int64_t kShort_ms = 1'000;

std::string shown(const ResourceType& type) {
  return type.group.empty() ? type.plural : type.plural + "." + type.group;
}

}  // namespace

class Reflector::Impl {
 public:
  Impl(Env& env, Client& client, ReflectorOptions options, OnChange on_change, metrics::Registry& registry)
      : env_(env),
        client_(client),
        options_(std::move(options)),
        on_change_(std::move(on_change)),
        backoff_ms_(options_.backoff_min_ms) {
    const metrics::Labels labels = {{"resource", shown(options_.type)}};
    lists_ = registry.counter("tallygate_operator_kube_lists_total", "Whole lists read from the API server.", labels);
    watches_ = registry.counter("tallygate_operator_kube_watches_total", "Watches begun.", labels);
    events_ = registry.counter("tallygate_operator_kube_watch_events_total", "Events that watches brought.", labels);
    failures_ = registry.counter("tallygate_operator_kube_failures_total", "Lists and watches that failed.", labels);
    objects_ = registry.gauge("tallygate_operator_kube_objects", "Objects known.", labels);
    open_ = registry.gauge("tallygate_operator_kube_watches_open", "Watches that are open.", labels);
  }
  ~Impl() {
    stop();
    objects_.add(-static_cast<double>(known_.size()));
  }

  void start() {
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }
  void stop() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
  }

  std::shared_ptr<const Known> known() const {
    const std::lock_guard lock(mutex_);
    if (!copy_) copy_ = std::make_shared<const Known>(known_);
    return copy_;
  }
  ReflectorHealth health() const {
    const std::lock_guard lock(mutex_);
    return health_;
  }

 private:
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const auto done = version_.empty() ? list(stop) : watch(stop);
      if (stop.stop_requested()) break;
      if (done) continue;
      if (done.error().errc == Errc::kConflict) version_.clear();
      failed(done.error());
      pause(stop);
    }
    const std::lock_guard lock(mutex_);
    health_.connected = false;
  }

  Result<void> list(const std::stop_token& stop) {
    ListRequest request{options_.type,          options_.name_space, options_.selector,
                        options_.metadata_only, options_.page_size,  ""};
    Known listed;
    std::string version;
    do {
      auto page = client_.list(request, stop);
      if (!page) return tl::unexpected<Error>(page.error());
      heard();
      for (Object& object : page->objects) {
        ObjectName name = object.name;
        listed.insert_or_assign(std::move(name), keep(std::move(object)));
      }
      request.continue_from = std::move(page->continue_from);
      version = std::move(page->resource_version);
    } while (!request.continue_from.empty());
    version_ = std::move(version);
    lists_.add();
    replace(std::move(listed));
    return {};
  }

  // What is known already stays as it is.
  ObjectPtr keep(Object object) const {
    const auto old = known_.find(object.name);
    if (old != known_.end() && old->second->uid == object.uid &&
        old->second->resource_version == object.resource_version) {
      return old->second;
    }
    if (options_.transform) {
      options_.transform(object);
    } else {
      drop_managed_fields(object);
    }
    return std::make_shared<const Object>(std::move(object));
  }

  void replace(Known listed) {
    std::vector<Change> changes;
    auto old = known_.begin();
    auto now = listed.begin();
    while (old != known_.end() || now != listed.end()) {
      if (now == listed.end() || (old != known_.end() && old->first < now->first)) {
        changes.push_back({old->first, old->second, nullptr});
        ++old;
      } else if (old == known_.end() || now->first < old->first) {
        changes.push_back({now->first, nullptr, now->second});
        ++now;
      } else {
        if (old->second != now->second) changes.push_back({now->first, old->second, now->second});
        ++old;
        ++now;
      }
    }
    bool first = false;
    {
      const std::lock_guard lock(mutex_);
      objects_.add(static_cast<double>(listed.size()) - static_cast<double>(known_.size()));
      known_ = std::move(listed);
      copy_.reset();
      first = !health_.synced;
      health_.synced = true;
      well();
    }
    if (first || !changes.empty()) on_change_(changes, true);
  }

  Result<void> watch(const std::stop_token& stop) {
    WatchRequest request{options_.type, options_.name_space, options_.selector, options_.metadata_only, version_,
                         kWatch_s};
    request.timeout_s += static_cast<int64_t>(env_.random_below(kWatch_s));
    const int64_t began_ms = env_.mono_ms();
    bool told = false;
    watches_.add();
    auto ended = client_.watch(
        request,
        [&](std::vector<WatchEvent> events) {
          heard();
          set_open(true);
          if (!events.empty()) {
            told = true;
            backoff_ms_ = options_.backoff_min_ms;
            apply(std::move(events));
          }
          return !stop.stop_requested();
        },
        stop);
    set_open(false);
    const int64_t lasted_ms = env_.mono_ms() - began_ms;
    if (!told && lasted_ms >= kSilent_ms) version_.clear();
    if (ended && !told && lasted_ms < kShort_ms) {
      return fail(Errc::kUnavailable, "the server ended a watch on " + shown(options_.type) + " at once");
    }
    return ended;
  }

  void apply(std::vector<WatchEvent> events) {
    std::vector<Change> changes;
    {
      const std::lock_guard lock(mutex_);
      const size_t before = known_.size();
      for (WatchEvent& event : events) {
        version_ = event.object.resource_version;
        if (event.type != WatchEvent::Type::kBookmark) apply(event, changes);
      }
      if (!changes.empty()) copy_.reset();
      objects_.add(static_cast<double>(known_.size()) - static_cast<double>(before));
    }
    events_.add(static_cast<double>(events.size()));
    if (!changes.empty()) on_change_(changes, false);
  }

  void apply(WatchEvent& event, std::vector<Change>& changes) {
    const ObjectName name = event.object.name;
    const auto old = known_.find(name);
    ObjectPtr before = old == known_.end() ? nullptr : old->second;
    if (event.type == WatchEvent::Type::kDeleted) {
      if (!before) return;
      known_.erase(old);
      changes.push_back({name, std::move(before), nullptr});
      return;
    }
    ObjectPtr now = keep(std::move(event.object));
    if (now == before) return;
    known_.insert_or_assign(name, now);
    changes.push_back({name, std::move(before), std::move(now)});
  }

  void heard() {
    const std::lock_guard lock(mutex_);
    health_.heard_ms = env_.mono_ms();
  }
  void set_open(bool open) {
    const std::lock_guard lock(mutex_);
    if (open != is_open_) open_.add(open ? 1 : -1);
    is_open_ = open;
    if (open) well();
  }
  // Under the mutex.
  void well() {
    health_.connected = true;
    health_.error.clear();
    health_.type_missing = health_.forbidden = false;
  }

  void failed(const Error& error) {
    failures_.add();
    {
      const std::lock_guard lock(mutex_);
      health_.connected = false;
      health_.error = error.message;
      health_.type_missing = error.errc == Errc::kNotFound;
      health_.forbidden = error.errc == Errc::kInvalid;
    }
    log::warn(throttle_, "the API server cannot be followed; what is known stays",
              {{"resource", shown(options_.type)}, {"error", error.message}});
  }

  // Half of the back-off to one and a half.
  void pause(const std::stop_token& stop) {
    const int64_t ms =
        backoff_ms_ / 2 + static_cast<int64_t>(env_.random_below(static_cast<uint64_t>(backoff_ms_) + 1));
    backoff_ms_ = std::min(backoff_ms_ * 2, options_.backoff_max_ms);
    std::mutex mutex;
    std::unique_lock lock(mutex);
    wake_.wait_for(lock, stop, std::chrono::milliseconds(ms), [] { return false; });
  }

  Env& env_;
  Client& client_;
  const ReflectorOptions options_;
  const OnChange on_change_;
  metrics::Counter lists_, watches_, events_, failures_;
  metrics::Gauge objects_, open_;
  log::Throttle throttle_{30};

  // Of the thread alone.
  std::string version_;  // from which a watch goes on; empty: a list is due
  int64_t backoff_ms_;
  bool is_open_ = false;
  std::condition_variable_any wake_;

  mutable std::mutex mutex_;  // written by the thread alone, which therefore reads without it
  Known known_;
  mutable std::shared_ptr<const Known> copy_;  // of known_, made when it is asked for
  ReflectorHealth health_;

  std::jthread thread_;
};

Reflector::Reflector(Env& env, Client& client, ReflectorOptions options, OnChange on_change,
                     metrics::Registry& registry)
    : impl_(std::make_unique<Impl>(env, client, std::move(options), std::move(on_change), registry)) {}
Reflector::~Reflector() = default;
void Reflector::start() { impl_->start(); }
void Reflector::stop() { impl_->stop(); }
std::shared_ptr<const Reflector::Known> Reflector::known() const { return impl_->known(); }
ReflectorHealth Reflector::health() const { return impl_->health(); }

}  // namespace tallygate::kube
