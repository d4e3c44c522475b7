#include "core/telemetry/health.h"

#include <algorithm>

#include "core/telemetry/json_text.h"

namespace tallygate::telemetry {
namespace {

void put_queue(JsonWriter& json, const QueueMetrics& queue) {
  for (const auto& [name, value] : {std::pair{"active", queue.active}, std::pair{"completed", queue.completed},
                                    std::pair{"failed", queue.failed}, std::pair{"waiting", queue.waiting}}) {
    json.key(name);
    json.value(value);
  }
}

}  // namespace

const char* to_string(ServiceState state) {
  switch (state) {
    case ServiceState::kOk:
      return "ok";
    case ServiceState::kDegraded:
      return "degraded";
    case ServiceState::kDown:
      return "down";
  }
  return "down";
}

void Health::add_service(std::string name, std::function<ServiceHealth()> callback) {
  services_.emplace_back(std::move(name), std::move(callback));
}

void Health::add_readiness(std::string name, std::function<std::optional<std::string>()> callback) {
  readiness_.emplace_back(std::move(name), std::move(callback));
}

HealthReport Health::health() const {
  std::vector<ServiceHealth> found;
  ServiceState worst = ServiceState::kOk;
  for (const auto& [name, callback] : services_) {
    found.push_back(callback());
    worst = std::max(worst, found.back().state);
  }
  JsonWriter json;
  json.begin_object();
  json.key("status");
  json.value(to_string(worst));
  json.key("services");
  json.begin_object();
  for (size_t i = 0; i < found.size(); ++i) {
    json.key(services_[i].first);
    json.begin_object();
    json.key("status");
    json.value(to_string(found[i].state));
    if (!found[i].detail.empty()) {
      json.key("detail");
      json.value(found[i].detail);
    }
    if (found[i].queue) put_queue(json, *found[i].queue);
    json.end_object();
  }
  json.end_object();
  json.key("uptime");
  json.value((env_.mono_ns() - start_ns_) / 1'000'000'000);
  if (queue_metrics_) {
    const QueueMetrics queue = queue_metrics_();
    json.key("queueMetrics");
    json.begin_object();
    put_queue(json, queue);
    json.end_object();
  }
  json.end_object();
  return {worst != ServiceState::kDown, json.take()};
}

HealthReport Health::readiness() const {
  bool ready = true;
  JsonWriter missing;
  missing.begin_array();
  for (const auto& [name, callback] : readiness_) {
    const std::optional<std::string> reason = callback();
    if (!reason) continue;
    ready = false;
    missing.begin_object();
    missing.key("check");
    missing.value(name);
    missing.key("reason");
    missing.value(*reason);
    missing.end_object();
  }
  missing.end_array();
  return {ready, std::string("{\"ready\":") + (ready ? "true" : "false") + ",\"notReady\":" + missing.text() + "}"};
}

}  // namespace tallygate::telemetry
