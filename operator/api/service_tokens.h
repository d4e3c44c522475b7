// Tokens of services, known by their SHA-256 only. The file is JSON:
//   {"tokens": [{"name": "voice", "sha256": "<64 hex digits>", "scopes": ["wallet:write"], "tenants": ["shop/acme"]}]}
// "tenants": ["*"] stands for all. A token is at least 32 characters of its maker's choice; its prefix is "tgs_".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/result.h"
#include "core/sha256.h"
#include "operator/api/principal.h"

namespace tallygate::api {

inline constexpr std::string_view kServiceTokenPrefix = "tgs_";

// Immutable; any thread.
class ServiceTokens {
 public:
  // The error tells all faults.
  static Result<ServiceTokens> parse(std::string_view json);
  // Null: no such token.
  const Principal* find(std::string_view token) const;
  size_t size() const { return by_hash_.size(); }

 private:
  std::unordered_map<std::string, Principal> by_hash_;  // by 64 hex digits
};

}  // namespace tallygate::api
