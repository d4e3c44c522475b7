// The settings that both binaries share.
#pragma once

#include "core/config/options.h"
#include "core/telemetry/log.h"

namespace tallygate::telemetry {

struct Settings {
  log::Level log_level = log::Level::kInfo;
  log::Format log_format = log::Format::kAuto;
  config::ListenAddress admin_listen;
  int64_t admin_connections_per_address = 64;
  bool core_dumps = false;
};

// `settings` must outlive the parse. `admin_default` such as ":9090".
void declare(config::OptionSet& options, Settings& settings, const std::string& admin_default);
// The two of the log alone, for commands that serve nothing.
void declare_log(config::OptionSet& options, Settings& settings);

}  // namespace tallygate::telemetry
