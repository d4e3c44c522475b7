#include "core/telemetry/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <mutex>
#include <sstream>

#include "core/result.h"

namespace tallygate::metrics {
namespace {

using FamilyType = prometheus::MetricType;

// Gathers collectors' samples into families, in the order of their names.
class Gathered final : public Scrape {
 public:
  void counter(std::string_view name, std::string_view help, const Labels& labels, double value) override {
    add(name, help, labels, FamilyType::Counter).counter.value = value;
  }
  void gauge(std::string_view name, std::string_view help, const Labels& labels, double value) override {
    add(name, help, labels, FamilyType::Gauge).gauge.value = value;
  }
  void histogram(std::string_view name, std::string_view help, const Labels& labels, const std::vector<double>& bounds,
                 const std::vector<uint64_t>& counts, double sum) override {
    TG_ASSERT(counts.size() == bounds.size() + 1);
    auto& histogram = add(name, help, labels, FamilyType::Histogram).histogram;
    for (size_t i = 0; i < bounds.size(); ++i) {
      histogram.sample_count += counts[i];
      histogram.bucket.push_back({histogram.sample_count, bounds[i]});
    }
    histogram.sample_count += counts.back();
    histogram.sample_sum = sum;
  }
  void take(prometheus::MetricFamily family) {
    auto& mine = families_[family.name];
    if (mine.name.empty()) {
      mine = std::move(family);
    } else {
      for (auto& metric : family.metric) mine.metric.push_back(std::move(metric));
    }
  }
  std::vector<prometheus::MetricFamily> all() && {
    std::vector<prometheus::MetricFamily> out;
    for (auto& [name, family] : families_) out.push_back(std::move(family));
    return out;
  }

 private:
  prometheus::ClientMetric& add(std::string_view name, std::string_view help, const Labels& labels, FamilyType type) {
    auto& family = families_[std::string(name)];
    if (family.name.empty()) {
      family.name = name;
      family.help = help;
      family.type = type;
    }
    TG_ASSERT(family.type == type);
    auto& metric = family.metric.emplace_back();
    for (const auto& [key, value] : labels) metric.label.push_back({key, value});
    return metric;
  }
  std::map<std::string, prometheus::MetricFamily> families_;
};

prometheus::Labels to_map(const Labels& labels) { return {labels.begin(), labels.end()}; }

}  // namespace

class Registry::Collector {
 public:
  explicit Collector(std::function<void(Scrape&)> callback) : callback_(std::move(callback)) {}
  void run(Scrape& scrape) { callback_(scrape); }

 private:
  std::function<void(Scrape&)> callback_;
};

struct Registry::Impl {
  // Which families exist, with how many series: prometheus-cpp neither tells nor limits.
  template <class Metric>
  struct Known {
    prometheus::Family<Metric>* family = nullptr;
    std::map<prometheus::Labels, Metric*> series;
  };

  // `make` builds the family.
  template <class Metric, class Make, class... Args>
  Metric* resolve(std::map<std::string, Known<Metric>>& known, const std::string& name, const Labels& labels, Make make,
                  const Args&... args) {
    const std::lock_guard lock(mutex);
    Known<Metric>& entry = known[name];
    if (entry.family == nullptr) {
      TG_ASSERT(counters.count(name) + gauges.count(name) + histograms.count(name) == 1);
      entry.family = &make();
    }
    prometheus::Labels key = to_map(labels);
    if (entry.series.count(key) == 0 && entry.series.size() >= kSeriesMax) {
      for (auto& [label, value] : key) value = "other";
    }
    Metric*& metric = entry.series[key];
    if (metric == nullptr) metric = &entry.family->Add(key, args...);
    return metric;
  }

  prometheus::Registry registry;
  std::mutex mutex;
  std::map<std::string, Known<prometheus::Counter>> counters;
  std::map<std::string, Known<prometheus::Gauge>> gauges;
  std::map<std::string, Known<prometheus::Histogram>> histograms;
  std::mutex collectors_mutex;  // held during a scrape, so that a collector's owner can wait for it
  std::map<Collector*, std::unique_ptr<Collector>> collectors;
};

void Counter::add(double by) const {
  if (metric_ != nullptr) metric_->Increment(by);
}
double Counter::value() const { return metric_ == nullptr ? 0 : metric_->Value(); }
void Gauge::set(double value) const {
  if (metric_ != nullptr) metric_->Set(value);
}
void Gauge::add(double by) const {
  if (metric_ != nullptr) metric_->Increment(by);
}
double Gauge::value() const { return metric_ == nullptr ? 0 : metric_->Value(); }
void Histogram::observe(double value) const {
  if (metric_ != nullptr) metric_->Observe(value);
}

const std::vector<double>& latency_buckets() {
  static const std::vector<double> buckets = {0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                              0.1,     0.25,   0.5,   1,      2.5,   5,    10};
  return buckets;
}

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;

Counter Registry::counter(const std::string& name, const std::string& help, const Labels& labels) {
  Counter handle;
  handle.metric_ = impl_->resolve(impl_->counters, name, labels, [&]() -> prometheus::Family<prometheus::Counter>& {
    return prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
  });
  return handle;
}

Gauge Registry::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  Gauge handle;
  handle.metric_ = impl_->resolve(impl_->gauges, name, labels, [&]() -> prometheus::Family<prometheus::Gauge>& {
    return prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  });
  return handle;
}

Histogram Registry::histogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                              const Labels& labels) {
  Histogram handle;
  const auto make = [&]() -> prometheus::Family<prometheus::Histogram>& {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
  };
  handle.metric_ =
      impl_->resolve(impl_->histograms, name, labels, make, prometheus::Histogram::BucketBoundaries(bounds));
  return handle;
}

std::shared_ptr<Registry::Collector> Registry::collect(std::function<void(Scrape&)> callback) {
  auto owned = std::make_unique<Collector>(std::move(callback));
  Collector* collector = owned.get();
  const std::lock_guard lock(impl_->collectors_mutex);
  impl_->collectors.emplace(collector, std::move(owned));
  return {collector, [impl = impl_.get()](Collector* gone) {
            const std::lock_guard lock(impl->collectors_mutex);
            impl->collectors.erase(gone);
          }};
}

std::string Registry::text() const {
  Gathered gathered;
  for (auto& family : impl_->registry.Collect()) gathered.take(std::move(family));
  {
    const std::lock_guard lock(impl_->collectors_mutex);
    for (auto& [key, collector] : impl_->collectors) collector->run(gathered);
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, std::move(gathered).all());
  return std::move(out).str();
}

}  // namespace tallygate::metrics
