// Verifies JSON Web Tokens (RFC 7519) in JWS compact form by OpenSSL: HS256, RS256 and ES256.
//
// Each key is pinned to one algorithm when it is read. A token names a key (kid), or there is only one; its header's
// alg must then be that key's. So "none" cannot be said, and a public key is never used as an HMAC secret.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::api {

enum class JwtAlgorithm : uint8_t { kHs256, kRs256, kEs256 };

// Immutable; any thread.
class JwtKeys {
 public:
  // A JWK set (RFC 7517): "oct" of at least 32 bytes, "RSA" of at least 2048 bits, "EC" on P-256. Private keys,
  // algorithms that do not belong to their key, and two keys of one kid are refused. Keys for encryption are skipped.
  // The error tells all faults.
  static Result<JwtKeys> parse_jwks(std::string_view json);
  // One key: a secret for HS256, or a public key in PEM for RS256 or ES256, by its type.
  static Result<JwtKeys> from_secret(std::string_view secret, std::string kid = "");
  static Result<JwtKeys> from_pem(std::string_view pem, std::string kid = "");

  size_t size() const { return keys_.size(); }

  struct Key;
  // The key that the header names; null: none.
  const Key* find(const std::optional<std::string>& kid) const;

 private:
  bool has(const std::string& kid) const;
  std::vector<std::shared_ptr<const Key>> keys_;
};

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

inline constexpr size_t kJwtBytesMax = 8192;

// Asked before a public key's arithmetic, 13 to 60 µs: whether the caller may have it done. Null: it may.
using SignatureBudget = std::function<bool()>;

// The error says for logs what is wrong; clients are told only that the token is not valid. kExhausted: the budget said
// no, and nobody knows.
Result<JwtClaims> verify_jwt(std::string_view token, const JwtKeys& keys, const JwtRules& rules, int64_t now_s,
                             const SignatureBudget& budget = nullptr);

}  // namespace tallygate::api
