// Who calls, and what they may do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tallygate::api {

enum class Scope : uint8_t { kWalletRead = 1, kWalletWrite = 2, kUsageWrite = 4, kAdmin = 8, kLeaseWrite = 16 };

// What only the platform's own may have, never a tenant's user.
inline constexpr uint8_t kPrivilegedScopes =
    static_cast<uint8_t>(Scope::kAdmin) | static_cast<uint8_t>(Scope::kLeaseWrite);

// "wallet:read", "wallet:write", "usage:write", "lease:write", "admin".
std::string_view to_string(Scope scope);
// 0 for a name that no scope has.
uint8_t scope_bit(std::string_view name);

struct Principal {
  std::string actor;                 // for the audit log: "jwt:<subject>", "token:<name>", "provider:<name>"
  uint8_t scopes = 0;                // bits of Scope
  bool all_tenants = false;          // service tokens only
  bool is_user = false;              // by a JWT, which the tenant's own people may have
  std::vector<std::string> tenants;  // namespace/name, those it may act for
  // admin holds every scope.
  bool has(Scope scope) const {
    return (scopes & (static_cast<uint8_t>(scope) | static_cast<uint8_t>(Scope::kAdmin))) != 0;
  }
  bool may_act_for(std::string_view tenant) const {
    return all_tenants || std::find(tenants.begin(), tenants.end(), tenant) != tenants.end();
  }
};

}  // namespace tallygate::api
