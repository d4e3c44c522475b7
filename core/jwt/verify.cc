#include "core/jwt/verify.h"

#include <algorithm>
#include <cmath>

#include "core/base64.h"
#include "core/json_strict.h"
#include "core/jwt/signature.h"

namespace tallygate::jwt {
namespace {

using nlohmann::json;

constexpr size_t kScopesMax = 64;
constexpr double kTimeMax = 253'402'300'800.0;  // the year 10000

tl::unexpected<Error> refuse(std::string why) { return fail(Errc::kInvalid, std::move(why)); }

Result<json> object_of(const std::string& bytes, const char* name) {
  std::string why;
  auto parsed = parse_strict(bytes, why);
  if (!parsed || !parsed->is_object()) return refuse(std::string(name) + " is no JSON object");
  return std::move(*parsed);
}

// As media types are compared (RFC 7515, 4.1.9).
std::string media_type(std::string type) {
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return type.starts_with("application/") ? type.substr(12) : type;
}

Result<void> check_header(const json& header, const std::string& type) {
  if (!type.empty()) {
    const auto typ = header.find("typ");
    if (typ == header.end() || !typ->is_string() || media_type(typ->get<std::string>()) != media_type(type)) {
      return refuse("typ is not " + type);
    }
  }
  for (const char* name : {"crit", "b64", "zip", "enc"}) {
    if (header.contains(name)) return refuse(std::string("header has \"") + name + "\"");
  }
  return {};
}

// The header's algorithm, where it may be used at all.
Result<Algorithm> algorithm_of(const json& header, std::span<const Algorithm> allowed) {
  const auto alg = header.find("alg");
  if (alg == header.end() || !alg->is_string()) return refuse("header has no alg");
  const auto algorithm = algorithm_named(alg->get_ref<const std::string&>());
  if (!algorithm) return refuse("alg is none that is known");
  const bool may = allowed.empty() || std::find(allowed.begin(), allowed.end(), *algorithm) != allowed.end();
  return may ? Result<Algorithm>(*algorithm) : refuse("alg is none that is taken here");
}

Result<const Keys::Key*> key_for(const json& header, Algorithm algorithm, const Keys& keys) {
  std::optional<std::string> kid;
  if (const auto found = header.find("kid"); found != header.end()) {
    if (!found->is_string()) return refuse("kid is no string");
    kid = found->get<std::string>();
  }
  const Keys::Key* key = keys.find(kid);
  if (key == nullptr) return refuse("no such key");
  if (!key->allows(algorithm)) return refuse("alg is not the key's");
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

// Its exp, rounded up.
Result<int64_t> check_times(const json& claims, int64_t now_s, int64_t leeway_s) {
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
  return static_cast<int64_t>(std::ceil(**expires));
}

bool names_audience(const json& claims, const std::vector<std::string>& audiences) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  const auto is_ours = [&](const json& one) {
    return std::find(audiences.begin(), audiences.end(), one.get_ref<const std::string&>()) != audiences.end();
  };
  if (found->is_string()) return is_ours(*found);
  if (!found->is_array()) return false;
  bool named = false;
  for (const auto& one : *found) {
    if (!one.is_string()) return false;
    named = named || is_ours(one);
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

// "scope", "scopes" and "scp": words, or an array of them, for issuers differ.
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
      scopes.push_back(one.get<std::string>());
    }
  }
  if (scopes.size() > kScopesMax) return refuse("it has too many scopes");
  return scopes;
}

Result<Claims> claims_of(const json& claims, const Rules& rules, int64_t now_s) {
  const auto expires = check_times(claims, now_s, rules.leeway_s);
  if (!expires) return tl::unexpected(expires.error());
  const auto issuer = claims.find("iss");
  if (issuer == claims.end() || *issuer != rules.issuer) return refuse("iss is another");
  if (!names_audience(claims, rules.audiences)) return refuse("aud is another");
  Claims out;
  out.expires_s = *expires;
  if (const auto subject = claims.find("sub"); subject != claims.end()) {
    if (!subject->is_string()) return refuse("sub is no string");
    out.subject = subject->get<std::string>();
  }
  auto scopes = all_scopes(claims);
  if (!scopes) return tl::unexpected(scopes.error());
  out.scopes = std::move(*scopes);
  auto external_id = text_at(claims, rules.claim);
  if (!external_id) return refuse("the tenant's claim is no string");
  out.external_id = std::move(*external_id);
  return out;
}

}  // namespace

Result<std::string> verify_jws(std::string_view token, const Keys& keys, std::span<const Algorithm> algorithms,
                               const std::string& type, const SignatureBudget& budget) {
  if (token.size() > kTokenBytesMax) return refuse("it is too long");
  const size_t first = token.find('.');
  const size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) {
    return refuse("it has not three parts");
  }
  const auto head = base64url_decode(token.substr(0, first));
  if (!head) return refuse("header is no base64url");
  const auto header = object_of(*head, "header");
  if (!header) return tl::unexpected(header.error());
  if (const auto sound = check_header(*header, type); !sound) return tl::unexpected(sound.error());
  const auto algorithm = algorithm_of(*header, algorithms);
  if (!algorithm) return tl::unexpected(algorithm.error());
  const auto key = key_for(*header, *algorithm, keys);
  if (!key) return tl::unexpected(key.error());
  const auto signature = base64url_decode(token.substr(second + 1));
  if (!signature || signature->empty()) return refuse("its signature is no base64url");
  if (auto fits = check_signature(**key, *algorithm, token.substr(0, second), *signature, budget); !fits) {
    return tl::unexpected(fits.error());
  }
  auto payload = base64url_decode(token.substr(first + 1, second - first - 1));
  if (!payload) return refuse("payload is no base64url");
  return std::move(*payload);
}

Result<Claims> verify(std::string_view token, const Keys& keys, const Rules& rules, int64_t now_s,
                      const SignatureBudget& budget) {
  const auto payload = verify_jws(token, keys, rules.algorithms, rules.type, budget);
  if (!payload) return tl::unexpected(payload.error());
  const auto claims = object_of(*payload, "payload");
  if (!claims) return tl::unexpected(claims.error());
  return claims_of(*claims, rules, now_s);
}

}  // namespace tallygate::jwt
