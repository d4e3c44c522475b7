// The submitter's metrics; internal to it.
#pragma once

#include "operator/billing/submitter.h"

namespace tallygate::billing {

struct Submitter::Metrics {
  explicit Metrics(metrics::Registry& registry);
  // By Decision::result.
  const metrics::Counter& result(const char* name) const;

  std::vector<std::pair<std::string, metrics::Counter>> results;
  metrics::Counter delivered_units, taken_off_units, dead, held, enqueued, failures;
  metrics::Histogram call_seconds;
  metrics::Gauge waiting, held_now, dead_now, blocked, age;
};

}  // namespace tallygate::billing
