#include "operator/api/jwt_keys.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base64.h"
#include "core/hmac.h"

namespace tallygate::api {
namespace {

constexpr size_t kKeysMax = 64;
constexpr size_t kSecretBytesMin = 32;  // RFC 7518 §3.2
constexpr int kRsaBitsMin = 2048;
constexpr size_t kEs256Bytes = 64;

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Bignum = std::unique_ptr<BIGNUM, Freed<BN_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>>;
using BuiltParams = std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;

std::shared_ptr<void> owned(EVP_PKEY* key) {
  return {key, [](void* pointer) { EVP_PKEY_free(static_cast<EVP_PKEY*>(pointer)); }};
}
EVP_PKEY* pkey_of(const std::shared_ptr<void>& key) { return static_cast<EVP_PKEY*>(key.get()); }

Result<std::shared_ptr<void>> build(const char* type, OSSL_PARAM_BLD* builder) {
  const BuiltParams params(OSSL_PARAM_BLD_to_param(builder));
  const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  const bool built = params && context && EVP_PKEY_fromdata_init(context.get()) == 1 &&
                     EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) == 1;
  ERR_clear_error();
  if (!built) return fail(Errc::kInvalid, "the key's numbers are not valid");
  auto holder = owned(key);
  const KeyContext checker(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
  const bool sound = checker && EVP_PKEY_public_check(checker.get()) == 1;
  ERR_clear_error();
  if (!sound) return fail(Errc::kInvalid, "the key's numbers are not valid");
  return holder;
}

Bignum bignum(const std::string& bytes) {
  return Bignum(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()), nullptr));
}

Result<std::string> member_bytes(const nlohmann::json& jwk, const char* name) {
  const auto found = jwk.find(name);
  if (found == jwk.end() || !found->is_string()) return fail(Errc::kInvalid, std::string("it has no \"") + name + "\"");
  auto bytes = base64url_decode(found->get_ref<const std::string&>());
  if (!bytes || bytes->empty() || bytes->size() > 2048) {
    return fail(Errc::kInvalid, std::string("\"") + name + "\" is no base64url");
  }
  return std::move(*bytes);
}

Result<std::shared_ptr<void>> rsa_key(const nlohmann::json& jwk) {
  auto n = member_bytes(jwk, "n");
  if (!n) return tl::unexpected(n.error());
  auto e = member_bytes(jwk, "e");
  if (!e) return tl::unexpected(e.error());
  const Bignum modulus = bignum(*n), exponent = bignum(*e);
  if (!modulus || !exponent || BN_num_bits(modulus.get()) < kRsaBitsMin) {
    return fail(Errc::kInvalid, "an RSA key must have at least 2048 bits");
  }
  const Builder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()) != 1) {
    return fail(Errc::kInternal, "OpenSSL is out of memory");
  }
  return build("RSA", builder.get());
}

Result<std::shared_ptr<void>> ec_key(const nlohmann::json& jwk) {
  if (jwk.value("crv", "") != "P-256") return fail(Errc::kInvalid, "an EC key must be on P-256");
  auto x = member_bytes(jwk, "x");
  if (!x) return tl::unexpected(x.error());
  auto y = member_bytes(jwk, "y");
  if (!y) return tl::unexpected(y.error());
  if (x->size() != 32 || y->size() != 32) return fail(Errc::kInvalid, "\"x\" and \"y\" must have 32 bytes");
  const std::string point = '\x04' + *x + *y;
  const Builder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1) {
    return fail(Errc::kInternal, "OpenSSL is out of memory");
  }
  return build("EC", builder.get());
}

Result<JwtKeys::Key> key_of(const nlohmann::json& jwk) {
  JwtKeys::Key key;
  key.kid = jwk.value("kid", "");
  if (jwk.contains("d")) return fail(Errc::kInvalid, "it is a private key; only public keys belong here");
  const std::string type = jwk.value("kty", "");
  if (type == "oct") {
    auto secret = member_bytes(jwk, "k");
    if (!secret) return tl::unexpected(secret.error());
    if (secret->size() < kSecretBytesMin) return fail(Errc::kInvalid, "a secret must have at least 32 bytes");
    key.secret = std::move(*secret);
  } else if (type == "RSA" || type == "EC") {
    auto made = type == "RSA" ? rsa_key(jwk) : ec_key(jwk);
    if (!made) return tl::unexpected(made.error());
    key.evp_pkey = std::move(*made);
    key.algorithm = type == "RSA" ? JwtAlgorithm::kRs256 : JwtAlgorithm::kEs256;
  } else {
    return fail(Errc::kInvalid, "its kty is none of oct, RSA, EC");
  }
  if (jwk.contains("alg") && jwk["alg"] != std::string(to_string(key.algorithm))) {
    return fail(Errc::kInvalid, "its alg must be " + std::string(to_string(key.algorithm)));
  }
  return key;
}

// r ‖ s, as JOSE has it, to the DER that OpenSSL wants; empty where it is not possible.
std::string der_of(const std::string& signature) {
  if (signature.size() != kEs256Bytes) return "";
  const auto* bytes = reinterpret_cast<const unsigned char*>(signature.data());
  const std::unique_ptr<ECDSA_SIG, Freed<ECDSA_SIG_free>> pair(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(bytes, 32, nullptr);
  BIGNUM* s = BN_bin2bn(bytes + 32, 32, nullptr);
  if (!pair || r == nullptr || s == nullptr || ECDSA_SIG_set0(pair.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return "";
  }
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(pair.get(), &der);
  if (size <= 0) return "";
  std::string out(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return out;
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

std::string_view to_string(JwtAlgorithm algorithm) {
  switch (algorithm) {
    case JwtAlgorithm::kHs256:
      return "HS256";
    case JwtAlgorithm::kRs256:
      return "RS256";
    case JwtAlgorithm::kEs256:
      return "ES256";
  }
  return "";
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

Result<void> check_signature(const JwtKeys::Key& key, std::string_view signed_part, const std::string& signature,
                             const SignatureBudget& budget) {
  const auto answer = [](bool fits) -> Result<void> {
    if (fits) return {};
    return fail(Errc::kInvalid, "its signature does not fit");
  };
  if (key.algorithm == JwtAlgorithm::kHs256)
    return answer(equal_in_constant_time(hmac_sha256(key.secret, signed_part), signature));
  KnownSignatures::Digest digest;
  const DigestContext hash(EVP_MD_CTX_new());
  const bool hashed = hash && EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) == 1 &&
                      EVP_DigestUpdate(hash.get(), signed_part.data(), signed_part.size()) == 1 &&
                      EVP_DigestUpdate(hash.get(), ".", 1) == 1 &&
                      EVP_DigestUpdate(hash.get(), signature.data(), signature.size()) == 1 &&
                      EVP_DigestFinal_ex(hash.get(), digest.data(), nullptr) == 1;
  if (hashed && key.known->has(digest)) return {};
  const std::string der = key.algorithm == JwtAlgorithm::kEs256 ? der_of(signature) : signature;
  if (der.empty()) return answer(false);
  if (budget && !budget()) return fail(Errc::kExhausted, "too many new signatures from its address");
  const DigestContext context(EVP_MD_CTX_new());
  const bool fits =
      context && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, pkey_of(key.evp_pkey)) == 1 &&
      EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(der.data()), der.size(),
                       reinterpret_cast<const unsigned char*>(signed_part.data()), signed_part.size()) == 1;
  ERR_clear_error();
  if (fits && hashed) key.known->add(digest);
  return answer(fits);
}

Result<JwtKeys> JwtKeys::parse_jwks(std::string_view json) {
  try {
    const auto document = nlohmann::json::parse(json, nullptr, false);
    if (!document.is_object() || !document.contains("keys") || !document["keys"].is_array()) {
      return fail(Errc::kInvalid, "it is no JWK set: {\"keys\": [...]}");
    }
    if (document["keys"].size() > kKeysMax) return fail(Errc::kInvalid, "it has more than 64 keys");
    JwtKeys set;
    std::string faults;
    size_t place = 0;
    for (const auto& jwk : document["keys"]) {
      ++place;
      if (jwk.is_object() && !is_for_signatures(jwk)) continue;
      Result<Key> key = jwk.is_object() ? key_of(jwk) : fail(Errc::kInvalid, "it is no object");
      if (key && set.has(key->kid)) key = fail(Errc::kInvalid, "its kid is another's too, or both have none");
      if (key) {
        set.keys_.push_back(std::make_shared<const Key>(std::move(*key)));
        continue;
      }
      faults += (faults.empty() ? "key " : "; key ") + std::to_string(place) + ": " + key.error().message;
    }
    if (!faults.empty()) return fail(Errc::kInvalid, faults);
    if (set.keys_.empty()) return fail(Errc::kInvalid, "it has no key for signatures");
    return set;
  } catch (const nlohmann::json::exception&) {
    return fail(Errc::kInvalid, "a member has another type than RFC 7517 gives it");
  }
}

Result<JwtKeys> JwtKeys::from_secret(std::string_view secret, std::string kid) {
  if (secret.size() < kSecretBytesMin) return fail(Errc::kInvalid, "a secret must have at least 32 bytes");
  JwtKeys set;
  set.keys_.push_back(
      std::make_shared<const Key>(Key{std::move(kid), JwtAlgorithm::kHs256, std::string(secret), nullptr}));
  return set;
}

Result<JwtKeys> JwtKeys::from_pem(std::string_view pem, std::string kid) {
  const std::unique_ptr<BIO, Freed<BIO_free_all>> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  auto key = owned(bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  ERR_clear_error();
  if (!key) return fail(Errc::kInvalid, "it is no public key in PEM");
  JwtAlgorithm algorithm = JwtAlgorithm::kRs256;
  if (EVP_PKEY_is_a(pkey_of(key), "RSA")) {
    if (EVP_PKEY_get_bits(pkey_of(key)) < kRsaBitsMin)
      return fail(Errc::kInvalid, "an RSA key must have at least 2048 bits");
  } else {
    char group[64] = "";
    EVP_PKEY_get_utf8_string_param(pkey_of(key), OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, nullptr);
    ERR_clear_error();
    if (std::string_view(group) != "prime256v1")
      return fail(Errc::kInvalid, "it is neither an RSA key nor one on P-256");
    algorithm = JwtAlgorithm::kEs256;
  }
  JwtKeys set;
  set.keys_.push_back(std::make_shared<const Key>(Key{std::move(kid), algorithm, "", std::move(key)}));
  return set;
}

bool JwtKeys::has(const std::string& kid) const {
  return std::any_of(keys_.begin(), keys_.end(), [&](const auto& key) { return key->kid == kid; });
}

const JwtKeys::Key* JwtKeys::find(const std::optional<std::string>& kid) const {
  if (!kid) return keys_.size() == 1 ? keys_.front().get() : nullptr;
  for (const auto& key : keys_) {
    if (key->kid == *kid) return key.get();
  }
  return nullptr;
}

}  // namespace tallygate::api
