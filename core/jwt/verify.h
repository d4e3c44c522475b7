// Whether a token is valid, and what it says.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/jwt/keys.h"
#include "core/result.h"

namespace tallygate::jwt {

inline constexpr size_t kTokenBytesMax = 8192;

// Asked before a public key's arithmetic, 13 to 60 µs: whether the caller may have it done. Null: it may.
using SignatureBudget = std::function<bool()>;

// The payload of a JWS (RFC 7515) whose signature fits. `algorithms`: the header's must be one of them; empty: of the
// key's. `type`: what typ must say (RFC 8725, 3.11), in any case, "application/" left out; empty: anything. kExhausted:
// the budget said no, and nobody knows.
Result<std::string> verify_jws(std::string_view token, const Keys& keys, std::span<const Algorithm> algorithms = {},
                               const std::string& type = "", const SignatureBudget& budget = nullptr);

struct Rules {
  std::string issuer;                  // must be equal
  std::vector<std::string> audiences;  // one must be the aud, or among them
  std::string claim;                   // JSON pointer to the external id, e.g. /app_metadata/org_id
  int64_t leeway_s = 30;
  std::vector<Algorithm> algorithms{};  // as in verify_jws
  std::string type{};
};

struct Claims {
  std::string subject;              // "" where there is none
  std::string external_id;          // at the claim; "" where there is none
  std::vector<std::string> scopes;  // all, as the issuer writes them
  int64_t expires_s = 0;            // its exp, rounded up; the leeway comes after it
};

// The error says for logs what is wrong; clients are told only that the token is not valid.
Result<Claims> verify(std::string_view token, const Keys& keys, const Rules& rules, int64_t now_s,
                      const SignatureBudget& budget = nullptr);

}  // namespace tallygate::jwt
