// Who a JSON Web Token speaks for here: core/jwt verifies it (HS256, RS256 and ES256), and of its scopes ours count.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/jwt/verify.h"
#include "core/result.h"

namespace tallygate::api {

using JwtKeys = jwt::Keys;
using jwt::SignatureBudget;

struct JwtRules {
  std::string issuer;        // must be equal
  std::string audience;      // must be the aud, or among them
  std::string tenant_claim;  // JSON pointer, e.g. /app_metadata/org_id
  int64_t leeway_s = 30;
  // An issuer serves many: of a token's scopes those count that begin so, without it; a bare "admin" is another's word.
  std::string scope_prefix = "tallygate:";
  bool privileged = false;  // whether admin and lease:write may come from a JWT at all
  std::string type = "";    // what typ must say (RFC 8725, 3.11), in any case, "application/" left out; empty: anything
};

struct JwtClaims {
  std::string subject;              // "" where there is none
  std::string external_id;          // at the tenant claim; "" where there is none
  std::vector<std::string> scopes;  // ours, without the prefix
};

inline constexpr size_t kJwtBytesMax = jwt::kTokenBytesMax;

// The error says for logs what is wrong; clients are told only that the token is not valid. kExhausted: the budget said
// no, and nobody knows.
Result<JwtClaims> verify_jwt(std::string_view token, const JwtKeys& keys, const JwtRules& rules, int64_t now_s,
                             const SignatureBudget& budget = nullptr);

}  // namespace tallygate::api
