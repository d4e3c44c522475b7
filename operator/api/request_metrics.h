// How the API's requests went: how long they took, and how many of each route were answered 2xx, 4xx and 5xx. Any
// thread.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/http/server.h"
#include "core/telemetry/metrics.h"

namespace tallygate::api {

class RequestMetrics {
 public:
  explicit RequestMetrics(metrics::Registry& registry);
  void count(const http::Completed& done) const;

 private:
  struct Series {
    std::string method, route;
    std::array<metrics::Counter, 3> by_status;
  };
  metrics::Histogram seconds_;
  std::vector<Series> series_;  // the first one is of what no route is known for
};

}  // namespace tallygate::api
