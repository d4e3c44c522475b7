#include "operator/api/api_server.h"

#include <algorithm>
#include <thread>

#include "core/telemetry/log.h"

namespace tallygate::api {
namespace {

PoolOptions pool_options(std::string url, const ApiSettings& settings) {
  return {.database_url = std::move(url),
          .connections_max = static_cast<size_t>(settings.connections),
          .deadline_ms = settings.deadline_ms};
}

// More lanes than cores share rounds less and gain nothing.
CombinerOptions combiner_options(const char* statement, const ApiSettings& settings) {
  const size_t lanes = std::clamp<size_t>(std::thread::hardware_concurrency(), 2, 8);
  return {.statement = statement, .lanes = lanes, .wait_ms = settings.deadline_ms};
}

FrontOptions front_options(Credentials credentials, const ApiSettings& settings) {
  FrontOptions options;
  options.credentials = std::move(credentials);
  options.rate_limit = {settings.rate_per_second, settings.rate_burst};
  options.body_bytes_max = static_cast<size_t>(settings.body_bytes_max);
  return options;
}

}  // namespace

Result<std::unique_ptr<ApiServer>> ApiServer::create(Env& env, std::string database_url,
                                                     std::optional<redis::Endpoint> redis, const ApiSettings& settings,
                                                     metrics::Registry& registry) {
  auto credentials = load_credentials(settings);
  if (!credentials) return tl::unexpected(credentials.error());
  credentials->providers.count_in(registry);
  return std::unique_ptr<ApiServer>(
      new ApiServer(env, std::move(database_url), std::move(redis), settings, std::move(*credentials), registry));
}

ApiServer::ApiServer(Env& env, std::string database_url, std::optional<redis::Endpoint> redis,
                     const ApiSettings& settings, Credentials credentials, metrics::Registry& registry)
    : env_(env),
      settings_(settings),
      pool_(env, pool_options(std::move(database_url), settings)),
      wallet_operations_(env, pool_, combiner_options("select (b.r).*, b.n from wallet_batch($1) b", settings)),
      status_checks_(env, pool_, combiner_options("select * from status_check_batch($1)", settings)),
      recaller_(env, std::move(redis)),
      front_(Services{env, pool_, wallet_operations_, status_checks_, directory_, recaller_}, front_options(std::move(credentials), settings)) {
  collect(registry);
}

ApiServer::~ApiServer() { stop(); }

void ApiServer::collect(metrics::Registry& registry) {
  latency_ = registry.histogram("tallygate_operator_api_request_seconds",
                                "API requests, from the complete head to the answer.", metrics::latency_buckets());
  collectors_.push_back(registry.collect([this](metrics::Scrape& scrape) {
    const auto count = [&](const char* name, const char* help, const std::atomic<uint64_t>& value) {
      scrape.counter(name, help, {}, static_cast<double>(value.load(std::memory_order_relaxed)));
    };
    count("tallygate_operator_api_unauthenticated_total", "API requests without valid credentials.",
          front_.stats().unauthenticated);
    count("tallygate_operator_api_forbidden_total", "API requests beyond their credentials' scopes or tenants.",
          front_.stats().forbidden);
    count("tallygate_operator_api_rate_limited_total", "API requests above their tenant's rate.",
          front_.stats().rate_limited);
    count("tallygate_operator_api_operations_total", "Operations on wallets that were run in rounds.",
          wallet_operations_.stats().operations);
    count("tallygate_operator_api_rounds_total", "Rounds of operations: transactions that they shared.",
          wallet_operations_.stats().rounds);
    count("tallygate_operator_api_rollbacks_total", "Transactions that the database undid and that were repeated.",
          pool_.stats().rollbacks);
    count("tallygate_operator_api_in_doubt_total", "Commits whose answer was lost and that were repeated by key.",
          pool_.stats().in_doubt);
    count("tallygate_operator_api_pool_exhausted_total", "Requests that found no free connection in time.",
          pool_.stats().exhausted);
  }));
}

Result<void> ApiServer::start() {
  http::Router router;
  front_.add_routes(router);
  http::ServerOptions options;
  options.host = settings_.listen->host;
  options.port = settings_.listen->port;
  options.tls = {settings_.tls_certificate_file, settings_.tls_key_file};
  options.worker_threads = static_cast<int>(settings_.workers);
  options.body_bytes_max = static_cast<size_t>(settings_.body_bytes_max);
  if (!settings_.providers_file.empty())
    options.body_bytes_max = std::max(options.body_bytes_max, kProviderBodyBytesMax);
  options.on_completed = [this](const http::Completed& done) {
    latency_.observe(static_cast<double>(done.duration_ns) / 1e9);
  };
  auto server = http::Server::start(std::move(options), std::move(router), env_);
  if (!server) return tl::unexpected(server.error());
  server_ = std::move(*server);
  log::info("the API listens", {{"address", server_->address()}, {"tls", !settings_.tls_certificate_file.empty()}});
  return {};
}

void ApiServer::stop() {
  if (!server_) return;
  server_->drain(settings_.drain_ms);
  server_.reset();
}

std::string ApiServer::address() const { return server_ ? server_->address() : ""; }
uint16_t ApiServer::port() const { return server_ ? server_->port() : uint16_t{0}; }

}  // namespace tallygate::api
