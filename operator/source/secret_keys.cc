#include "operator/source/secret_keys.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base64.h"
#include "core/sha256.h"

namespace tallygate::source {
namespace {

using Json = nlohmann::json;

constexpr size_t kKeyBytesMax = 4'096;
constexpr char kRefs[] = "apiKeySecretRefs";

std::string hash_of(std::string_view key) { return "sha256:" + sha256_hex(key); }

}  // namespace

std::vector<std::string> key_hashes(std::string_view secret_json) {
  std::vector<std::string> hashes;
  const Json secret = Json::parse(secret_json, nullptr, false);
  if (!secret.is_object()) return hashes;
  const auto data = secret.find("data");
  if (data == secret.end() || !data->is_object()) return hashes;
  for (const auto& [name, value] : data->items()) {
    auto key = value.is_string() ? base64_decode(value.get_ref<const std::string&>()) : std::nullopt;
    if (!key) continue;
    while (key->ends_with('\n') || key->ends_with('\r')) key->pop_back();
    if (!key->empty() && key->size() <= kKeyBytesMax) hashes.push_back(hash_of(*key));
  }
  return hashes;
}

void keep_hashes_only(kube::Object& secret) { secret.json = Json(key_hashes(secret.json)).dump(); }

std::vector<std::string> kept_hashes(const kube::Object& secret) {
  const Json list = Json::parse(secret.json, nullptr, false);
  return list.is_array() ? list.get<std::vector<std::string>>() : std::vector<std::string>{};
}

bool names_secrets(std::string_view tenant_json) { return tenant_json.find(kRefs) != std::string_view::npos; }

std::string with_secret_keys(std::string_view tenant_json, const FindHashes& find) {
  Json tenant = Json::parse(tenant_json, nullptr, false);
  const auto identity_at = Json::json_pointer("/spec/identity");
  if (!tenant.is_object() || !tenant.contains(identity_at) || !tenant[identity_at].is_object()) return std::string(tenant_json);
  Json& identity = tenant[identity_at];
  if (!identity.contains(kRefs) || !identity[kRefs].is_array()) return std::string(tenant_json);
  Json& hashes = identity["apiKeyHashes"];
  if (hashes.is_null()) hashes = Json::array();
  if (!hashes.is_array()) return std::string(tenant_json);
  Json unknown = Json::array();
  for (const Json& ref : identity[kRefs]) {
    const auto* found = ref.is_object() && ref.contains("name") && ref["name"].is_string() ? find(ref["name"]) : nullptr;
    if (found == nullptr) {
      unknown.push_back(ref);
      continue;
    }
    for (const auto& hash : *found) {
      if (std::find(hashes.begin(), hashes.end(), hash) == hashes.end()) hashes.push_back(hash);
    }
  }
  if (hashes.empty()) identity.erase("apiKeyHashes");
  if (unknown.empty()) {
    identity.erase(kRefs);
  } else {
    identity[kRefs] = std::move(unknown);
  }
  return tenant.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tallygate::source
