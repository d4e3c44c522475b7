#include "core/jwt/signature.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "core/base64.h"

namespace tallygate::jwt {
namespace {

constexpr int kRsaBitsMin = 2048;
constexpr size_t kEd25519Bytes = 32;

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

struct Curve {
  KeyType type;
  const char* name;   // JOSE's
  const char* group;  // OpenSSL's
  size_t bytes;       // of a coordinate
};
constexpr Curve kCurves[] = {{KeyType::kP256, "P-256", "prime256v1", 32},
                             {KeyType::kP384, "P-384", "secp384r1", 48},
                             {KeyType::kP521, "P-521", "secp521r1", 66}};
const Curve* curve_of(KeyType type) {
  for (const Curve& curve : kCurves) {
    if (curve.type == type) return &curve;
  }
  return nullptr;
}

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

Result<std::shared_ptr<void>> ec_key(const Curve& curve, const nlohmann::json& jwk) {
  auto x = member_bytes(jwk, "x");
  if (!x) return tl::unexpected(x.error());
  auto y = member_bytes(jwk, "y");
  if (!y) return tl::unexpected(y.error());
  if (x->size() != curve.bytes || y->size() != curve.bytes) {
    return fail(Errc::kInvalid, "\"x\" and \"y\" must have " + std::to_string(curve.bytes) + " bytes");
  }
  const std::string point = '\x04' + *x + *y;
  const Builder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.group, 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1) {
    return fail(Errc::kInternal, "OpenSSL is out of memory");
  }
  return build("EC", builder.get());
}

Result<std::shared_ptr<void>> ed25519_key(const nlohmann::json& jwk) {
  auto x = member_bytes(jwk, "x");
  if (!x) return tl::unexpected(x.error());
  if (x->size() != kEd25519Bytes) return fail(Errc::kInvalid, "\"x\" must have 32 bytes");
  EVP_PKEY* key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr,
                                              reinterpret_cast<const unsigned char*>(x->data()), x->size());
  ERR_clear_error();
  if (key == nullptr) return fail(Errc::kInvalid, "the key's numbers are not valid");
  return owned(key);
}

// r ‖ s, as JOSE has it, to the DER that OpenSSL wants; empty where it is not possible.
std::string der_of(const std::string& signature, size_t bytes) {
  if (signature.size() != 2 * bytes) return "";
  const auto* data = reinterpret_cast<const unsigned char*>(signature.data());
  const std::unique_ptr<ECDSA_SIG, Freed<ECDSA_SIG_free>> pair(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(data, static_cast<int>(bytes), nullptr);
  BIGNUM* s = BN_bin2bn(data + bytes, static_cast<int>(bytes), nullptr);
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

const EVP_MD* digest_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kHs256:
    case Algorithm::kRs256:
    case Algorithm::kPs256:
    case Algorithm::kEs256:
      return EVP_sha256();
    case Algorithm::kHs384:
    case Algorithm::kRs384:
    case Algorithm::kPs384:
    case Algorithm::kEs384:
      return EVP_sha384();
    case Algorithm::kEdDsa:
      return nullptr;  // it has its own
    default:
      return EVP_sha512();
  }
}

bool is_pss(Algorithm algorithm) {
  return algorithm == Algorithm::kPs256 || algorithm == Algorithm::kPs384 || algorithm == Algorithm::kPs512;
}

bool hmac_fits(const Keys::Key& key, Algorithm algorithm, std::string_view text, const std::string& signature) {
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  const bool made = HMAC(digest_of(algorithm), key.secret.data(), static_cast<int>(key.secret.size()),
                         reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size) != nullptr;
  return made && signature.size() == size && CRYPTO_memcmp(mac, signature.data(), size) == 0;
}

// The SHA-256 of token and signature.
bool digest(std::string_view signed_part, const std::string& signature, KnownSignatures::Digest* out) {
  const DigestContext hash(EVP_MD_CTX_new());
  return hash && EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) == 1 &&
         EVP_DigestUpdate(hash.get(), signed_part.data(), signed_part.size()) == 1 &&
         EVP_DigestUpdate(hash.get(), ".", 1) == 1 &&
         EVP_DigestUpdate(hash.get(), signature.data(), signature.size()) == 1 &&
         EVP_DigestFinal_ex(hash.get(), out->data(), nullptr) == 1;
}

bool public_key_fits(const Keys::Key& key, Algorithm algorithm, std::string_view text, const std::string& signature) {
  const DigestContext context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* parameters = nullptr;
  const EVP_MD* md = digest_of(algorithm);
  if (!context || EVP_DigestVerifyInit(context.get(), &parameters, md, nullptr, pkey_of(key.evp_pkey)) != 1)
    return false;
  // RFC 7518, 3.5: the salt is as long as the digest, which MGF1 uses too.
  if (is_pss(algorithm) && (EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) != 1 ||
                            EVP_PKEY_CTX_set_rsa_mgf1_md(parameters, md) != 1 ||
                            EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST) != 1)) {
    return false;
  }
  return EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                          reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1;
}

}  // namespace

Result<std::string> member_bytes(const nlohmann::json& jwk, const char* name) {
  const auto found = jwk.find(name);
  if (found == jwk.end() || !found->is_string()) return fail(Errc::kInvalid, std::string("it has no \"") + name + "\"");
  auto bytes = base64url_decode(found->get_ref<const std::string&>());
  if (!bytes || bytes->empty() || bytes->size() > 2048) {
    return fail(Errc::kInvalid, std::string("\"") + name + "\" is no base64url");
  }
  return std::move(*bytes);
}

Result<std::shared_ptr<void>> public_key(KeyType type, const nlohmann::json& jwk) {
  if (type == KeyType::kRsa) return rsa_key(jwk);
  if (type == KeyType::kEd25519) return ed25519_key(jwk);
  const Curve* curve = curve_of(type);
  TG_ASSERT(curve != nullptr);
  return ec_key(*curve, jwk);
}

Result<std::shared_ptr<void>> public_key_of_pem(std::string_view pem, KeyType* type) {
  const std::unique_ptr<BIO, Freed<BIO_free_all>> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  auto key = owned(bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  ERR_clear_error();
  if (!key) return fail(Errc::kInvalid, "it is no public key in PEM");
  *type = KeyType::kRsa;
  if (EVP_PKEY_is_a(pkey_of(key), "RSA")) {
    if (EVP_PKEY_get_bits(pkey_of(key)) < kRsaBitsMin)
      return fail(Errc::kInvalid, "an RSA key must have at least 2048 bits");
    return key;
  }
  char group[64] = "";
  EVP_PKEY_get_utf8_string_param(pkey_of(key), OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, nullptr);
  ERR_clear_error();
  if (std::string_view(group) != "prime256v1") return fail(Errc::kInvalid, "it is neither an RSA key nor one on P-256");
  *type = KeyType::kP256;
  return key;
}

Result<void> check_signature(const Keys::Key& key, Algorithm algorithm, std::string_view signed_part,
                             const std::string& signature, const SignatureBudget& budget) {
  const auto answer = [](bool fits) -> Result<void> {
    if (fits) return {};
    return fail(Errc::kInvalid, "its signature does not fit");
  };
  TG_ASSERT(key.allows(algorithm));
  if (key.type == KeyType::kSecret) return answer(hmac_fits(key, algorithm, signed_part, signature));
  KnownSignatures::Digest known;
  const bool hashed = digest(signed_part, signature, &known);
  // A key that is for several algorithms knows what fits one of them: the header, which names it, is in the digest.
  if (hashed && key.known->has(known)) return {};
  const Curve* curve = curve_of(key.type);
  const std::string bytes = curve != nullptr ? der_of(signature, curve->bytes) : signature;
  if (bytes.empty()) return answer(false);
  if (budget && !budget()) return fail(Errc::kExhausted, "too many new signatures from its address");
  const bool fits = public_key_fits(key, algorithm, signed_part, bytes);
  ERR_clear_error();
  if (fits && hashed) key.known->add(known);
  return answer(fits);
}

}  // namespace tallygate::jwt
