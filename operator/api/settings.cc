#include "operator/api/settings.h"

#include "core/config/yaml_settings.h"
#include "operator/api/front.h"

namespace tallygate::api {
namespace {

using config::Refusal;

constexpr size_t kFileBytesMax = 1024 * 1024;

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

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

void declare_rules(config::OptionSet& options, ApiSettings& s) {
  options.check("api", [&s]() -> std::optional<Refusal> {
    if (!s.listen || !s.tls_certificate_file.empty() || s.insecure || is_loopback(s.listen->host)) return std::nullopt;
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

Result<std::string> read(const std::string& path) {
  auto content = config::read_small_file(path, kFileBytesMax);
  if (!content) return fail(Errc::kInvalid, content.error().problem);
  return std::move(*content);
}

Result<JwtKeys> read_keys(const std::string& path, Result<JwtKeys> (*parse)(std::string_view)) {
  const auto content = read(path);
  if (!content) return tl::unexpected(content.error());
  auto keys = parse(*content);
  if (!keys) return fail(Errc::kInvalid, path + ": " + keys.error().message);
  return keys;
}

Result<Providers> read_providers(const std::string& path) {
  const auto content = read(path);
  if (!content) return tl::unexpected(content.error());
  auto providers = Providers::parse(*content, config::process_environment());
  if (providers) return std::move(*providers);
  std::string all;
  for (const auto& fault : providers.error()) all += (all.empty() ? "" : "; ") + fault;
  return fail(Errc::kInvalid, path + ": " + all);
}

}  // namespace

void declare_api(config::OptionSet& options, ApiSettings& s) {
  options.add("api", &s.listen, optional_address()).env().help("where the API listens; without it there is no API");
  options.add("api-tls-cert", &s.tls_certificate_file, config::file(config::Must::kExist))
      .env()
      .help("PEM, with its chain");
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
      .help("requests a second per tenant");
  options.add("api-burst", &s.rate_burst, config::integer(1, 1'000'000))
      .env()
      .fallback("400")
      .help("requests at once per tenant");
  options.add("api-deadline", &s.deadline_ms, config::duration_ms(100, 60'000))
      .env()
      .fallback("5s")
      .help("for one request's work in the database, waiting included");
  options.add("api-drain", &s.drain_ms, config::duration_ms(0, 30'000))
      .env()
      .fallback("10s")
      .help("how long requests under way may take at the end");
  declare_rules(options, s);
}

Result<Credentials> load_credentials(const ApiSettings& settings) {
  Credentials credentials;
  credentials.jwt_rules = {settings.jwt_issuer, settings.jwt_audience, settings.jwt_tenant_claim,
                           settings.jwt_leeway_ms / 1000};
  if (!settings.service_tokens_file.empty()) {
    const auto content = read(settings.service_tokens_file);
    if (!content) return tl::unexpected(content.error());
    auto tokens = ServiceTokens::parse(*content);
    if (!tokens) return fail(Errc::kInvalid, settings.service_tokens_file + ": " + tokens.error().message);
    credentials.service_tokens = std::move(*tokens);
  }
  if (!settings.providers_file.empty()) {
    auto providers = read_providers(settings.providers_file);
    if (!providers) return tl::unexpected(providers.error());
    credentials.providers = std::move(*providers);
  }
  std::optional<Result<JwtKeys>> keys;
  if (!settings.jwks_file.empty()) keys = read_keys(settings.jwks_file, &JwtKeys::parse_jwks);
  if (!settings.jwt_secret.empty()) keys = JwtKeys::from_secret(settings.jwt_secret);
  if (!settings.jwt_public_key_file.empty()) {
    keys = read_keys(settings.jwt_public_key_file, [](std::string_view pem) { return JwtKeys::from_pem(pem); });
  }
  if (!keys) return credentials;
  if (!*keys) return tl::unexpected(keys->error());
  credentials.jwt_keys = std::move(**keys);
  return credentials;
}

}  // namespace tallygate::api
