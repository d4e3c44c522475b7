// The API as one thing to start and stop: connection pool, recall, front, HTTP server.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/env.h"
#include "core/http/server.h"
#include "core/redis_client/url.h"
#include "core/result.h"
#include "core/telemetry/metrics.h"
#include "operator/api/combiner.h"
#include "operator/api/directory.h"
#include "operator/api/front.h"
#include "operator/api/pool.h"
#include "operator/api/settings.h"

namespace tallygate::api {

class ApiServer {
 public:
  // Reads the credentials' files. `env` outlives it. Without `redis` no float is recalled. kInvalid: the settings or
  // the files are wrong.
  static Result<std::unique_ptr<ApiServer>> create(Env& env, std::string database_url,
                                                   std::optional<redis::Endpoint> redis, const ApiSettings& settings,
                                                   metrics::Registry& registry);
  ~ApiServer();

  // Takes what the manifests say from now on. Any thread.
  void offer(std::shared_ptr<const plan::Compiled> compiled) { directory_.offer(std::move(compiled)); }
  // Listens before it returns.
  Result<void> start();
  // Requests under way end, for at most the settings' drain time. Idempotent.
  void stop();
  std::string address() const;
  uint16_t port() const;

 private:
  ApiServer(Env& env, std::string database_url, std::optional<redis::Endpoint> redis, const ApiSettings& settings,
            Credentials credentials, metrics::Registry& registry);
  void collect(metrics::Registry& registry);

  Env& env_;
  const ApiSettings settings_;
  Directory directory_;
  Pool pool_;
  Combiner wallet_operations_, status_checks_;
  escrow::Recaller recaller_;
  Front front_;
  metrics::Histogram latency_;
  std::vector<std::shared_ptr<metrics::Registry::Collector>> collectors_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace tallygate::api
