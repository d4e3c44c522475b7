// Each algorithm with its own key; keys and algorithms that are confused with each other; what claims must say.
#include "core/jwt/verify.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <nlohmann/json.hpp>

#include "core/base64.h"

namespace tallygate::jwt {
namespace {

constexpr int64_t kNow = 1'795'000'000;

struct Signer {
  explicit Signer(Algorithm of) : algorithm(of) {
    switch (key_type(of)) {
      case KeyType::kRsa:
        key = EVP_RSA_gen(2048u);
        break;
      case KeyType::kP256:
        key = EVP_EC_gen("P-256");
        break;
      case KeyType::kP384:
        key = EVP_EC_gen("P-384");
        break;
      case KeyType::kP521:
        key = EVP_EC_gen("P-521");
        break;
      case KeyType::kEd25519:
        key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
        break;
      case KeyType::kSecret:
        break;
    }
  }
  Signer(const Signer&) = delete;
  Signer& operator=(const Signer&) = delete;
  ~Signer() { EVP_PKEY_free(key); }

  size_t coordinate() const {
    return key_type(algorithm) == KeyType::kP256 ? 32 : key_type(algorithm) == KeyType::kP384 ? 48 : 66;
  }
  std::string number(const char* name, size_t size) const {
    BIGNUM* value = nullptr;
    EVP_PKEY_get_bn_param(key, name, &value);
    const size_t bytes = size != 0 ? size : static_cast<size_t>(BN_num_bytes(value));
    std::string out(bytes, '\0');
    BN_bn2binpad(value, reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(bytes));
    BN_free(value);
    return base64url_encode(out);
  }
  nlohmann::json jwk(const std::string& kid) const {
    switch (key_type(algorithm)) {
      case KeyType::kRsa:
        return {{"kty", "RSA"},
                {"kid", kid},
                {"n", number(OSSL_PKEY_PARAM_RSA_N, 0)},
                {"e", number(OSSL_PKEY_PARAM_RSA_E, 0)}};
      case KeyType::kEd25519: {
        std::string raw(32, '\0');
        size_t size = raw.size();
        EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(raw.data()), &size);
        return {{"kty", "OKP"}, {"crv", "Ed25519"}, {"kid", kid}, {"x", base64url_encode(raw)}};
      }
      default: {
        const char* curve = coordinate() == 32 ? "P-256" : coordinate() == 48 ? "P-384" : "P-521";
        return {{"kty", "EC"},
                {"crv", curve},
                {"kid", kid},
                {"x", number(OSSL_PKEY_PARAM_EC_PUB_X, coordinate())},
                {"y", number(OSSL_PKEY_PARAM_EC_PUB_Y, coordinate())}};
      }
    }
  }
  const EVP_MD* digest() const {
    const std::string name(to_string(algorithm));
    if (algorithm == Algorithm::kEdDsa) return nullptr;
    return name.ends_with("256") ? EVP_sha256() : name.ends_with("384") ? EVP_sha384() : EVP_sha512();
  }
  std::string sign(const std::string& text) const {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_PKEY_CTX* parameters = nullptr;
    EVP_DigestSignInit(context, &parameters, digest(), nullptr, key);
    if (to_string(algorithm).starts_with("PS")) {
      EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING);
      EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST);
    }
    size_t size = 0;
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    EVP_DigestSign(context, nullptr, &size, bytes, text.size());
    std::string signature(size, '\0');
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size, bytes, text.size());
    signature.resize(size);
    EVP_MD_CTX_free(context);
    return to_string(algorithm).starts_with("ES") ? jose(signature) : signature;
  }
  std::string jose(const std::string& der) const {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    const auto bytes = static_cast<int>(coordinate());
    std::string out(2 * coordinate(), '\0');
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), reinterpret_cast<unsigned char*>(out.data()), bytes);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), reinterpret_cast<unsigned char*>(out.data()) + bytes, bytes);
    ECDSA_SIG_free(pair);
    return out;
  }

  Algorithm algorithm;
  EVP_PKEY* key = nullptr;
};

const std::string kPayload =
    R"({"iss":"https://id","aud":["other","api"],"sub":"s","exp":1795000600,"scope":"read write","org":{"id":"o-1"}})";

std::string token(const Signer& signer, const std::string& kid, const std::string& payload = kPayload,
                  std::string alg = "") {
  if (alg.empty()) alg = to_string(signer.algorithm);
  const std::string text =
      base64url_encode(R"({"alg":")" + alg + R"(","kid":")" + kid + R"("})") + '.' + base64url_encode(payload);
  return text + '.' + base64url_encode(signer.sign(text));
}

const std::vector<Algorithm> kPublic{Algorithm::kRs256, Algorithm::kRs384, Algorithm::kRs512, Algorithm::kPs256,
                                     Algorithm::kPs384, Algorithm::kPs512, Algorithm::kEs256, Algorithm::kEs384,
                                     Algorithm::kEs512, Algorithm::kEdDsa};

Rules rules(std::vector<Algorithm> algorithms = kPublic) {
  return {"https://id", {"api", "api2"}, "/org/id", 30, std::move(algorithms), ""};
}

Keys keys_of(const std::vector<nlohmann::json>& jwks, const KeyRules& key_rules = {.algorithms = kPublic}) {
  auto keys = Keys::parse_jwks(nlohmann::json{{"keys", jwks}}.dump(), key_rules);
  EXPECT_TRUE(keys) << keys.error().message;
  return *keys;
}

TEST(JwtVerify, TakesEachAlgorithmByItsOwnKeyAlone) {
  for (const Algorithm algorithm : kPublic) {
    const Signer signer(algorithm), other(algorithm);
    const Keys keys = keys_of({signer.jwk("k")});
    const auto claims = verify(token(signer, "k"), keys, rules(), kNow);
    ASSERT_TRUE(claims) << to_string(algorithm) << ": " << claims.error().message;
    EXPECT_EQ(claims->external_id, "o-1");
    EXPECT_EQ(claims->expires_s, 1'795'000'600);
    EXPECT_EQ(claims->scopes, (std::vector<std::string>{"read", "write"}));
    EXPECT_FALSE(verify(token(other, "k"), keys, rules(), kNow)) << to_string(algorithm);
    EXPECT_FALSE(verify(token(signer, "other"), keys, rules(), kNow)) << to_string(algorithm);
    // What it does not allow is refused before any key is looked for.
    EXPECT_EQ(verify(token(signer, "k"), keys,
                     rules({algorithm == Algorithm::kRs256 ? Algorithm::kEs256 : Algorithm::kRs256}), kNow)
                  .error()
                  .message,
              "alg is none that is taken here");
    for (const Algorithm said : kPublic) {
      if (said == algorithm) continue;
      EXPECT_FALSE(verify(token(signer, "k", kPayload, std::string(to_string(said))), keys, rules(), kNow))
          << to_string(algorithm) << " said to be " << to_string(said);
    }
    for (const char* said : {"none", "None", "HS256", "RS1", ""}) {
      const std::string text =
          base64url_encode(std::string(R"({"alg":")") + said + R"(","kid":"k"})") + '.' + base64url_encode(kPayload);
      EXPECT_FALSE(verify(text + '.' + base64url_encode(signer.sign(text)), keys, rules(), kNow)) << said;
      EXPECT_FALSE(verify(text + '.', keys, rules(), kNow)) << said;
    }
  }
}

TEST(JwtVerify, AKeyThatNamesItsAlgorithmIsForNoOther) {
  const Signer rs(Algorithm::kRs256);
  auto jwk = rs.jwk("k");
  jwk["alg"] = "PS256";
  EXPECT_EQ(verify(token(rs, "k"), keys_of({jwk}), rules(), kNow).error().message, "alg is not the key's");
  jwk["alg"] = "RS256";
  EXPECT_TRUE(verify(token(rs, "k"), keys_of({jwk}), rules(), kNow));
}

TEST(JwtVerify, OfASetThatIsForOthersTooTheFitKeysAreKept) {
  const Signer es(Algorithm::kEs256);
  const std::vector<nlohmann::json> jwks{{{"kty", "EC"}, {"crv", "secp256k1"}, {"kid", "a"}, {"x", "AA"}, {"y", "AA"}},
                                         {{"kty", "oct"}, {"kid", "b"}, {"k", base64url_encode(std::string(32, 's'))}},
                                         {{"kty", "RSA"}, {"kid", "c"}, {"n", "AQAB"}, {"e", "AQAB"}},
                                         es.jwk("k")};
  const KeyRules strict{.algorithms = {Algorithm::kEs256}},
      lenient{.algorithms = {Algorithm::kEs256}, .skip_unfit = true};
  EXPECT_FALSE(Keys::parse_jwks(nlohmann::json{{"keys", jwks}}.dump(), strict));
  const Keys keys = keys_of(jwks, lenient);
  EXPECT_EQ(keys.size(), 1u);
  EXPECT_TRUE(verify(token(es, "k"), keys, rules(), kNow));
  EXPECT_FALSE(Keys::parse_jwks(nlohmann::json{{"keys", {jwks[0], jwks[1]}}}.dump(), lenient)) << "none is left";
}

TEST(JwtVerify, ClaimsMustBeOursAndTimely) {
  const Signer es(Algorithm::kEs256);
  const Keys keys = keys_of({es.jwk("k")});
  const auto takes = [&](const std::string& payload, int64_t now_s = kNow) {
    return verify(token(es, "k", payload), keys, rules(), now_s).has_value();
  };
  EXPECT_TRUE(takes(kPayload));
  EXPECT_TRUE(takes(R"({"iss":"https://id","aud":"api2","exp":1795000600})"));
  EXPECT_TRUE(takes(kPayload, 1'795'000'629));
  EXPECT_FALSE(takes(kPayload, 1'795'000'630));
  for (const char* payload :
       {R"({"iss":"https://id/","aud":"api","exp":1795000600})", R"({"aud":"api","exp":1795000600})",
        R"({"iss":"https://id","exp":1795000600})", R"({"iss":"https://id","aud":"apis","exp":1795000600})",
        R"({"iss":"https://id","aud":["api",1],"exp":1795000600})", R"({"iss":"https://id","aud":[],"exp":1795000600})",
        R"({"iss":"https://id","aud":"api"})", R"({"iss":"https://id","aud":"api","exp":"1795000600"})",
        R"({"iss":"https://id","aud":"api","exp":1795000600,"nbf":1795000031})",
        R"({"iss":"https://id","aud":"api","exp":1795000600,"iat":1795000031})",
        R"({"iss":"https://id","aud":"api","exp":1795000600,"org":{"id":7}})",
        R"({"iss":"https://id","iss":"https://id","aud":"api","exp":1795000600})", R"([])", R"({)", ""}) {
    EXPECT_FALSE(takes(payload)) << payload;
  }
}

}  // namespace
}  // namespace tallygate::jwt
