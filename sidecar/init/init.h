// `tallygate-sidecar init`: captures inbound traffic of the network namespace it runs in, and proves that it does.
#pragma once

#include <vector>

#include "core/config/options.h"
#include "core/telemetry/settings.h"
#include "sidecar/init/ruleset.h"

namespace tallygate::sidecar {

struct InitSettings {
  std::vector<Redirect> capture;
  bool check_only = false;
  telemetry::Settings telemetry;
};

// `settings` must outlive the parse.
void declare_init(config::OptionSet& options, InitSettings& settings);

// Idempotent. → the exit code: 0 where the redirects are in force, 1 where they are not.
int run_init(const InitSettings& settings);

}  // namespace tallygate::sidecar
