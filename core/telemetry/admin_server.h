// The admin port: /metrics (Prometheus text), /healthz (200 while the process serves this), /readyz (200 only when
// every readiness check passes), /health (JSON for people and dashboards), plus what the program adds, e.g. its drain
// hook.
#pragma once

#include <memory>
#include <string>

#include "core/http/router.h"
#include "core/result.h"
#include "core/telemetry/health.h"
#include "core/telemetry/metrics.h"
#include "core/telemetry/settings.h"

namespace tallygate::http {
class Server;
}

namespace tallygate::telemetry {

class AdminServer {
 public:
  // `registry`, `health` and `env` must outlive the server. `extra_blocking`: how many of `extra`'s paths may block; each
  // has a worker of its own, so that one that hangs holds up nothing else.
  static Result<std::unique_ptr<AdminServer>> start(const Settings& settings, const metrics::Registry& registry,
                                                    const Health& health, Env& env, http::Router extra = {},
                                                    int extra_blocking = 0);
  ~AdminServer();
  std::string address() const;
  uint16_t port() const;
  // Last of all in a shutdown, so that probes and scrapes see the drain.
  void stop(int64_t grace_ms = 1'000);

 private:
  explicit AdminServer(std::unique_ptr<http::Server> server);
  std::unique_ptr<http::Server> server_;
};

}  // namespace tallygate::telemetry
