// The API as one thing to start and stop: connection pool, recall, front, HTTP server. Credentials and the TLS pair are
// read again when their files change.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/env.h"
#include "core/http/server.h"
#include "core/redis_client/url.h"
#include "core/result.h"
#include "core/telemetry/health.h"
#include "core/telemetry/metrics.h"
#include "operator/api/combiner.h"
#include "operator/api/credentials.h"
#include "operator/api/directory.h"
#include "operator/api/file_watch.h"
#include "operator/api/front.h"
#include "operator/api/pool.h"
#include "operator/api/request_metrics.h"
#include "operator/api/settings.h"

namespace tallygate::api {

class ApiServer {
 public:
  // Reads the credentials' files. `env` outlives it. Without `redis` no float is recalled. With `history`, nothing is
  // answered from a ledger that has gone back to a backup. `payments` outlives it; without it there is nothing of Stripe's.
  // `admin_database_url`: the login that adjustments are made by, where `database_url`'s may not; empty: it may. kInvalid:
  // the settings or the files are wrong.
  static Result<std::unique_ptr<ApiServer>> create(Env& env, std::string database_url,
                                                   std::optional<redis::Endpoint> redis, const ApiSettings& settings,
                                                   metrics::Registry& registry,
                                                   std::shared_ptr<const ledger::History> history = nullptr,
                                                   stripe::Payments* payments = nullptr,
                                                   std::string admin_database_url = "");
  ~ApiServer();

  // Takes what the manifests say from now on. Any thread.
  void offer(std::shared_ptr<const plan::Compiled> compiled) { directory_.offer(std::move(compiled)); }
  // For probes; any thread. nullopt: it can serve.
  std::optional<std::string> not_ready() const;
  telemetry::ServiceHealth health() const;
  // Listens before it returns.
  Result<void> start();
  // Not ready from now on, though it serves.
  void announce_stop() { stopping_ = true; }
  // Requests under way end, for at most the settings' drain time. Idempotent.
  void stop();
  std::string address() const;
  uint16_t port() const;

 private:
  ApiServer(Env& env, std::string database_url, std::optional<redis::Endpoint> redis, const ApiSettings& settings,
            metrics::Registry& registry, std::shared_ptr<const ledger::History> history,
            stripe::Payments* payments, std::string admin_database_url);
  Result<void> load(metrics::Registry& registry);
  void follow_files();
  void collect(metrics::Registry& registry);

  Env& env_;
  const ApiSettings settings_;
  CredentialStore credentials_;
  const ExchangeRates rates_;
  Directory directory_;
  Pool pool_;
  std::unique_ptr<Pool> admin_pool_;  // null: pool_ serves adjustments too
  Combiner wallet_operations_, status_checks_;
  escrow::Recaller recaller_;
  const OperationMetrics operations_;
  Front front_;
  RequestMetrics requests_;
  std::atomic<bool> listening_ = false, stopping_ = false;
  std::unique_ptr<http::Server> server_;     // there for good once listening_
  std::vector<std::string> provider_files_;  // the watch's, once it has started
  FileWatch files_;
  Ticker pool_check_;
  std::vector<std::shared_ptr<metrics::Registry::Collector>> collectors_;
};

}  // namespace tallygate::api
