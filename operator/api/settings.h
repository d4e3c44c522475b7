// The API's settings: off unless --api says where to listen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/address.h"
#include "core/config/options.h"
#include "core/exchange.h"
#include "core/result.h"

namespace tallygate::api {

struct ApiSettings {
  std::optional<config::ListenAddress> listen;  // absent: no API
  config::Url database_url;                     // empty: the operator's
  std::string tls_certificate_file, tls_key_file;
  bool insecure = false;
  std::string jwks_file, jwt_secret, jwt_public_key_file, jwt_issuer, jwt_audience, jwt_tenant_claim, jwt_type;
  std::string jwt_scope_prefix = "tallygate:";
  bool jwt_privileged = false;
  int64_t jwt_leeway_ms = 30'000;
  std::string service_tokens_file, providers_file;
  int64_t io_threads = 2;
  bool database_pooled = false;
  int64_t connections = 16, workers = 128, rate_per_second = 200, rate_burst = 400;
  int64_t deadline_ms = 5'000, drain_ms = 10'000;
  int64_t body_bytes_max = 256 * 1024, bodies_bytes_max = 64 * 1024 * 1024;
  int64_t connections_per_address = 1024;
  std::vector<Network> trusted_proxies;
  int64_t watch_interval_ms = 1'000;  // of files that may change, and of the database
  int64_t head_timeout_ms = 10'000, body_timeout_ms = 30'000;
  std::vector<QuotedPair> exchange_rates;
  int64_t quote_lifetime_ms = 900'000;
};

// `settings` outlives the parse.
void declare_api(config::OptionSet& options, ApiSettings& settings);

}  // namespace tallygate::api
