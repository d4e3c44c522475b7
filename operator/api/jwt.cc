#include "operator/api/jwt.h"

#include "core/jwt/verify.h"
#include "operator/api/principal.h"

namespace tallygate::api {
namespace {

std::vector<std::string> ours(const std::vector<std::string>& all, const JwtRules& rules) {
  std::vector<std::string> scopes;
  for (const std::string& scope : all) {
    if (!scope.starts_with(rules.scope_prefix)) continue;
    std::string name = scope.substr(rules.scope_prefix.size());
    if (rules.privileged || (scope_bit(name) & kPrivilegedScopes) == 0) scopes.push_back(std::move(name));
  }
  return scopes;
}

}  // namespace

Result<JwtClaims> verify_jwt(std::string_view token, const JwtKeys& keys, const JwtRules& rules, int64_t now_s,
                             const SignatureBudget& budget) {
  const jwt::Rules shared{rules.issuer, {rules.audience}, rules.tenant_claim, rules.leeway_s, {}, rules.type};
  auto claims = jwt::verify(token, keys, shared, now_s, budget);
  if (!claims) return tl::unexpected(claims.error());
  return JwtClaims{std::move(claims->subject), std::move(claims->external_id), ours(claims->scopes, rules)};
}

}  // namespace tallygate::api
