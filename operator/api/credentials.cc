#include "operator/api/credentials.h"

#include "core/config/yaml_settings.h"

namespace tallygate::api {
namespace {

constexpr size_t kFileBytesMax = 1024 * 1024;

Result<std::string> read(const std::string& path) {
  auto content = config::read_small_file(path, kFileBytesMax);
  if (!content) return fail(Errc::kInvalid, content.error().problem + ": " + content.error().fix);
  return std::move(*content);
}

template <class T>
Result<T> parse_file(const std::string& path, Result<T> (*parse)(std::string_view)) {
  const auto content = read(path);
  if (!content) return tl::unexpected(content.error());
  auto parsed = parse(*content);
  if (!parsed) return fail(Errc::kInvalid, path + ": " + parsed.error().message);
  return parsed;
}

}  // namespace

Result<std::optional<JwtKeys>> load_jwt_keys(const ApiSettings& settings) {
  std::optional<Result<JwtKeys>> keys;
  if (!settings.jwks_file.empty()) {
    keys = parse_file<JwtKeys>(settings.jwks_file, [](std::string_view json) { return JwtKeys::parse_jwks(json); });
  }
  if (!settings.jwt_secret.empty()) keys = JwtKeys::from_secret(settings.jwt_secret);
  if (!settings.jwt_public_key_file.empty()) {
    keys =
        parse_file<JwtKeys>(settings.jwt_public_key_file, [](std::string_view pem) { return JwtKeys::from_pem(pem); });
  }
  if (!keys) return std::optional<JwtKeys>();
  if (!*keys) return tl::unexpected(keys->error());
  return std::optional<JwtKeys>(std::move(**keys));
}

Result<ServiceTokens> load_service_tokens(const ApiSettings& settings) {
  if (settings.service_tokens_file.empty()) return ServiceTokens();
  return parse_file(settings.service_tokens_file, &ServiceTokens::parse);
}

Result<std::shared_ptr<const Providers>> load_providers(const ApiSettings& settings, metrics::Registry& registry,
                                                        std::vector<std::string>* files) {
  const std::string& path = settings.providers_file;
  *files = {path};
  const auto content = read(path);
  if (!content) return tl::unexpected(content.error());
  auto parsed = Providers::parse(*content, config::process_environment(), files);
  if (!parsed) {
    std::string all;
    for (const auto& fault : parsed.error()) all += (all.empty() ? "" : "; ") + fault;
    return fail(Errc::kInvalid, path + ": " + all);
  }
  auto providers = std::make_shared<Providers>(std::move(*parsed));
  providers->count_in(registry);
  return std::shared_ptr<const Providers>(std::move(providers));
}

Result<Credentials> load_credentials(const ApiSettings& settings) {
  auto tokens = load_service_tokens(settings);
  if (!tokens) return tl::unexpected(tokens.error());
  auto keys = load_jwt_keys(settings);
  if (!keys) return tl::unexpected(keys.error());
  const JwtRules rules = {
      settings.jwt_issuer,       settings.jwt_audience,   settings.jwt_tenant_claim, settings.jwt_leeway_ms / 1000,
      settings.jwt_scope_prefix, settings.jwt_privileged, settings.jwt_type};
  Credentials credentials;
  credentials.jwt_keys = std::move(*keys);
  credentials.jwt_rules = rules;
  credentials.service_tokens = std::move(*tokens);
  return credentials;
}

}  // namespace tallygate::api
