#include "operator/api/request_metrics.h"

#include <algorithm>

#include "operator/api/call.h"

namespace tallygate::api {

RequestMetrics::RequestMetrics(metrics::Registry& registry)
    : seconds_(registry.histogram("tallygate_operator_api_request_seconds",
                                  "API requests, from the complete head to the answer.", metrics::latency_buckets())) {
  const auto add = [&](const std::string& method, const std::string& route) {
    const auto counter = [&](const char* status) {
      return registry.counter("tallygate_operator_api_requests_total", "API requests by route and kind of answer.",
                              {{"method", method}, {"route", route}, {"status", status}});
    };
    series_.push_back({method, route, {counter("2xx"), counter("4xx"), counter("5xx")}});
  };
  add("OTHER", "other");
  add("GET", "/openapi.yaml");
  for (const ApiRoute& route : api_routes()) add(route.method, route.pattern);
}

void RequestMetrics::count(const http::Completed& done) const {
  seconds_.observe(static_cast<double>(done.duration_ns) / 1e9);
  const std::string_view method = done.method == "HEAD" ? "GET" : done.method;
  const auto known = std::find_if(series_.begin(), series_.end(),
                                  [&](const Series& one) { return one.route == done.route && one.method == method; });
  const Series& series = known == series_.end() ? series_.front() : *known;
  series.by_status[done.status < 400 ? 0 : done.status < 500 ? 1 : 2].add();
}

}  // namespace tallygate::api
