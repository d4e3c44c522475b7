#include "operator/kube/events.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "core/telemetry/json_text.h"
#include "core/time_text.h"
#include "core/utf8.h"
#include "core/telemetry/log.h"

namespace tallygate::kube {
namespace {

constexpr size_t kWaitingMax = 1'000;
constexpr size_t kSeriesMax = 4'000;
constexpr size_t kNoteBytesMax = 1'024;
constexpr size_t kNameBytesMax = 253;
constexpr size_t kInstanceBytesMax = 128;
constexpr int64_t kSeries_ms = 600'000;       // an event that comes again later is a new one
constexpr int64_t kTellEach_ms = 60'000;      // how often a count is told
constexpr double kBurst = 25;                 // events of one object
constexpr int64_t kOneMoreEach_ms = 300'000;  // after those
constexpr int64_t kRetryMin_ms = 1'000, kRetryMax_ms = 30'000;
constexpr int64_t kLate_ms = 900'000;  // what could not be sent by then says nothing new any more
constexpr int64_t kLastWords_ms = 2'000;

ResourceType event_type() { return {"events.k8s.io", "v1", "events", "Event", true}; }

void cut(std::string& text, size_t bytes_max) { text.resize(cut_utf8(text, bytes_max).size()); }

// What makes two events the same.
using Identity =
    std::tuple<ResourceType, ObjectName, std::string, EventText::Type, std::string, std::string, std::string>;

// One event on the server, and how often it has come.
struct Series {
  std::string name;  // empty: not sent yet
  int64_t count = 0, told = 0;
  int64_t last_ms = 0, told_ms = 0;  // monotonic
  int64_t last_wall_ns = 0;
};

struct Bucket {
  double tokens = kBurst;
  int64_t filled_ms = 0;
};

struct Waiting {
  ResourceType type;
  ObjectName name;
  std::string uid, resource_version;
  EventText text;
  int64_t wall_ns;
  Identity identity() const { return {type, name, uid, text.type, text.reason, text.action, text.note}; }
};

}  // namespace

class EventRecorder::Impl {
 public:
  Impl(Env& env, Client& client, std::string controller, std::string instance, metrics::Registry& registry)
      : env_(env), client_(client), controller_(std::move(controller)), instance_(std::move(instance)) {
    cut(instance_, kInstanceBytesMax);
    const auto result = [&](const char* name) {
      return registry.counter("tallygate_operator_kube_event_records_total",
                              "Events for people: sent, counted on one that was sent, too many of one object, dropped.",
                              {{"result", name}});
    };
    sent_ = result("sent");
    counted_ = result("counted");
    too_many_ = result("too_many");
    dropped_ = result("dropped");
  }
  ~Impl() { stop(); }

  void start() {
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }
  void stop() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
  }

  void record(const ResourceType& type, const Object& about, EventText text) {
    cut(text.note, kNoteBytesMax);
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.size() >= kWaitingMax) return dropped_.add();
      waiting_.push_back({type, about.name, about.uid, about.resource_version, std::move(text), env_.wall_ns()});
    }
    changed_.notify_one();
  }

 private:
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (auto next = take(stop)) handle(std::move(*next), stop);
      tell_counts();
    }
    const int64_t due_ms = env_.mono_ms() + kLastWords_ms;
    while (env_.mono_ms() < due_ms) {
      auto next = take(stop);
      if (!next) break;
      handle(std::move(*next), stop);
    }
    tell_counts(due_ms);
  }

  std::optional<Waiting> take(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    const auto some = [this] { return !waiting_.empty(); };
    if (!changed_.wait_for(lock, stop, std::chrono::milliseconds(kTellEach_ms / 10), some)) return std::nullopt;
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    return next;
  }

  void handle(Waiting event, const std::stop_token& stop) {
    const int64_t now_ms = env_.mono_ms();
    forget(now_ms);
    Series& series = series_[event.identity()];
    if (!series.name.empty()) {
      ++series.count;
      series.last_ms = now_ms;
      series.last_wall_ns = event.wall_ns;
      counted_.add();
      if (series.told == 1) tell(event.identity(), series);
      return;
    }
    const bool sent = admit(event, now_ms) && send(event, series, stop);
    if (!sent) series_.erase(event.identity());
  }

  // Whether the object may have one more.
  bool admit(const Waiting& event, int64_t now_ms) {
    Bucket& bucket = buckets_[{event.type, event.name}];
    bucket.tokens =
        std::min(kBurst, bucket.tokens + static_cast<double>(now_ms - bucket.filled_ms) / double{kOneMoreEach_ms});
    bucket.filled_ms = now_ms;
    if (bucket.tokens < 1) {
      too_many_.add();
      return false;
    }
    bucket.tokens -= 1;
    return true;
  }

  bool send(const Waiting& event, Series& series, const std::stop_token& stop) {
    std::string name = event.name.name;
    cut(name, kNameBytesMax - 17);
    name += "." + env_.random_hex(8);
    const std::string body = document(event, name);
    const int64_t began_ms = env_.mono_ms();
    for (int i = 0;; ++i) {
      const auto made = client_.create_object(event_type(), name_space(event.name), body);
      // The answer to an attempt before may have been lost.
      if (made || (i > 0 && made.error().errc == Errc::kConflict)) {
        sent_.add();
        series = {name, 1, 1, env_.mono_ms(), env_.mono_ms(), event.wall_ns};
        return true;
      }
      const bool again = made.error().errc == Errc::kUnavailable || made.error().errc == Errc::kTimeout;
      if (!again || stop.stop_requested() || env_.mono_ms() >= began_ms + kLate_ms) {
        static log::Throttle throttle(60);
        log::warn(throttle, "an Event for people could not be written",
                  {{"reason", event.text.reason}, {"object", event.name.str()}, {"error", made.error().message}});
        break;
      }
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, stop, std::chrono::milliseconds(std::min(kRetryMax_ms, kRetryMin_ms << std::min(i, 5))),
                        [] { return false; });
    }
    dropped_.add();
    return false;
  }

  // Counts that have grown since they were told. `due_ms`: of the last words, those told a moment ago too, until then;
  // 0: not the last.
  void tell_counts(int64_t due_ms = 0) {
    for (auto& [identity, series] : series_) {
      const int64_t now_ms = env_.mono_ms();
      if (due_ms != 0 && now_ms >= due_ms) return;
      if (series.count > series.told && (due_ms != 0 || now_ms - series.told_ms >= kTellEach_ms) &&
          !tell(identity, series))
        return;
    }
  }

  // False: nobody can be told now.
  bool tell(const Identity& identity, Series& series) {
    JsonWriter json;
    json.begin_object();
    json.key("series");
    json.begin_object();
    json.member("count", series.count);
    json.member("lastObservedTime", rfc3339_micros(series.last_wall_ns));
    json.end_object();
    json.end_object();
    series.told_ms = env_.mono_ms();
    const auto told = client_.merge_patch(event_type(), {name_space(std::get<1>(identity)), series.name}, json.text());
    if (told) {
      series.told = series.count;
    } else if (told.error().errc == Errc::kNotFound || told.error().errc == Errc::kInvalid) {
      series = {};  // it has expired there: the next one is a new event
    } else {
      return told.error().errc != Errc::kUnavailable && told.error().errc != Errc::kTimeout;
    }
    return true;
  }

  // What is over, and where there is too much, what is oldest.
  void forget(int64_t now_ms) {
    if (now_ms - forgot_ms_ < kTellEach_ms && series_.size() < kSeriesMax) return;
    forgot_ms_ = now_ms;
    const int64_t keep_ms = series_.size() < kSeriesMax ? kSeries_ms : kTellEach_ms;
    std::erase_if(series_, [&](const auto& one) { return now_ms - one.second.last_ms >= keep_ms; });
    if (series_.size() >= kSeriesMax) series_.clear();
    std::erase_if(buckets_, [&](const auto& one) {
      return one.second.tokens + static_cast<double>(now_ms - one.second.filled_ms) / double{kOneMoreEach_ms} >= kBurst;
    });
    if (buckets_.size() >= kSeriesMax) buckets_.clear();
  }

  static std::string name_space(const ObjectName& about) {
    return about.name_space.empty() ? "default" : about.name_space;
  }

  std::string document(const Waiting& event, const std::string& name) const {
    JsonWriter json;
    json.begin_object();
    json.member("apiVersion", "events.k8s.io/v1");
    json.member("kind", "Event");
    json.key("metadata");
    json.begin_object();
    json.member("name", name);
    json.member("namespace", name_space(event.name));
    json.end_object();
    json.member("eventTime", rfc3339_micros(event.wall_ns));
    json.member("type", event.text.type == EventText::Type::kNormal ? "Normal" : "Warning");
    json.member("reason", event.text.reason);
    json.member("action", event.text.action);
    json.member("note", event.text.note);
    json.member("reportingController", controller_);
    json.member("reportingInstance", instance_);
    json.key("regarding");
    json.begin_object();
    json.member("apiVersion",
                event.type.group.empty() ? event.type.version : event.type.group + "/" + event.type.version);
    json.member("kind", event.type.kind);
    json.member("name", event.name.name);
    if (!event.name.name_space.empty()) json.member("namespace", event.name.name_space);
    json.member("uid", event.uid);
    json.member("resourceVersion", event.resource_version);
    json.end_object();
    json.end_object();
    return json.take();
  }

  Env& env_;
  Client& client_;
  const std::string controller_;
  std::string instance_;
  metrics::Counter sent_, counted_, too_many_, dropped_;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Waiting> waiting_;

  // Of the thread alone.
  std::map<Identity, Series> series_;
  std::map<std::pair<ResourceType, ObjectName>, Bucket> buckets_;
  int64_t forgot_ms_ = 0;

  std::jthread thread_;
};

EventRecorder::EventRecorder(Env& env, Client& client, std::string controller, std::string instance,
                             metrics::Registry& registry)
    : impl_(std::make_unique<Impl>(env, client, std::move(controller), std::move(instance), registry)) {}
EventRecorder::~EventRecorder() = default;
void EventRecorder::start() { impl_->start(); }
void EventRecorder::stop() { impl_->stop(); }
void EventRecorder::record(const ResourceType& type, const Object& about, EventText text) {
  impl_->record(type, about, std::move(text));
}

}  // namespace tallygate::kube
