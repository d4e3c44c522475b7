// What the admin port tells about the process: services, readiness, queues. Fill it before the admin server starts;
// afterwards only the callbacks change their answers. They run on the admin server's threads, possibly at once, and
// must be quick: they report what is known, they do not go and look.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/env.h"

namespace tallygate::telemetry {

enum class ServiceState : uint8_t { kOk, kDegraded, kDown };
const char* to_string(ServiceState state);

struct QueueMetrics {
  int64_t active = 0, completed = 0, failed = 0, waiting = 0;
};

struct ServiceHealth {
  ServiceState state = ServiceState::kOk;
  std::string detail = {};                   // for people; no secrets
  std::optional<QueueMetrics> queue = {};  // of a service that is one
};

struct HealthReport {
  bool serving = true;  // the status code: 200 or 503
  std::string body;     // JSON
};

class Health {
 public:
  // Takes the start time for the uptime. `env` must outlive this.
  explicit Health(Env& env) : env_(env), start_ns_(env.mono_ns()) {}

  // Names for people's eyes and dashboards: "database", "redis", "backgroundJobs", "webhookQueue".
  void add_service(std::string name, std::function<ServiceHealth()> callback);
  // nullopt when ready, else why not.
  void add_readiness(std::string name, std::function<std::optional<std::string>()> callback);
  void set_queue_metrics(std::function<QueueMetrics()> callback) { queue_metrics_ = std::move(callback); }

  // {"status":"ok|degraded|down","services":{"redis":{"status":"ok"}},"uptime":12,"queueMetrics":{…}}; the whole is as
  // bad as its worst service.
  HealthReport health() const;
  // {"ready":false,"notReady":[{"check":"database","reason":"…"}]}
  HealthReport readiness() const;

 private:
  template <class T>
  using Named = std::vector<std::pair<std::string, std::function<T()>>>;
  Env& env_;
  const int64_t start_ns_;
  Named<ServiceHealth> services_;
  Named<std::optional<std::string>> readiness_;
  std::function<QueueMetrics()> queue_metrics_;
};

}  // namespace tallygate::telemetry
