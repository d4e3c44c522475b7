#include "operator/api/jwt.h"

#include <algorithm>
#include <cmath>

#include "core/base64.h"
#include "operator/api/json_strict.h"
#include "operator/api/jwt_keys.h"
#include "operator/api/principal.h"

namespace tallygate::api {
namespace {

using nlohmann::json;

constexpr size_t kScopesMax = 64;
constexpr double kTimeMax = 253'402'300'800.0;  // the year 10000

tl::unexpected<Error> refuse(std::string why) { return fail(Errc::kInvalid, std::move(why)); }

Result<json> part_of(std::string_view text, const char* name) {
  const auto bytes = base64url_decode(text);
  if (!bytes) return refuse(std::string(name) + " is no base64url");
  std::string why;
  auto parsed = parse_strict(*bytes, why);
  if (!parsed || !parsed->is_object()) return refuse(std::string(name) + " is no JSON object");
  return std::move(*parsed);
}

// As media types are compared (RFC 7515, 4.1.9).
std::string media_type(std::string type) {
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return type.starts_with("application/") ? type.substr(12) : type;
}

// The header's key, once its algorithm is known to be the header's.
Result<const JwtKeys::Key*> key_for(const json& header, const JwtKeys& keys, const std::string& type) {
  if (!type.empty()) {
    const auto typ = header.find("typ");
    if (typ == header.end() || !typ->is_string() || media_type(typ->get<std::string>()) != media_type(type)) {
      return refuse("typ is not " + type);
    }
  }
  for (const char* name : {"crit", "b64", "zip", "enc"}) {
    if (header.contains(name)) return refuse(std::string("header has \"") + name + "\"");
  }
  const auto algorithm = header.find("alg");
  if (algorithm == header.end() || !algorithm->is_string()) return refuse("header has no alg");
  std::optional<std::string> kid;
  if (const auto found = header.find("kid"); found != header.end()) {
    if (!found->is_string()) return refuse("kid is no string");
    kid = found->get<std::string>();
  }
  const JwtKeys::Key* key = keys.find(kid);
  if (key == nullptr) return refuse("no such key");
  if (*algorithm != std::string(to_string(key->algorithm))) return refuse("alg is not the key's");
  return key;
}

Result<std::optional<double>> time_claim(const json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::optional<double>();
  if (!found->is_number()) return refuse(std::string(name) + " is no number");
  const double value = found->get<double>();
  if (!std::isfinite(value) || value < 0 || value > kTimeMax) return refuse(std::string(name) + " is out of range");
  return std::optional(value);
}

Result<void> check_times(const json& claims, int64_t now_s, int64_t leeway_s) {
  const auto now = static_cast<double>(now_s), leeway = static_cast<double>(leeway_s);
  const auto expires = time_claim(claims, "exp");
  if (!expires) return tl::unexpected(expires.error());
  if (!*expires) return refuse("it has no exp");
  if (now >= **expires + leeway) return refuse("it has expired");
  for (const char* name : {"nbf", "iat"}) {
    const auto begins = time_claim(claims, name);
    if (!begins) return tl::unexpected(begins.error());
    if (*begins && **begins > now + leeway) return refuse(std::string(name) + " is in the future");
  }
  return {};
}

bool names_audience(const json& claims, const std::string& audience) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  if (found->is_string()) return *found == audience;
  if (!found->is_array()) return false;
  bool named = false;
  for (const auto& one : *found) {
    if (!one.is_string()) return false;
    named = named || one == audience;
  }
  return named;
}

void add_words(const std::string& words, std::vector<std::string>& out) {
  for (size_t at = 0; at < words.size();) {
    const size_t end = std::min(words.find(' ', at), words.size());
    if (end > at) out.push_back(words.substr(at, end - at));
    at = end + 1;
  }
}

// "scope", "scopes" and "scp": words, or an array of texts of them, for issuers differ.
Result<std::vector<std::string>> all_scopes(const json& claims) {
  std::vector<std::string> scopes;
  for (const char* name : {"scope", "scopes", "scp"}) {
    const auto found = claims.find(name);
    if (found == claims.end()) continue;
    if (found->is_string()) {
      add_words(found->get_ref<const std::string&>(), scopes);
      continue;
    }
    if (!found->is_array()) return refuse(std::string(name) + " is neither a string nor an array");
    for (const auto& one : *found) {
      if (!one.is_string()) return refuse(std::string(name) + " holds something else than strings");
      add_words(one.get_ref<const std::string&>(), scopes);
    }
  }
  if (scopes.size() > kScopesMax) return refuse("it has too many scopes");
  return scopes;
}

Result<std::vector<std::string>> scopes_of(const json& claims, const JwtRules& rules) {
  const auto all = all_scopes(claims);
  if (!all) return tl::unexpected(all.error());
  std::vector<std::string> ours;
  for (const std::string& scope : *all) {
    if (!scope.starts_with(rules.scope_prefix)) continue;
    std::string name = scope.substr(rules.scope_prefix.size());
    if (rules.privileged || (scope_bit(name) & kPrivilegedScopes) == 0) ours.push_back(std::move(name));
  }
  return ours;
}

Result<JwtClaims> claims_of(const json& claims, const JwtRules& rules, int64_t now_s) {
  if (const auto timely = check_times(claims, now_s, rules.leeway_s); !timely) return tl::unexpected(timely.error());
  const auto issuer = claims.find("iss");
  if (issuer == claims.end() || *issuer != rules.issuer) return refuse("iss is another");
  if (!names_audience(claims, rules.audience)) return refuse("aud is another");
  JwtClaims out;
  if (const auto subject = claims.find("sub"); subject != claims.end()) {
    if (!subject->is_string()) return refuse("sub is no string");
    out.subject = subject->get<std::string>();
  }
  auto scopes = scopes_of(claims, rules);
  if (!scopes) return tl::unexpected(scopes.error());
  out.scopes = std::move(*scopes);
  auto external_id = text_at(claims, rules.tenant_claim);
  if (!external_id) return refuse("the tenant's claim is no string");
  out.external_id = std::move(*external_id);
  return out;
}

}  // namespace

Result<JwtClaims> verify_jwt(std::string_view token, const JwtKeys& keys, const JwtRules& rules, int64_t now_s,
                             const SignatureBudget& budget) {
  if (token.size() > kJwtBytesMax) return refuse("it is too long");
  const size_t first = token.find('.');
  const size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) {
    return refuse("it has not three parts");
  }
  const auto header = part_of(token.substr(0, first), "header");
  if (!header) return tl::unexpected(header.error());
  const auto key = key_for(*header, keys, rules.type);
  if (!key) return tl::unexpected(key.error());
  const auto signature = base64url_decode(token.substr(second + 1));
  if (!signature || signature->empty()) return refuse("its signature is no base64url");
  if (auto fits = check_signature(**key, token.substr(0, second), *signature, budget); !fits) {
    return tl::unexpected(fits.error());
  }
  const auto claims = part_of(token.substr(first + 1, second - first - 1), "payload");
  if (!claims) return tl::unexpected(claims.error());
  return claims_of(*claims, rules, now_s);
}

}  // namespace tallygate::api
