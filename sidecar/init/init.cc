#include "sidecar/init/init.h"

#include <cstdlib>
#include <set>

#include "core/env.h"
#include "sidecar/init/nftables.h"

namespace tallygate::sidecar {
namespace {

constexpr const char* kRemedy =
    "the container needs the capability NET_ADMIN and a kernel with nf_tables; where the namespace forbids that, use the "
    "capture mode Unprivileged";

config::Parser<Redirect> redirect() {
  const auto port = config::integer(1, 65535);
  return {[port](std::string_view in) -> config::Parsed<Redirect> {
            const size_t colon = in.find(':');
            const auto from = port(in.substr(0, colon));
            const auto to = colon == std::string_view::npos ? from : port(in.substr(colon + 1));
            if (colon == std::string_view::npos || !from || !to) {
              return config::refuse(config::quoted(in) + " is no pair of ports", "write APP_PORT:SIDECAR_PORT such as 8080:15006");
            }
            return Redirect{static_cast<uint16_t>(*from), static_cast<uint16_t>(*to)};
          },
          "APP_PORT:SIDECAR_PORT"};
}

std::optional<config::Refusal> conflict(const std::vector<Redirect>& redirects) {
  std::set<uint16_t> captured;
  for (const auto& [from, to] : redirects) {
    if (!captured.insert(from).second) {
      return config::Refusal{"port " + std::to_string(from) + " is captured twice", "name each port of the app once"};
    }
  }
  for (const auto& [from, to] : redirects) {
    if (captured.contains(to)) {
      return config::Refusal{"port " + std::to_string(to) + " is captured and the sidecar's own",
                             "let the sidecar listen on a port that the app does not use"};
    }
  }
  return std::nullopt;
}

Result<void> capture(const InitSettings& settings) {
  auto nftables = Nftables::load();
  if (!nftables) return tl::unexpected(nftables.error());
  if (!settings.check_only) {
    if (auto written = (*nftables)->run(ruleset(settings.capture)); !written) return tl::unexpected(written.error());
  }
  auto told = (*nftables)->run(std::string("list table inet ") + kCaptureTable);
  if (!told) return tl::unexpected(told.error());
  return verify(settings.capture, *told);
}

}  // namespace

void declare_init(config::OptionSet& options, InitSettings& s) {
  using namespace config;
  options.describe(
      "Sends new inbound TCP connections of this network namespace, IPv4 and IPv6, to the sidecar, and reads the rules back. "
      "For an init container with the capability NET_ADMIN; it may run any number of times.");
  options.add("capture", &s.capture, list_of(redirect()))
      .env()
      .required()
      .help("the app's ports, and where the sidecar listens for each: 8080:15006,9090:15007");
  options.add("check", &s.check_only, boolean())
      .env("TALLYGATE_INIT_CHECK")
      .fallback("false")
      .help("change nothing; say whether the redirects are in force");
  telemetry::declare_log(options, s.telemetry);
  options.check("capture", [&s] { return conflict(s.capture); });
}

int run_init(const InitSettings& settings) {
  log::start({settings.telemetry.log_level, settings.telemetry.log_format}, system_env());
  const auto captured = capture(settings);
  for (const auto& [from, to] : settings.capture) {
    if (captured) log::info("inbound connections go to the sidecar", {{"port", from}, {"sidecar_port", to}});
  }
  if (!captured) {
    log::error(settings.check_only ? "inbound traffic is not captured" : "inbound traffic cannot be captured",
               {{"error", captured.error().message}, {"remedy", kRemedy}});
  }
  log::stop();
  return captured ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace tallygate::sidecar
