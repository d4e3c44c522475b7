#include "sidecar/main/settings.h"

#include <unistd.h>

#include <algorithm>

#include "core/api_key.h"
#include "core/file.h"
#include "core/ids.h"
#include "core/redis_contract/signature.h"
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
            // Of addresses alone, so that nothing is looked up here.
            const bool list = text.starts_with('[') && text.find_first_not_of("[]0123456789abcdefABCDEF.:,") == text.npos;
            if (list && proxy::look_up(text)) return std::string(text);
            return config::refuse(config::quoted(text) + " is not an address",
                                  "write HOST:PORT such as 127.0.0.1:8080, [::1]:8080 or app:8080, several addresses as "
                                  "[10.0.0.1,fd00::1]:8080, or unix:/path");
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

template <class T>
config::Parser<T> bytes(int64_t min, int64_t max) {
  auto base = config::byte_size(min, max);
  return {[base](std::string_view in) { return base(in).map([](int64_t v) { return static_cast<T>(v); }); },
          base.placeholder};
}

// What a client may send, and how fast.
void declare_limits(config::OptionSet& options, proxy::Options& p) {
  using namespace config;
  constexpr int64_t kMiB = 1 << 20;
  options.add("max-request-line-bytes", &p.limits.request_line_bytes_max, bytes<uint32_t>(1024, kMiB))
      .env()
      .fallback("8KiB")
      .help("of a request's first line; beyond: 414");
  options.add("max-head-bytes", &p.limits.request_head_bytes_max, bytes<uint32_t>(1024, kMiB))
      .env()
      .fallback("16KiB")
      .help("of a request's head; beyond: 431");
  options.add("max-response-head-bytes", &p.limits.response_head_bytes_max, bytes<uint32_t>(1024, kMiB))
      .env()
      .fallback("64KiB")
      .help("of the head of the app's response; beyond: 502");
  options.add("max-head-fields", &p.limits.fields_max, integer_as<uint32_t>(1, http1::kFieldsCapacity))
      .env()
      .fallback("100")
      .help("of a head or a trailer section; beyond: 431, or 502");
  options.add("max-trailer-bytes", &p.limits.trailer_bytes_max, bytes<uint32_t>(64, kMiB))
      .env()
      .fallback("8KiB")
      .help("of a message's trailer section; beyond: 400, or 502");
  options.add("max-body-bytes", &p.request_body_bytes_max, bytes<uint64_t>(0, INT64_MAX))
      .env()
      .fallback("0")
      .help("of a request's body; beyond: 413. 0: no limit");
  options.add("min-upload-rate", &p.upload_bytes_per_second_min, bytes<uint64_t>(0, 1024 * kMiB))
      .env()
      .fallback("0")
      .help("bytes a second, over 10 s, of a request's body; slower: 408. 0: --client-body-timeout alone");
  options.add("client-body-timeout", &p.timeouts.client_body_idle_ms, duration_ms(100))
      .env()
      .fallback("60s")
      .help("between bytes of a request's body; beyond: 408");
  options.add("linger-timeout", &p.timeouts.linger_ms, duration_ms(0, 600'000))
      .env()
      .fallback("30s")
      .help("how long a client that was answered before it had sent its whole body may go on sending");
}

// Connections, on both sides.
void declare_connections(config::OptionSet& options, proxy::Options& p) {
  using namespace config;
  options.add("max-connections", &p.client_connections_max, integer_as<size_t>(1, 1'000'000))
      .env()
      .fallback("10000")
      .help("of clients; for one more the longest idle is closed, and if none is idle, it is answered 503");
  options.add("max-connections-per-address", &p.connections_per_address_max, integer_as<size_t>(0, 1'000'000))
      .env()
      .fallback("5000")
      .help("the same among the clients of one IPv4 address or IPv6 /64. 0: no limit");
  options.add("max-pooled-connections", &p.upstream_pooled_max, integer_as<size_t>(0, 100'000))
      .env()
      .fallback("256")
      .help("idle connections to the app that are kept");
  options.add("pool-idle-timeout", &p.timeouts.upstream_pooled_ms, duration_ms(1))
      .env()
      .fallback("4s")
      .help("how long an idle connection to the app is kept: less than after which the app closes it");
  options.add("upstream-resend", &p.resend, boolean())
      .env()
      .fallback("true")
      .help(
          "whether an idempotent request is sent again when the app closes a kept connection without an answer; the "
          "app may see it "
          "twice and it is charged once");
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
      .help("the app; a name is looked up again while the sidecar runs; of several addresses, [A,B]:PORT, it is the first "
            "that takes a connection");
  telemetry::declare(options, s.telemetry, "127.0.0.1:9902");
  options.add("policy", &s.policy, object_name()).env().required().help("the BillingPolicy to enforce");
  options.add("redis-url", &s.redis_url, url({"redis", "rediss", "unix"}))
      .env()
      .required()
      .from_file(&s.redis_url_path)
      .help("where quotas are leased; another user or password in its file is used from the next connection on");
  options.add("redis-ca-file", &s.redis_ca_file, file(Must::kExist))
      .env()
      .help("certificate authorities for rediss://; default: the system's");
  options.add("redis-insecure", &s.redis_insecure, boolean())
      .env()
      .fallback("false")
      .help("speak to Redis in plain text off this machine too");
  options.add("publication-key-file", &s.publication_key_file, file())
      .env()
      .help("the operator's public keys (`tallygate-operator publication key`), followed: only what they signed is believed of "
            "what Redis holds; without it Redis is believed");
  options.add("api-key-pepper-file", &s.api_key_pepper_file, file(Must::kExist))
      .env()
      .help("the operator's --api-key-pepper-file: keys are looked up under their HMAC by it, then under their SHA-256");
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
  options.add("max-log-bytes", &s.log_bytes_max, byte_size(int64_t{8} << 20, int64_t{64} << 30))
      .env()
      .fallback("512MiB")
      .help("of usage that the ledger does not have yet; past that nothing is admitted");
  options.add("app-probes", &s.app_probes, app_probes())
      .env()
      .help("the app's probes that --admin relays, unmetered; written by the injecting webhook");
  options.add("keep-booked", &s.keep_booked_ms, duration_ms(0, int64_t{31} * 24 * 3'600'000))
      .env()
      .fallback("24h")
      .help(
          "how long usage stays in the data folder after it was booked, to be sent again should the ledger be restored "
          "from a backup; 0s: not at all");
  options.add("keep-booked-bytes", &s.keep_booked_bytes, byte_size(0, int64_t{1} << 40))
      .env()
      .fallback("64MiB")
      .help("at most so much of it: the oldest goes first");
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
  options.add("drain-delay", &s.drain_delay_ms, duration_ms(0, 600'000))
      .env()
      .fallback("0s")
      .help("after SIGTERM, how long to go on accepting while /readyz says no; a second SIGTERM ends it");
  options.add("drain-timeout", &s.proxy.drain_ms, duration_ms(0, 3'600'000))
      .env()
      .fallback("30s")
      .help("how long requests in flight may take after SIGTERM and --drain-delay");
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
  declare_limits(options, s.proxy);
  declare_connections(options, s.proxy);
  options.check("upstream", [&s]() -> std::optional<Refusal> {
    const auto app = host_port()(s.upstream);
    const std::string& here = s.listen.host;
    const bool every = here.empty() || here == "0.0.0.0" || here == "::";
    if (!app || s.listen.port != app->port || app->port == 0) return std::nullopt;
    if (app->host != here && !(is_loopback(app->host) && (every || is_loopback(here)))) return std::nullopt;
    return Refusal{"the app would be this sidecar itself: each request would come round again and be charged again",
                   "give the app's own port, another than --listen's"};
  });
  options.check("redis-url", [&s]() -> std::optional<Refusal> {
    auto endpoint = redis_endpoint(s);
    if (!endpoint) return Refusal{"the URL cannot be used", endpoint.error().message};
    if (s.redis_insecure || !endpoint->is_plain_off_this_machine()) return std::nullopt;
    return Refusal{redis::kPlainProblem, redis::kPlainFix};
  });
  options.check("api-key-pepper-file", [&s]() -> std::optional<Refusal> {
    if (s.api_key_pepper_file.empty()) return std::nullopt;
    auto pepper = read_pepper(s.api_key_pepper_file);
    if (!pepper) return Refusal{pepper.error().message, "give the file that the operator has"};
    s.api_key_pepper = std::move(*pepper);
    return std::nullopt;
  });
  options.check("publication-key-file", [&s]() -> std::optional<Refusal> {
    if (s.publication_key_file.empty()) return std::nullopt;
    const auto content = read_file(s.publication_key_file);
    if (!content && content.error().errc == Errc::kNotFound) return std::nullopt;  // a Secret may come later
    if (!content) return Refusal{content.error().message, "name a file of PEM public keys"};
    if (const auto keys = redis_contract::TrustedKeys::from_pem(*content); !keys) {
      return Refusal{keys.error().message, "write what `tallygate-operator publication key` prints"};
    }
    return std::nullopt;
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

// Half for slots, a quarter for records, of which there are some hundred bytes each; the rest for what both begin with.
LogLimits log_limits(const Settings& settings) {
  constexpr int64_t kSegmentBytes = 1 << 20, kRecordBytes = 512;
  LogLimits limits;
  limits.max_segments = static_cast<size_t>(settings.log_bytes_max / 2 / kSegmentBytes);
  limits.max_unacked = static_cast<size_t>(std::min<int64_t>(settings.log_bytes_max / 4 / kRecordBytes, 200'000));
  limits.keep_booked = settings.keep_booked_ms > 0;
  return limits;
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
