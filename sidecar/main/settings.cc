#include "sidecar/main/settings.h"

#include <unistd.h>

#include "core/ids.h"
#include "sidecar/proxy/address.h"

namespace tallygate::sidecar {
namespace {

// A pod's name becomes part of its incarnations' names: [a-z0-9.-].
std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  std::string clean;
  for (const char* c = name; *c != 0 && clean.size() < 60; ++c) {
    const char lower = *c >= 'A' && *c <= 'Z' ? static_cast<char>(*c + 32) : *c;
    clean += (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') ? lower : '-';
  }
  while (!clean.empty() && clean.back() == '-') clean.pop_back();
  while (!clean.empty() && clean.front() == '-') clean.erase(0, 1);
  return clean.empty() ? "sidecar" : clean;
}

config::Parser<std::string> upstream_address() {
  const auto by_name = config::host_port();
  return {[by_name](std::string_view text) -> config::Parsed<std::string> {
            if (proxy::parse_address(text) || (!text.starts_with("unix:") && by_name(text))) return std::string(text);
            return config::refuse(config::quoted(text) + " is not an address",
                                  "write HOST:PORT such as 127.0.0.1:8080, [::1]:8080 or app:8080, or unix:/path");
          },
          "HOST:PORT|unix:/PATH"};
}

config::Parser<std::optional<config::Url>> ledger_address() {
  const auto base = config::url({"http", "https"});
  return {[base](std::string_view text) -> config::Parsed<std::optional<config::Url>> {
            auto url = base(text);
            if (!url) return tl::unexpected<config::Refusal>(std::move(url.error()));
            if (!url->user.empty() || !url->query.empty()) {
              return config::refuse("the URL has a user or a query", "write http://HOST[:PORT] or https://HOST[:PORT]");
            }
            return std::optional(std::move(*url));
          },
          base.placeholder, base.holds_secret};
}

config::Parser<std::string> pod_name() {
  return {[](std::string_view text) -> config::Parsed<std::string> {
            if (text.size() <= 60 && is_dns_subdomain(text)) return std::string(text);
            return config::refuse(config::quoted(text) + " is not a pod name",
                                  "write at most 60 lower-case letters, digits, '-' and '.'");
          },
          "NAME"};
}

}  // namespace

void declare(config::OptionSet& options, Settings& s) {
  using namespace config;
  options.describe(
      "Stands in front of one app: identifies the tenant of each request, checks its quota before forwarding, meters "
      "the "
      "response, and reports usage.");
  options.add("listen", &s.listen, listen_address())
      .env()
      .required()
      .help("where clients connect: IP:PORT, NAME:PORT or :PORT for every address; port 0: any free one");
  options.add("upstream", &s.upstream, upstream_address())
      .env()
      .required()
      .help("the app; a name is looked up again while the sidecar runs");
  telemetry::declare(options, s.telemetry, "127.0.0.1:9902");
  options.add("policy", &s.policy, object_name()).env().required().help("the BillingPolicy to enforce");
  options.add("redis-url", &s.redis_url, url({"redis", "rediss", "unix"}))
      .env()
      .required()
      .help("where quotas are leased");
  options.add("redis-ca-file", &s.redis_ca_file, file(Must::kExist))
      .env()
      .help("certificate authorities for rediss://; default: the system's");
  options.add("ledger-url", &s.ledger_url, ledger_address())
      .env()
      .help("the operator's API, where units are leased while Redis is away; without it there is onUnavailable only");
  options.add("ledger-token-file", &s.ledger_token_file, file(Must::kExist))
      .env()
      .help("a service token with the scope lease:write; read again when it changes");
  options.add("ledger-ca-file", &s.ledger_ca_file, file(Must::kExist))
      .env()
      .help("certificate authorities for https://; default: the system's");
  options.add("data-dir", &s.data_dir, directory())
      .env()
      .required()
      .help("the usage log's folder: it must survive a restart of this process, and belong to it alone");
  options.add("pod-name", &s.pod, pod_name())
      .env("POD_NAME")
      .fallback(host_name())
      .help("how this instance is called in records");
  options.add("admission-wait", &s.admission_wait_ms, duration_ms(10, 60'000))
      .env()
      .fallback("1s")
      .help("how long a request may wait for its tenant or its units before onUnavailable decides");
  options.add("settle-timeout", &s.settle_ms, duration_ms(0, 600'000))
      .env()
      .fallback("10s")
      .help(
          "at the end, how long to wait until the ledger has booked everything; what is left stays in the data folder");
  options.add("drain-timeout", &s.proxy.drain_ms, duration_ms(0, 3'600'000))
      .env()
      .fallback("30s")
      .help("how long requests in flight may take after SIGTERM");
  options.add("client-head-timeout", &s.proxy.timeouts.client_head_ms, duration_ms(100))
      .env()
      .fallback("10s")
      .help("for a request's head to arrive");
  options.add("client-idle-timeout", &s.proxy.timeouts.client_idle_ms, duration_ms(100))
      .env()
      .fallback("75s")
      .help("between requests of a connection");
  options.add("upstream-connect-timeout", &s.proxy.timeouts.upstream_connect_ms, duration_ms(10))
      .env()
      .fallback("5s")
      .help("to reach the app");
  options.add("upstream-response-timeout", &s.proxy.timeouts.upstream_head_ms, duration_ms(10))
      .env()
      .fallback("5m")
      .help("for the app to begin its response");
  options.add("max-connections", &s.proxy.client_connections_max, integer_as<size_t>(1, 1'000'000))
      .env()
      .fallback("10000")
      .help("of clients; one more is answered 503");
  options.check("redis-url", [&s]() -> std::optional<Refusal> {
    auto endpoint = redis_endpoint(s);
    if (endpoint) return std::nullopt;
    return Refusal{"the URL cannot be used", endpoint.error().message};
  });
  options.check("ledger-url", [&s]() -> std::optional<Refusal> {
    if (!s.ledger_url || s.ledger_url->scheme == "https" || is_loopback(s.ledger_url->host)) return std::nullopt;
    return Refusal{"the token would go over plain HTTP", "write https://, or an address on 127.0.0.1"};
  });
  options.check("ledger-token-file", [&s]() -> std::optional<Refusal> {
    if (s.ledger_url.has_value() != s.ledger_token_file.empty()) return std::nullopt;
    return Refusal{"URL and token come together", "give both --ledger-url and --ledger-token-file"};
  });
}

Result<redis::Endpoint> redis_endpoint(const Settings& settings) {
  auto endpoint = redis::parse_url(settings.redis_url.text);
  if (endpoint) endpoint->ca_file = settings.redis_ca_file;
  return endpoint;
}

LedgerEndpoint ledger_endpoint(const Settings& settings) {
  const config::Url& url = *settings.ledger_url;
  LedgerEndpoint endpoint;
  endpoint.address.tls = url.scheme == "https";
  endpoint.address.scheme = url.scheme;
  endpoint.address.host = url.host;
  endpoint.address.port = url.port != 0 ? url.port : endpoint.address.tls ? 443 : 80;
  endpoint.address.ca_file = settings.ledger_ca_file;
  endpoint.host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
  if (url.port != 0) endpoint.host += ":" + std::to_string(url.port);
  endpoint.path = url.path.ends_with('/') ? url.path.substr(0, url.path.size() - 1) : url.path;
  endpoint.token_file = settings.ledger_token_file;
  return endpoint;
}

}  // namespace tallygate::sidecar
