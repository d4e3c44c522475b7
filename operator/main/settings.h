// The settings of `tallygate-operator`'s commands: flags, environment, file. Declared once; every fault is told at
// once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config/options.h"
#include "core/redis_client/url.h"
#include "core/telemetry/settings.h"
#include "operator/admission/settings.h"
#include "operator/api/settings.h"
#include "operator/ledger/settings.h"
#include "operator/source/acceptance.h"
#include "operator/stripe/settings.h"

namespace tallygate::operator_main {

enum class Role : uint8_t { kController, kPipeline };
enum class Stripe : uint8_t { kEnabled, kDisabled };

struct RunSettings {
  telemetry::Settings telemetry;
  config::Tagged source;
  source::AcceptanceOptions acceptance;
  std::vector<std::string> secret_namespaces;
  config::Url redis_url;
  std::string redis_ca_file;
  bool redis_insecure = false;
  ledger::DatabaseSettings database;
  std::vector<Role> roles;
  bool migrate = false;
  int64_t float_units = 0;
  int64_t tenant_metrics = 0, metrics_interval_ms = 0;
  int64_t aggregate_interval_ms = 0, aggregate_lateness_ms = 0, submit_interval_ms = 0;
  Stripe stripe = Stripe::kEnabled;
  config::Url stripe_api_base;
  std::string stripe_api_key, stripe_version;
  stripe::PaymentSettings payments;
  api::ApiSettings api;
  std::string kubeconfig;  // empty: the pod's service account
  admission::AdmissionSettings admission;
  std::string api_key_pepper_file;
  std::string api_key_pepper;  // of the file, filled by the check of the settings; empty: none
  bool api_key_plain_hashes = true;
  std::string publication_key_file;  // empty: the ledger's own key signs
  std::vector<std::string> sidecar_namespaces;  // whose sidecars get credentials from us
  std::optional<config::Url> sidecar_redis_url;
  int64_t stripe_concurrency = 0, stripe_calls_per_second = 0, stripe_timeout_ms = 0;

  redis::Endpoint redis;  // of redis_url, filled by the check of the settings
  bool has(Role role) const;
};
// `settings` outlives the parse.
void declare_run(config::OptionSet& options, RunSettings& settings);

struct MigrateSettings {
  telemetry::Settings telemetry;
  ledger::DatabaseSettings database;
  int64_t wait_ms = 0;
};
void declare_migrate(config::OptionSet& options, MigrateSettings& settings);

// Of the commands `publication …`.
struct PublicationSettings {
  ledger::DatabaseSettings database;
  std::string key_file;  // `key` alone
  std::string actor;     // the others
};
void declare_publication_key(config::OptionSet& options, PublicationSettings& settings);
void declare_publication_change(config::OptionSet& options, const std::string& what, PublicationSettings& settings);

struct LedgerSettings {
  config::Url redis_url;
  std::string redis_ca_file;
  bool redis_insecure = false;
  ledger::DatabaseSettings database;
  std::string actor, reason;
  int64_t hear_ms = 0, gap_wait_ms = 0;
  bool force = false;

  redis::Endpoint redis;  // of redis_url, filled by the check of the settings
};
// `settings` outlives the parse.
void declare_ledger_status(config::OptionSet& options, LedgerSettings& settings);
void declare_ledger_recover(config::OptionSet& options, LedgerSettings& settings);

enum class Output : uint8_t { kTable, kJson };

struct VerifySettings {
  config::Url redis_url;
  std::string redis_ca_file;
  bool redis_insecure = false;
  ledger::DatabaseSettings database;
  Stripe stripe = Stripe::kEnabled;
  config::Url stripe_api_base;
  std::string stripe_api_key, stripe_version;
  int64_t stripe_timeout_ms = 0;
  Output output = Output::kTable;

  redis::Endpoint redis;  // of redis_url, filled by the check of the settings
};
void declare_verify(config::OptionSet& options, VerifySettings& settings);

}  // namespace tallygate::operator_main
