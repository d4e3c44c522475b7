// What `tallygate-sidecar run` is told.
#pragma once

#include <optional>
#include <string>

#include "core/config/options.h"
#include "core/redis_client/url.h"
#include "core/telemetry/settings.h"
#include "sidecar/escrow/ledger_client.h"
#include "sidecar/log/usage_log.h"
#include "sidecar/probes/relay.h"
#include "sidecar/proxy/options.h"

namespace tallygate::sidecar {

struct Settings {
  telemetry::Settings telemetry;
  config::ListenAddress listen;
  std::string upstream;
  config::ObjectName policy;
  config::Url redis_url;
  std::string redis_url_path;  // the file that it came from; empty: none
  std::string redis_ca_file;
  bool redis_insecure = false;
  std::string api_key_pepper_file;
  std::string api_key_pepper;  // of the file, filled by the check of the settings; empty: none
  std::string publication_key_file;  // empty: what is published in Redis is believed
  std::optional<config::Url> ledger_url;  // absent: no leases from the ledger
  std::string ledger_token_file, ledger_ca_file;
  std::string data_dir;
  int64_t log_bytes_max = 0;
  AppProbes app_probes;
  int64_t keep_booked_ms = 0, keep_booked_bytes = 0;  // how long records stay on disk after the ledger has booked them
  std::string pod;
  int64_t admission_wait_ms = 0;
  int64_t drain_delay_ms = 0;  // between "not ready" and the listener's end
  int64_t settle_ms = 0;  // after the last request: how long a drain may wait for the ledger
  proxy::Options proxy;

  std::string policy_id() const { return policy.space + "/" + policy.name; }
};

// `settings` must outlive the parse.
void declare(config::OptionSet& options, Settings& settings);

LogLimits log_limits(const Settings& settings);
// The Redis endpoint that the settings name.
Result<redis::Endpoint> redis_endpoint(const Settings& settings);
// The operator's endpoint; `ledger_url` is given.
LedgerEndpoint ledger_endpoint(const Settings& settings);

}  // namespace tallygate::sidecar
