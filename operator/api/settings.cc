#include "operator/api/settings.h"

namespace tallygate::api {
namespace {

using config::Refusal;

config::Parser<std::optional<config::ListenAddress>> optional_address() {
  const auto base = config::listen_address();
  return {[base](std::string_view in) -> config::Parsed<std::optional<config::ListenAddress>> {
            auto parsed = base(in);
            if (!parsed) return tl::unexpected<Refusal>(std::move(parsed.error()));
            return std::optional(std::move(*parsed));
          },
          base.placeholder};
}

config::Parser<std::string> claim_pointer() {
  const auto parse = [](std::string_view in) -> config::Parsed<std::string> {
    if (!in.starts_with('/') || in.size() > 255) {
      return config::refuse(config::quoted(in) + " is no JSON pointer", "write one such as /app_metadata/org_id");
    }
    for (size_t i = 0; i < in.size(); ++i) {
      if (in[i] == '~' && (i + 1 == in.size() || (in[i + 1] != '0' && in[i + 1] != '1'))) {
        return config::refuse(config::quoted(in) + " is no JSON pointer",
                              "write ~ as ~0, and / inside of a name as ~1");
      }
    }
    return std::string(in);
  };
  return {parse, "POINTER"};
}

// "USD/GBP=0.79".
config::Parser<QuotedPair> quoted_pair() {
  const auto parse = [](std::string_view in) -> config::Parsed<QuotedPair> {
    const size_t slash = in.find('/'), equals = in.find('=');
    const char* const fix = "write pairs such as USD/GBP=0.79: one USD is 0.79 GBP";
    if (slash == std::string_view::npos || equals == std::string_view::npos || slash > equals) {
      return config::refuse(config::quoted(in) + " is no pair of currencies with a rate", fix);
    }
    QuotedPair pair{std::string(in.substr(0, slash)), std::string(in.substr(slash + 1, equals - slash - 1)), {}};
    if (!is_currency(pair.from) || !is_currency(pair.to) || pair.from == pair.to) {
      return config::refuse(config::quoted(in) + " does not name two currencies of ISO 4217", fix);
    }
    const auto rate = parse_exchange_rate(in.substr(equals + 1));
    if (!rate) return config::refuse(config::quoted(in) + ": " + rate.error().message, fix);
    pair.rate = *rate;
    return pair;
  };
  return {parse, "FROM/TO=RATE"};
}

config::Parser<Network> network() {
  const auto parse = [](std::string_view in) -> config::Parsed<Network> {
    if (const auto network = Network::parse(in)) return *network;
    return config::refuse(config::quoted(in) + " is no address block", "write one such as 10.0.0.0/8 or 2001:db8::/32");
  };
  return {parse, "CIDR"};
}

void declare_limits(config::OptionSet& options, ApiSettings& s) {
  options.add("api-connections-per-address", &s.connections_per_address, config::integer(1, 4096))
      .env()
      .fallback("1024")
      .help("connections of one client, of 4096 in all; of more, the one goes that has waited longest");
  options.add("api-trusted-proxies", &s.trusted_proxies, config::list_of(network()))
      .env()
      .help("proxies whose X-Forwarded-For is believed: their requests count for the client that it names");
  options.add("api-bodies-max", &s.bodies_bytes_max, config::byte_size(1024 * 1024, int64_t{16} * 1024 * 1024 * 1024))
      .env()
      .fallback("64MiB")
      .help("memory for the bodies of all requests together; 503 past it; a quarter is for providers");
}

void declare_rules(config::OptionSet& options, ApiSettings& s) {
  options.check("exchange-rates", [&s]() -> std::optional<Refusal> {
    const auto rates = ExchangeRates::of(s.exchange_rates);
    if (rates) return std::nullopt;
    return Refusal{rates.error().message, "give each pair once"};
  });
  options.check("api", [&s]() -> std::optional<Refusal> {
    if (!s.listen || !s.tls_certificate_file.empty() || s.insecure || config::is_loopback(s.listen->host))
      return std::nullopt;
    return Refusal{
        "credentials would go over plain HTTP",
        "give --api-tls-cert and --api-tls-key, or listen on 127.0.0.1, or say --api-insecure where something in "
        "front of it ends TLS"};
  });
  options.check("api-tls-cert", [&s]() -> std::optional<Refusal> {
    if (s.tls_certificate_file.empty() == s.tls_key_file.empty()) return std::nullopt;
    return Refusal{"certificate and key come together", "give both --api-tls-cert and --api-tls-key"};
  });
  options.check("api-jwks-file", [&s]() -> std::optional<Refusal> {
    const int sources =
        (s.jwks_file.empty() ? 0 : 1) + (s.jwt_secret.empty() ? 0 : 1) + (s.jwt_public_key_file.empty() ? 0 : 1);
    if (sources > 1) {
      return Refusal{"keys come from more than one place",
                     "give one of --api-jwks-file, --api-jwt-secret and --api-jwt-public-key-file"};
    }
    if (sources == 1 && (s.jwt_issuer.empty() || s.jwt_audience.empty())) {
      return Refusal{"tokens of any issuer, or for anybody, would pass",
                     "give --api-jwt-issuer and --api-jwt-audience"};
    }
    if (s.listen && sources == 0 && s.service_tokens_file.empty() && s.providers_file.empty()) {
      return Refusal{"nobody could call the API",
                     "give keys for JWTs, --api-service-tokens-file or --api-providers-file"};
    }
    return std::nullopt;
  });
}

}  // namespace

void declare_api(config::OptionSet& options, ApiSettings& s) {
  options.add("api", &s.listen, optional_address()).env().help("where the API listens; without it there is no API");
  options.add("api-tls-cert", &s.tls_certificate_file, config::file(config::Must::kExist))
      .env()
      .help("PEM, with its chain; like the other files, read again when it changes");
  options.add("api-tls-key", &s.tls_key_file, config::file(config::Must::kExist)).env().help("PEM");
  options.add("api-insecure", &s.insecure, config::boolean())
      .env()
      .fallback("false")
      .help("serve plain HTTP off loopback too: only behind something that ends TLS");
  options.add("api-jwks-file", &s.jwks_file, config::file(config::Must::kExist)).env().help("keys for JWTs: a JWK set");
  options.add("api-jwt-secret", &s.jwt_secret, config::text(32, 1024))
      .env()
      .secret()
      .help("one key for JWTs: an HS256 secret");
  options.add("api-jwt-public-key-file", &s.jwt_public_key_file, config::file(config::Must::kExist))
      .env()
      .help("one key for JWTs: PEM, RSA (RS256) or P-256 (ES256)");
  options.add("api-jwt-issuer", &s.jwt_issuer, config::text(1, 255)).env().help("the iss that JWTs must have");
  options.add("api-jwt-audience", &s.jwt_audience, config::text(1, 255)).env().help("the aud that JWTs must name");
  options.add("api-jwt-tenant-claim", &s.jwt_tenant_claim, claim_pointer())
      .env()
      .fallback("/app_metadata/org_id")
      .help("where a JWT holds the tenant's external ID");
  options.add("api-jwt-scope-prefix", &s.jwt_scope_prefix, config::text(1, 255))
      .env()
      .fallback("tallygate:")
      .help("what a JWT's scopes must begin with to count: tallygate:wallet:read");
  options.add("api-jwt-privileged", &s.jwt_privileged, config::boolean())
      .env()
      .fallback("false")
      .help("let JWTs carry the scopes admin and lease:write: only where the issuer gives them to nobody else");
  options.add("api-jwt-type", &s.jwt_type, config::text(1, 127))
      .env()
      .help("the typ that JWTs must have, such as at+jwt; without it any");
  options.add("api-jwt-leeway", &s.jwt_leeway_ms, config::duration_ms(0, 300'000))
      .env()
      .fallback("30s")
      .help("how far clocks may be apart");
  options.add("api-service-tokens-file", &s.service_tokens_file, config::file(config::Must::kExist))
      .env()
      .help("tokens of services, by their SHA-256: JSON");
  options.add("api-providers-file", &s.providers_file, config::file(config::Must::kExist))
      .env()
      .help("providers that may send events, and on which terms: JSON");
  options.add("api-database-url", &s.database_url, config::url({"postgresql", "postgres"}))
      .env()
      .help(
          "the same database by a login of the API's own, a member of tallygate_api alone; adjustments alone go by "
          "--database-url's; default: --database-url");
  options.add("api-database-pooled", &s.database_pooled, config::boolean())
      .env()
      .fallback("false")
      .help(
          "the API's database URL leads through a pooler with pool_mode=transaction: role and time-outs are then said "
          "in each transaction, and no statement is prepared");
  options.add("api-connections", &s.connections, config::integer(1, 256))
      .env()
      .fallback("16")
      .help("most connections to the database");
  options.add("api-workers", &s.workers, config::integer(1, 1024))
      .env()
      .fallback("128")
      .help("requests at work at once; most of them share the connections");
  options.add("api-rate", &s.rate_per_second, config::integer(1, 1'000'000))
      .env()
      .fallback("200")
      .help(
          "requests a second per tenant: of its services, of its users' JWTs, of each provider's events for it, and of "
          "status checks, each apart; "
          "ten times as many leases of its sidecars");
  options.add("api-burst", &s.rate_burst, config::integer(1, 1'000'000))
      .env()
      .fallback("400")
      .help("requests at once per tenant");
  options.add("api-deadline", &s.deadline_ms, config::duration_ms(100, 60'000))
      .env()
      .fallback("5s")
      .help("for a request from its arrival; at most half of it waiting for a turn");
  options.add("api-drain", &s.drain_ms, config::duration_ms(0, 30'000))
      .env()
      .fallback("10s")
      .help("how long requests under way may take at the end");
  declare_limits(options, s);
  options.add("exchange-rates", &s.exchange_rates, config::list_of(quoted_pair()))
      .env()
      .help(
          "what one unit of a currency is in another, each in both directions; quotes keep the rate they were made at");
  options.add("quote-lifetime", &s.quote_lifetime_ms, config::duration_ms(1'000, 86'400'000))
      .env()
      .fallback("15m")
      .help("how long a quote holds");
  declare_rules(options, s);
}

}  // namespace tallygate::api
