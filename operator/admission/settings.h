// The settings of the webhook and of the sidecars that it injects: flags of `tallygate-operator run`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config/options.h"
#include "operator/admission/inject.h"

namespace tallygate::admission {

struct AdmissionSettings {
  std::optional<config::ListenAddress> listen;  // absent: no webhook
  std::string certificates;                     // a folder; empty: self-made
  config::ObjectName service, secret;
  std::string configuration;
  InjectorSettings injector;
};
// `settings` outlives the parse.
void declare_admission(config::OptionSet& options, AdmissionSettings& settings);

// The names that the service has within the cluster.
std::vector<std::string> dns_names(const config::ObjectName& service);

}  // namespace tallygate::admission
