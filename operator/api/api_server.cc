#include "operator/api/api_server.h"

#include <algorithm>
#include <thread>

#include "core/telemetry/log.h"

namespace tallygate::api {
namespace {

PoolOptions pool_options(std::string url, const ApiSettings& settings, std::shared_ptr<const ledger::History> history) {
  return {.database_url = std::move(url),
          .connections_max = static_cast<size_t>(settings.connections),
          .deadline_ms = settings.deadline_ms,
          .pooled = settings.database_pooled,
          .history = std::move(history)};
}

// Adjustments are few, and each is somebody's decision.
PoolOptions admin_options(std::string url, const ApiSettings& settings, std::shared_ptr<const ledger::History> history) {
  PoolOptions options = pool_options(std::move(url), settings, std::move(history));
  options.connections_max = std::min<size_t>(options.connections_max, 2);
  options.pooled = false;  // it is the operator's own way
  return options;
}

// As many rounds at once as there are pairs of cores: each keeps one of PostgreSQL's processes busy, and leaves a core
// to what asks. With more the rounds are smaller, an operation costs half as much again, and the slowest wait for
// longer.
CombinerOptions combiner_options(const char* statement, const ApiSettings& settings) {
  // What waits for locked wallets must leave connections to everybody else.
  const auto rounds_max = static_cast<size_t>(std::clamp<int64_t>(settings.connections / 2, 1, 8));
  const size_t rounds = std::clamp<size_t>(std::thread::hardware_concurrency() / 2, 1, rounds_max);
  return {.statement = statement, .rounds = rounds, .rounds_max = rounds_max};
}

FrontOptions front_options(const ApiSettings& settings) {
  FrontOptions options;
  options.rate_limit = {settings.rate_per_second, settings.rate_burst};
  options.deadline_ms = settings.deadline_ms;
  options.body_bytes_max = static_cast<size_t>(settings.body_bytes_max);
  return options;
}

void collect_server(metrics::Scrape& scrape, const http::ServerStats& stats) {
  const auto count = [&](const char* name, const char* help, uint64_t value) {
    scrape.counter(name, help, {}, static_cast<double>(value));
  };
  count("tallygate_operator_api_connections_refused_total", "Connections past the limit.",
        stats.connections_refused_total);
  count("tallygate_operator_api_connections_gave_way_total",
        "Connections closed while they waited for a request, to make room.", stats.connections_gave_way_total);
  count("tallygate_operator_api_malformed_total", "Requests that were no HTTP, or too large.",
        stats.requests_malformed_total);
  count("tallygate_operator_api_overload_total", "Requests answered 503: too many waited, or one waited for too long.",
        stats.requests_overload_total);
  count("tallygate_operator_api_handshake_failures_total", "TLS handshakes that came to nothing.",
        stats.handshakes_failed_total);
  scrape.gauge("tallygate_operator_api_connections", "Open connections.", {},
               static_cast<double>(stats.connections_open));
  scrape.gauge("tallygate_operator_api_body_bytes", "Memory that requests' bodies hold, small ones aside.", {},
               static_cast<double>(stats.bodies_bytes));
  scrape.gauge("tallygate_operator_api_queued_requests", "Requests that wait for their turn.", {},
               static_cast<double>(stats.queue_length));
}

}  // namespace

Result<std::unique_ptr<ApiServer>> ApiServer::create(Env& env, std::string database_url,
                                                     std::optional<redis::Endpoint> redis, const ApiSettings& settings,
                                                     metrics::Registry& registry,
                                                     std::shared_ptr<const ledger::History> history,
                                                     stripe::Payments* payments, std::string admin_database_url) {
  if (const auto rates = ExchangeRates::of(settings.exchange_rates); !rates) return tl::unexpected(rates.error());
  auto server = std::unique_ptr<ApiServer>(
      new ApiServer(env, std::move(database_url), std::move(redis), settings, registry, std::move(history), payments,
                    std::move(admin_database_url)));
  if (auto loaded = server->load(registry); !loaded) return tl::unexpected(loaded.error());
  return server;
}

ApiServer::ApiServer(Env& env, std::string database_url, std::optional<redis::Endpoint> redis,
                     const ApiSettings& settings, metrics::Registry& registry,
                     std::shared_ptr<const ledger::History> history, stripe::Payments* payments,
                     std::string admin_database_url)
    : env_(env),
      settings_(settings),
      credentials_(Credentials{}),
      rates_(ExchangeRates::of(settings.exchange_rates).value_or(ExchangeRates{})),
      pool_(env, pool_options(std::move(database_url), settings, history)),
      admin_pool_(admin_database_url.empty()
                      ? nullptr
                      : std::make_unique<Pool>(env, admin_options(std::move(admin_database_url), settings, history))),
      wallet_operations_(
          env, pool_, combiner_options("select (b.r).*, b.n from wallet_operate($1::wallet_operation[]) b", settings)),
      status_checks_(env, pool_, combiner_options("select * from status_checks($1::status_question[])", settings)),
      recaller_(env, std::move(redis)),
      operations_(registry),
      front_(Services{env, pool_, admin_pool_ ? *admin_pool_ : pool_, wallet_operations_, status_checks_, directory_,
                      recaller_, rates_, settings.quote_lifetime_ms, operations_, payments},
             credentials_, front_options(settings)),
      requests_(registry),
      files_(env, settings.watch_interval_ms, registry),
      pool_check_(env, settings.watch_interval_ms, [this] { pool_.check(); }) {
  follow_files();
  collect(registry);
}

// Before the first load, so that no change is missed.
void ApiServer::follow_files() {
  const auto key_file = settings_.jwks_file.empty() ? settings_.jwt_public_key_file : settings_.jwks_file;
  if (!key_file.empty()) {
    files_.follow("jwt_keys", {key_file}, [this]() -> Result<void> {
      auto keys = load_jwt_keys(settings_);
      if (!keys) return tl::unexpected(keys.error());
      credentials_.change([&](Credentials& next) { next.jwt_keys = std::move(*keys); });
      return {};
    });
  }
  if (!settings_.service_tokens_file.empty()) {
    files_.follow("service_tokens", {settings_.service_tokens_file}, [this]() -> Result<void> {
      auto tokens = load_service_tokens(settings_);
      if (!tokens) return tl::unexpected(tokens.error());
      credentials_.change([&](Credentials& next) { next.service_tokens = std::move(*tokens); });
      return {};
    });
  }
  if (!settings_.tls_certificate_file.empty()) {
    files_.follow("tls", {settings_.tls_certificate_file, settings_.tls_key_file},
                  [this] { return server_->reload_tls(); });
  }
}

Result<void> ApiServer::load(metrics::Registry& registry) {
  auto credentials = load_credentials(settings_);
  if (!credentials) return tl::unexpected(credentials.error());
  credentials_.change([&](Credentials& next) { next = std::move(*credentials); });
  if (settings_.providers_file.empty()) return {};
  const auto load_them = [this, &registry]() -> Result<void> {
    auto providers = load_providers(settings_, registry, &provider_files_);
    if (!providers) return tl::unexpected(providers.error());
    credentials_.change([&](Credentials& next) { next.providers = std::move(*providers); });
    return {};
  };
  if (auto loaded = load_them(); !loaded) return loaded;
  // Read to know which secrets' files there are, and again once they are followed, so that no change is missed.
  files_.follow(
      "providers", [this] { return provider_files_; }, load_them);
  return load_them();
}

std::optional<std::string> ApiServer::not_ready() const {
  if (stopping_) return "it is stopping";
  if (!listening_) return "it does not listen yet";
  if (!directory_.snapshot()) return "the manifests are not loaded yet";
  if (std::string trouble = pool_.trouble(); !trouble.empty()) return trouble;
  return std::nullopt;
}

telemetry::ServiceHealth ApiServer::health() const {
  using telemetry::ServiceState;
  if (auto reason = not_ready()) return {listening_ ? ServiceState::kDegraded : ServiceState::kDown, *reason};
  if (std::string trouble = files_.trouble(); !trouble.empty()) return {ServiceState::kDegraded, trouble};
  return {};
}

ApiServer::~ApiServer() { stop(); }

void ApiServer::collect(metrics::Registry& registry) {
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
    if (listening_) collect_server(scrape, server_->stats());
  }));
}

Result<void> ApiServer::start() {
  http::Router router;
  front_.add_routes(router);
  http::ServerOptions options;
  options.host = settings_.listen->host;
  options.port = settings_.listen->port;
  options.tls = {settings_.tls_certificate_file, settings_.tls_key_file};
  options.io_threads = static_cast<int>(settings_.io_threads);
  options.worker_threads = static_cast<int>(settings_.workers);
  options.body_bytes_max = static_cast<size_t>(settings_.body_bytes_max);
  options.bodies_bytes_max = static_cast<size_t>(settings_.bodies_bytes_max);
  options.connections_per_address_max = static_cast<size_t>(settings_.connections_per_address);
  options.trusted_proxies = settings_.trusted_proxies;
  options.head_timeout_ms = settings_.head_timeout_ms;
  options.body_timeout_ms = settings_.body_timeout_ms;
  // Who waits has at least half of its time left for the work. One caller cannot have all workers, so that one whose
  // wallet is locked does not stop the others.
  options.queue_timeout_ms = settings_.deadline_ms / 2;
  options.request_ids = true;
  options.lane_of = lane_of;
  options.running_per_lane_max = static_cast<size_t>(std::max<int64_t>(1, settings_.workers * 3 / 4));
  options.on_completed = [this](const http::Completed& done) { requests_.count(done); };
  wallet_operations_.start();
  status_checks_.start();
  auto server = http::Server::start(std::move(options), std::move(router), env_);
  if (!server) return tl::unexpected(server.error());
  server_ = std::move(*server);
  listening_ = true;
  files_.start();
  pool_check_.start();
  log::info("the API listens", {{"address", server_->address()}, {"tls", !settings_.tls_certificate_file.empty()}});
  return {};
}

void ApiServer::stop() {
  announce_stop();
  if (!server_) return;
  server_->drain(settings_.drain_ms);
  wallet_operations_.stop();
  status_checks_.stop();
  files_.stop();
  pool_check_.stop();
}

std::string ApiServer::address() const { return server_ ? server_->address() : ""; }
uint16_t ApiServer::port() const { return server_ ? server_->port() : uint16_t{0}; }

}  // namespace tallygate::api
