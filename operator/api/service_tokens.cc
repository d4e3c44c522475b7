#include "operator/api/service_tokens.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/ids.h"
#include "core/json_strict.h"

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

// Reads one token; its faults go to a list that all tokens share. What is faulty reads as nothing.
class Entry {
 public:
  Entry(const nlohmann::json& token, size_t place, std::vector<std::string>& faults)
      : token_(token), place_(place), faults_(faults) {}

  // The token's hash, empty where it has none, and what it may do.
  std::pair<std::string, Principal> read() {
    std::pair<std::string, Principal> entry;
    if (!token_.is_object()) {
      refuse("it is no object: write {\"name\": ...}");
      return entry;
    }
    for (const auto& [name, value] : token_.items()) {
      if (std::find(kMembers.begin(), kMembers.end(), name) != kMembers.end()) continue;
      refuse("it has an unknown member: use name, sha256, scopes, tenants");
      break;
    }
    const std::string name = text("name");
    if (!name.empty() && !is_dns_label(name)) {
      refuse("its name is no DNS label: use lower-case letters, digits and '-'");
    }
    entry.second.actor = "token:" + name;
    const std::string hash = text("sha256");
    if (is_hash(hash)) {
      entry.first = hash;
    } else if (!hash.empty()) {
      refuse("its sha256 is not 64 lower-case hexadecimal digits: take those of sha256sum");
    }
    read_scopes(entry.second);
    read_tenants(entry.second);
    return entry;
  }
  void refuse(const std::string& fault) { faults_.push_back("token " + std::to_string(place_) + ": " + fault); }

 private:
  static constexpr std::array<std::string_view, 4> kMembers = {"name", "sha256", "scopes", "tenants"};

  const nlohmann::json* member(const char* name) {
    const auto found = token_.find(name);
    if (found != token_.end()) return &*found;
    refuse(std::string("it has no \"") + name + "\": add it");
    return nullptr;
  }
  std::string text(const char* name) {
    const nlohmann::json* value = member(name);
    if (value == nullptr) return "";
    if (value->is_string() && !value->get_ref<const std::string&>().empty()) return value->get<std::string>();
    refuse(std::string("its ") + name + " is no text: write \"...\"");
    return "";
  }
  std::vector<nlohmann::json> list(const char* name) {
    const nlohmann::json* value = member(name);
    if (value == nullptr) return {};
    if (value->is_array()) return value->get<std::vector<nlohmann::json>>();
    refuse(std::string("its ") + name + " are no array: write [\"...\"]");
    return {};
  }
  void read_scopes(Principal& principal) {
    size_t place = 0;
    for (const auto& name : list("scopes")) {
      ++place;
      const uint8_t bit = name.is_string() ? scope_bit(name.get_ref<const std::string&>()) : uint8_t{0};
      principal.scopes |= bit;
      if (bit != 0) continue;
      refuse("scope " + std::to_string(place) +
             " is unknown: use wallet:read, wallet:write, usage:write, lease:write, admin");
    }
  }
  void read_tenants(Principal& principal) {
    size_t place = 0;
    for (const auto& name : list("tenants")) {
      ++place;
      if (name == "*") {
        principal.all_tenants = true;
      } else if (name.is_string() && TenantId::parse(name.get_ref<const std::string&>())) {
        principal.tenants.push_back(name.get<std::string>());
      } else {
        refuse("tenant " + std::to_string(place) + " is malformed: write namespace/name, or \"*\" for all");
      }
    }
  }

  const nlohmann::json& token_;
  const size_t place_;
  std::vector<std::string>& faults_;
};

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

Result<ServiceTokens> ServiceTokens::parse(std::string_view text) {
  std::string why;
  const auto document = parse_strict(text, why);
  if (!document) return fail(Errc::kInvalid, why + ": correct the file");
  if (!document->is_object() || document->size() != 1 || !document->contains("tokens") ||
      !(*document)["tokens"].is_array() || (*document)["tokens"].size() > kTokensMax) {
    return fail(Errc::kInvalid, "it is not {\"tokens\": [...]} with at most 1000 of them: write it so");
  }
  ServiceTokens tokens;
  std::vector<std::string> faults;
  size_t place = 0;
  for (const auto& token : (*document)["tokens"]) {
    Entry entry(token, ++place, faults);
    auto read = entry.read();
    if (read.first.empty() || tokens.by_hash_.insert(std::move(read)).second) continue;
    entry.refuse("its sha256 is another's too: make a token for each");
  }
  if (!faults.empty()) {
    std::string all;
    for (const auto& fault : faults) all += (all.empty() ? "" : "; ") + fault;
    return fail(Errc::kInvalid, std::move(all));
  }
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
