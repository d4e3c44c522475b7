#include "operator/api/service_tokens.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <set>

#include "core/ids.h"
#include "operator/api/json_strict.h"

namespace tallygate::api {
namespace {

constexpr size_t kTokensMax = 1000;
constexpr size_t kTokenBytesMin = 32, kTokenBytesMax = 512;
constexpr std::array kScopes = {Scope::kWalletRead, Scope::kWalletWrite, Scope::kUsageWrite, Scope::kLeaseWrite,
                                Scope::kAdmin};

bool is_hash(const std::string& text) {
  return text.size() == 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Result<void> add_scopes(const nlohmann::json& names, Principal& principal) {
  for (const auto& name : names) {
    const uint8_t bit = name.is_string() ? scope_bit(name.get_ref<const std::string&>()) : uint8_t{0};
    if (bit == 0) {
      return fail(Errc::kInvalid, "a scope is unknown: use wallet:read, wallet:write, usage:write, lease:write, admin");
    }
    principal.scopes |= bit;
  }
  return {};
}

Result<void> add_tenants(const nlohmann::json& names, Principal& principal) {
  for (const auto& name : names) {
    if (name == "*") {
      principal.all_tenants = true;
      continue;
    }
    if (!name.is_string() || !TenantId::parse(name.get_ref<const std::string&>())) {
      return fail(Errc::kInvalid, "a tenant is malformed: write namespace/name, or \"*\" for all");
    }
    principal.tenants.push_back(name.get<std::string>());
  }
  return {};
}

Result<std::pair<std::string, Principal>> entry_of(const nlohmann::json& token) {
  static const std::set<std::string> kMembers = {"name", "sha256", "scopes", "tenants"};
  if (!token.is_object()) return fail(Errc::kInvalid, "it is no object: write {\"name\": ...}");
  for (const auto& [name, value] : token.items()) {
    if (!kMembers.contains(name)) {
      return fail(Errc::kInvalid, "it has an unknown member: use name, sha256, scopes, tenants");
    }
  }
  for (const auto& name : kMembers) {
    if (!token.contains(name)) return fail(Errc::kInvalid, "it has no \"" + name + "\": add it");
  }
  if (!token["name"].is_string() || !is_dns_label(token["name"].get_ref<const std::string&>())) {
    return fail(Errc::kInvalid, "its name is no DNS label: use lower-case letters, digits and '-'");
  }
  if (!token["sha256"].is_string() || !is_hash(token["sha256"].get_ref<const std::string&>())) {
    return fail(Errc::kInvalid, "its sha256 is not 64 lower-case hexadecimal digits: take those of sha256sum");
  }
  if (!token["scopes"].is_array() || !token["tenants"].is_array()) {
    return fail(Errc::kInvalid, "its scopes or tenants are no array: write [\"...\"]");
  }
  Principal principal;
  principal.actor = "token:" + token["name"].get<std::string>();
  if (auto done = add_scopes(token["scopes"], principal); !done) return tl::unexpected(done.error());
  if (auto done = add_tenants(token["tenants"], principal); !done) return tl::unexpected(done.error());
  return std::pair(token["sha256"].get<std::string>(), std::move(principal));
}

}  // namespace

std::string_view to_string(Scope scope) {
  switch (scope) {
    case Scope::kWalletRead:
      return "wallet:read";
    case Scope::kWalletWrite:
      return "wallet:write";
    case Scope::kUsageWrite:
      return "usage:write";
    case Scope::kLeaseWrite:
      return "lease:write";
    case Scope::kAdmin:
      return "admin";
  }
  return "";
}

uint8_t scope_bit(std::string_view name) {
  for (const Scope scope : kScopes) {
    if (to_string(scope) == name) return static_cast<uint8_t>(scope);
  }
  return 0;
}

std::string sha256_hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  unsigned char digest[32];
  TG_ASSERT(EVP_Digest(bytes.data(), bytes.size(), digest, nullptr, EVP_sha256(), nullptr) == 1);
  std::string hex;
  hex.reserve(64);
  for (const unsigned char byte : digest) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

Result<ServiceTokens> ServiceTokens::parse(std::string_view text) {
  std::string why;
  const auto document = parse_strict(text, why);
  if (!document) return fail(Errc::kInvalid, why + ": correct the file");
  if (!document->is_object() || document->size() != 1 || !document->contains("tokens") ||
      !(*document)["tokens"].is_array() || (*document)["tokens"].size() > kTokensMax) {
    return fail(Errc::kInvalid, "it is not {\"tokens\": [...]} with at most 1000 of them: write it so");
  }
  ServiceTokens tokens;
  std::string faults;
  size_t place = 0;
  for (const auto& token : (*document)["tokens"]) {
    auto entry = entry_of(token);
    if (entry && tokens.by_hash_.insert(std::move(*entry)).second) {
      ++place;
      continue;
    }
    faults += (faults.empty() ? "token " : "; token ") + std::to_string(++place) + ": " +
              (entry ? "its sha256 is another's too: make a token for each" : entry.error().message);
  }
  if (!faults.empty()) return fail(Errc::kInvalid, faults);
  return tokens;
}

// Looking a hash up in a table tells nothing of the token: who cannot invert SHA-256 cannot steer the comparison.
const Principal* ServiceTokens::find(std::string_view token) const {
  if (token.size() < kTokenBytesMin || token.size() > kTokenBytesMax || !token.starts_with(kServiceTokenPrefix)) {
    return nullptr;
  }
  const auto found = by_hash_.find(sha256_hex(token));
  return found == by_hash_.end() ? nullptr : &found->second;
}

}  // namespace tallygate::api
