#include "core/jwt/keys.h"

#include <algorithm>

#include "core/jwt/signature.h"

namespace tallygate::jwt {
namespace {

constexpr size_t kKeysMax = 64;
constexpr size_t kSecretBytesMin = 32;  // RFC 7518, 3.2

struct Named {
  Algorithm algorithm;
  std::string_view name;
  KeyType type;
};
constexpr Named kAlgorithms[] = {
    {Algorithm::kHs256, "HS256", KeyType::kSecret}, {Algorithm::kHs384, "HS384", KeyType::kSecret},
    {Algorithm::kHs512, "HS512", KeyType::kSecret}, {Algorithm::kRs256, "RS256", KeyType::kRsa},
    {Algorithm::kRs384, "RS384", KeyType::kRsa},    {Algorithm::kRs512, "RS512", KeyType::kRsa},
    {Algorithm::kPs256, "PS256", KeyType::kRsa},    {Algorithm::kPs384, "PS384", KeyType::kRsa},
    {Algorithm::kPs512, "PS512", KeyType::kRsa},    {Algorithm::kEs256, "ES256", KeyType::kP256},
    {Algorithm::kEs384, "ES384", KeyType::kP384},   {Algorithm::kEs512, "ES512", KeyType::kP521},
    {Algorithm::kEdDsa, "EdDSA", KeyType::kEd25519}};

tl::unexpected<Error> refuse(std::string why) { return fail(Errc::kInvalid, std::move(why)); }

Result<KeyType> type_of(const nlohmann::json& jwk) {
  const std::string kty = jwk.value("kty", "");
  if (kty == "oct") return KeyType::kSecret;
  if (kty == "RSA") return KeyType::kRsa;
  const std::string curve = jwk.value("crv", "");
  if (kty == "EC") {
    if (curve == "P-256") return KeyType::kP256;
    if (curve == "P-384") return KeyType::kP384;
    if (curve == "P-521") return KeyType::kP521;
    return refuse("an EC key must be on P-256, P-384 or P-521");
  }
  if (kty == "OKP") {
    if (curve == "Ed25519") return KeyType::kEd25519;
    return refuse("an OKP key must be for Ed25519");
  }
  return refuse("its kty is none of oct, RSA, EC, OKP");
}

std::string joined(const std::vector<Algorithm>& algorithms) {
  std::string all;
  for (const Algorithm one : algorithms) all += (all.empty() ? "" : " or ") + std::string(to_string(one));
  return all;
}

// What a key may be used for: of what the rules allow, what its type can do, or what it names of that.
Result<std::vector<Algorithm>> uses(const nlohmann::json& jwk, KeyType type, const KeyRules& rules) {
  std::vector<Algorithm> can;
  for (const Algorithm one : rules.algorithms) {
    if (key_type(one) == type) can.push_back(one);
  }
  if (can.empty())
    return refuse("it is of a type for none of the algorithms that are taken: " + joined(rules.algorithms));
  const auto alg = jwk.find("alg");
  if (alg == jwk.end()) return can;
  for (const Algorithm one : can) {
    if (alg->is_string() && *alg == std::string(to_string(one))) return std::vector<Algorithm>{one};
  }
  return refuse("its alg must be " + joined(can));
}

Result<Keys::Key> key_of(const nlohmann::json& jwk, const KeyRules& rules) {
  Keys::Key key;
  key.kid = jwk.value("kid", "");
  if (jwk.contains("d")) return refuse("it is a private key; only public keys belong here");
  const auto type = type_of(jwk);
  if (!type) return tl::unexpected(type.error());
  key.type = *type;
  auto algorithms = uses(jwk, *type, rules);
  if (!algorithms) return tl::unexpected(algorithms.error());
  key.algorithms = std::move(*algorithms);
  if (*type == KeyType::kSecret) {
    auto secret = member_bytes(jwk, "k");
    if (!secret) return tl::unexpected(secret.error());
    if (secret->size() < kSecretBytesMin) return refuse("a secret must have at least 32 bytes");
    key.secret = std::move(*secret);
    return key;
  }
  auto made = public_key(*type, jwk);
  if (!made) return tl::unexpected(made.error());
  key.evp_pkey = std::move(*made);
  return key;
}

// By what it says of its use, and of its operations (RFC 7517, 4.2 and 4.3).
bool is_for_signatures(const nlohmann::json& jwk) {
  if (jwk.value("use", "sig") != "sig") return false;
  const auto operations = jwk.find("key_ops");
  if (operations == jwk.end()) return true;
  if (!operations->is_array()) return false;
  return std::find(operations->begin(), operations->end(), "verify") != operations->end();
}

}  // namespace

std::string_view to_string(Algorithm algorithm) { return kAlgorithms[static_cast<size_t>(algorithm)].name; }
KeyType key_type(Algorithm algorithm) { return kAlgorithms[static_cast<size_t>(algorithm)].type; }

std::optional<Algorithm> algorithm_named(std::string_view name) {
  for (const Named& one : kAlgorithms) {
    if (one.name == name) return one.algorithm;
  }
  return std::nullopt;
}

bool KnownSignatures::has(const Digest& digest) const {
  const std::lock_guard lock(mutex_);
  return latest_.contains(digest) || before_.contains(digest);
}

void KnownSignatures::add(const Digest& digest) {
  const std::lock_guard lock(mutex_);
  if (latest_.size() >= kAtLeast) {
    before_ = std::move(latest_);
    latest_.clear();
  }
  latest_.insert(digest);
}

Result<Keys> Keys::parse_jwks(std::string_view json, const KeyRules& rules) {
  try {
    const auto document = nlohmann::json::parse(json, nullptr, false);
    if (!document.is_object() || !document.contains("keys") || !document["keys"].is_array()) {
      return refuse("it is no JWK set: {\"keys\": [...]}");
    }
    if (document["keys"].size() > kKeysMax) return refuse("it has more than 64 keys");
    Keys set;
    std::string faults;
    size_t place = 0;
    for (const auto& jwk : document["keys"]) {
      ++place;
      if (jwk.is_object() && !is_for_signatures(jwk)) continue;
      Result<Key> key = jwk.is_object() ? key_of(jwk, rules) : refuse("it is no object");
      if (key && set.has(key->kid)) key = refuse("its kid is another's too, or both have none");
      if (key) {
        set.keys_.push_back(std::make_shared<const Key>(std::move(*key)));
        continue;
      }
      faults += (faults.empty() ? "key " : "; key ") + std::to_string(place) + ": " + key.error().message;
    }
    if (!faults.empty() && (!rules.skip_unfit || set.keys_.empty())) return refuse(faults);
    if (set.keys_.empty()) return refuse("it has no key for signatures");
    return set;
  } catch (const nlohmann::json::exception&) {
    return refuse("a member has another type than RFC 7517 gives it");
  }
}

Result<Keys> Keys::from_secret(std::string_view secret, std::string kid) {
  if (secret.size() < kSecretBytesMin) return refuse("a secret must have at least 32 bytes");
  Key key;
  key.kid = std::move(kid);
  key.algorithms = {Algorithm::kHs256};
  key.secret = secret;
  Keys set;
  set.keys_.push_back(std::make_shared<const Key>(std::move(key)));
  return set;
}

Result<Keys> Keys::from_pem(std::string_view pem, std::string kid) {
  Key key;
  auto made = public_key_of_pem(pem, &key.type);
  if (!made) return tl::unexpected(made.error());
  key.kid = std::move(kid);
  key.algorithms = {key.type == KeyType::kRsa ? Algorithm::kRs256 : Algorithm::kEs256};
  key.evp_pkey = std::move(*made);
  Keys set;
  set.keys_.push_back(std::make_shared<const Key>(std::move(key)));
  return set;
}

bool Keys::Key::allows(Algorithm algorithm) const {
  return std::find(algorithms.begin(), algorithms.end(), algorithm) != algorithms.end();
}

bool Keys::has(const std::string& kid) const {
  return std::any_of(keys_.begin(), keys_.end(), [&](const auto& key) { return key->kid == kid; });
}

const Keys::Key* Keys::find(const std::optional<std::string>& kid) const {
  if (!kid) return keys_.size() == 1 ? keys_.front().get() : nullptr;
  for (const auto& key : keys_) {
    if (key->kid == *kid) return key.get();
  }
  return nullptr;
}

}  // namespace tallygate::jwt
