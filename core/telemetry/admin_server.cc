#include "core/telemetry/admin_server.h"

#include <algorithm>
#include <functional>

#include "core/http/server.h"

namespace tallygate::telemetry {
namespace {

// One request at a time, and a probe beside it.
constexpr int kWorkers = 2;
constexpr int kExtraWorkersMax = 16;
constexpr size_t kConnectionsMax = 256;
constexpr size_t kConnectionsForProbes = 16;
constexpr size_t kBodyBytesMax = 16 * 1024;
const http::RouteRules kProbe{.is_probe = true};

http::Response report(const HealthReport& report) {
  return http::json_response(report.serving ? 200 : 503, report.body);
}

}  // namespace

Result<std::unique_ptr<AdminServer>> AdminServer::start(const Settings& settings, const metrics::Registry& registry,
                                                        const Health& health, Env& env, http::Router extra,
                                                        int extra_blocking) {
  http::Router router = std::move(extra);
  router.add("GET", "/metrics", [&registry](const http::Request&) {
    return http::Response{200, registry.text(), "text/plain; version=0.0.4; charset=utf-8", {}};
  });
  router.add(
      "GET", "/healthz", [](const http::Request&) { return http::text_response(200, "ok\n"); }, kProbe);
  router.add(
      "GET", "/readyz", [&health](const http::Request&) { return report(health.readiness()); }, kProbe);
  router.add("GET", "/health", [&health](const http::Request&) { return report(health.health()); });
  http::ServerOptions options;
  options.host = settings.admin_listen.host;
  options.port = settings.admin_listen.port;
  options.worker_threads = kWorkers + std::min(extra_blocking, kExtraWorkersMax);
  options.lane_of = [](const http::Request& request) -> uint64_t {
    if (request.route == "/healthz" || request.route == "/readyz") return 1;
    if (request.route == "/metrics" || request.route == "/health" || request.route.empty()) return 0;
    return 2 + std::hash<std::string_view>()(request.route) / 2;
  };
  options.running_per_lane_max = 1;
  options.body_bytes_max = kBodyBytesMax;
  options.connections_max = kConnectionsMax;
  options.connections_per_address_max = static_cast<size_t>(settings.admin_connections_per_address);
  options.connections_kept = kConnectionsForProbes;
  auto server = http::Server::start(std::move(options), std::move(router), env);
  if (!server) return tl::unexpected<Error>(std::move(server.error()));
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(*server)));
}

AdminServer::AdminServer(std::unique_ptr<http::Server> server) : server_(std::move(server)) {}
AdminServer::~AdminServer() = default;
std::string AdminServer::address() const { return server_->address(); }
uint16_t AdminServer::port() const { return server_->port(); }
void AdminServer::stop(int64_t grace_ms) { server_->drain(grace_ms); }

}  // namespace tallygate::telemetry
