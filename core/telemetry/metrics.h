// Metrics: prometheus-cpp behind handles that are resolved once, at start. Names are
// tallygate_{operator,sidecar}_<noun>_ {total,seconds,bytes}; labels come from small fixed sets.
//
//   metrics::Registry registry;
//   metrics::Counter denied = registry.counter("tallygate_sidecar_denied_total", "Requests denied.", {{"reason",
//   "cap"}}); denied.add();
//
// Threading: everything here may be called from any thread. Handles are small values that stay valid as long as the
// registry lives; a default-constructed handle counts nowhere.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/env.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace tallygate::metrics {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void add(double by = 1) const;  // by ≥ 0
  double value() const;

 private:
  friend class Registry;
  prometheus::Counter* metric_ = nullptr;
};

class Gauge {
 public:
  void set(double value) const;
  void add(double by) const;
  double value() const;

 private:
  friend class Registry;
  prometheus::Gauge* metric_ = nullptr;
};

class Histogram {
 public:
  void observe(double value) const;

 private:
  friend class Registry;
  prometheus::Histogram* metric_ = nullptr;
};

// Seconds: 250 µs to 10 s, for request latencies.
const std::vector<double>& latency_buckets();

// What a collector hands over at a scrape. The samples of one name must agree in type.
class Scrape {
 public:
  virtual void counter(std::string_view name, std::string_view help, const Labels& labels, double value) = 0;
  virtual void gauge(std::string_view name, std::string_view help, const Labels& labels, double value) = 0;
  // `counts` are per bucket, not cumulative: bounds.size() + 1 of them, the last above every bound.
  virtual void histogram(std::string_view name, std::string_view help, const Labels& labels,
                         const std::vector<double>& bounds, const std::vector<uint64_t>& counts, double sum) = 0;

 protected:
  ~Scrape() = default;
};

class Registry {
 public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // The same name and labels give the same series. A name has one type (asserted). Past kSeriesMax label sets a name
  // gets no further series: the handle then counts in one whose label values are all "other".
  static constexpr size_t kSeriesMax = 1000;
  Counter counter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  Histogram histogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                      const Labels& labels = {});

  // For counters kept elsewhere, such as the data plane's atomics: called at each scrape, on the scraping thread. The
  // callback must not register metrics. It stays until the returned handle is destroyed, which waits for a scrape under
  // way; the handle must not outlive the registry.
  class Collector;
  [[nodiscard]] std::shared_ptr<Collector> collect(std::function<void(Scrape&)> callback);

  // Prometheus text format 0.0.4.
  std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Processor time, memory, descriptors, start time, dropped log lines and the build's version, under the names that
// Prometheus client libraries agree on. `component` is "operator" or "sidecar".
[[nodiscard]] std::shared_ptr<Registry::Collector> collect_process(Registry& registry, const std::string& component);

}  // namespace tallygate::metrics
