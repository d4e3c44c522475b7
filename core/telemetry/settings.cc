#include "core/telemetry/settings.h"

namespace tallygate::telemetry {

void declare(config::OptionSet& options, Settings& settings, const std::string& admin_default) {
  options.add("admin", &settings.admin_listen, config::listen_address())
      .env()
      .fallback(admin_default)
      .help("address for metrics and health; not for the public");
  options.add("admin-connections-per-address", &settings.admin_connections_per_address, config::integer(1, 256))
      .env()
      .fallback("64")
      .help("connections of one client to --admin; of more, the one goes that has waited longest");
  options.add("core-dumps", &settings.core_dumps, config::boolean())
      .env()
      .fallback("false")
      .help("let a crash write a core file, which holds every secret, and debuggers attach");
  declare_log(options, settings);
}

void declare_log(config::OptionSet& options, Settings& settings) {
  options
      .add("log-level", &settings.log_level,
           config::one_of<log::Level>({{"debug", log::Level::kDebug},
                                       {"info", log::Level::kInfo},
                                       {"warn", log::Level::kWarn},
                                       {"error", log::Level::kError},
                                       {"off", log::Level::kOff}}))
      .env()
      .fallback("info")
      .help("least important lines to write");
  options
      .add("log-format", &settings.log_format,
           config::one_of<log::Format>(
               {{"auto", log::Format::kAuto}, {"json", log::Format::kJson}, {"text", log::Format::kText}}))
      .env()
      .fallback("auto")
      .help("auto is text on a terminal, else JSON, one object a line");
}

}  // namespace tallygate::telemetry
