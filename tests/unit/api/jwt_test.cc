// RS256 and ES256, and keys that are confused with each other. The table of bad tokens is in tests/integration/api.
#include "operator/api/jwt.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "core/base64.h"

namespace tallygate::api {
namespace {

constexpr int64_t kNow = 1'795'000'000;
const JwtRules kRules{"iss", "aud", "/app_metadata/org_id", 30};
const std::string kPayload =
    R"({"iss":"iss","aud":"aud","sub":"s","exp":1795000600,"scopes":["openid","tallygate:wallet:read"],"app_metadata":{"org_id":"o-1"}})";

struct KeyPair {
  explicit KeyPair(bool rsa, unsigned bits = 2048) : key(rsa ? EVP_RSA_gen(bits) : EVP_EC_gen("P-256")) {}
  ~KeyPair() { EVP_PKEY_free(key); }
  std::string pem() const {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(bio, key);
    char* data = nullptr;
    const auto size = static_cast<size_t>(BIO_get_mem_data(bio, &data));
    std::string text(data, size);
    BIO_free(bio);
    return text;
  }
  std::string number(const char* name) const {
    BIGNUM* value = nullptr;
    EVP_PKEY_get_bn_param(key, name, &value);
    // A coordinate has its field's length, leading zeros and all (RFC 7518 §6.2.1.2).
    const int size = EVP_PKEY_is_a(key, "EC") == 1 ? 32 : BN_num_bytes(value);
    std::string bytes(static_cast<size_t>(size), '\0');
    BN_bn2binpad(value, reinterpret_cast<unsigned char*>(bytes.data()), size);
    BN_free(value);
    return base64url_encode(bytes);
  }
  std::string sign(const std::string& text) const {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    size_t size = 0;
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key);
    EVP_DigestSign(context, nullptr, &size, bytes, text.size());
    std::string signature(size, '\0');
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size, bytes, text.size());
    EVP_MD_CTX_free(context);
    signature.resize(size);
    return signature;
  }
  EVP_PKEY* key;
};

// DER to r ‖ s.
std::string jose(const std::string& der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
  std::string out(64, '\0');
  BN_bn2binpad(ECDSA_SIG_get0_r(pair), reinterpret_cast<unsigned char*>(out.data()), 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(pair), reinterpret_cast<unsigned char*>(out.data()) + 32, 32);
  ECDSA_SIG_free(pair);
  return out;
}

std::string token(const std::string& header, const std::function<std::string(const std::string&)>& sign) {
  const std::string text = base64url_encode(header) + "." + base64url_encode(kPayload);
  return text + "." + base64url_encode(sign(text));
}
std::string hmac(const std::string& secret, const std::string& text) {
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
  return {reinterpret_cast<const char*>(mac), size};
}

TEST(Jwt, TakesRs256AndEs256ByPemAndByJwks) {
  const KeyPair rsa(true), ec(false);
  const auto rs = token(R"({"alg":"RS256","kid":"r"})", [&](const std::string& t) { return rsa.sign(t); });
  const auto es = token(R"({"alg":"ES256","kid":"e"})", [&](const std::string& t) { return jose(ec.sign(t)); });
  const auto set = JwtKeys::parse_jwks(
      R"({"keys":[{"kty":"RSA","kid":"r","alg":"RS256","n":")" + rsa.number(OSSL_PKEY_PARAM_RSA_N) + R"(","e":")" +
      rsa.number(OSSL_PKEY_PARAM_RSA_E) + R"("},{"kty":"EC","kid":"e","crv":"P-256","x":")" +
      ec.number(OSSL_PKEY_PARAM_EC_PUB_X) + R"(","y":")" + ec.number(OSSL_PKEY_PARAM_EC_PUB_Y) + R"("}]})");
  ASSERT_TRUE(set) << set.error().message;
  for (const auto& one : {rs, es}) {
    const auto claims = verify_jwt(one, *set, kRules, kNow);
    ASSERT_TRUE(claims) << claims.error().message;
    EXPECT_EQ(claims->external_id, "o-1");
    EXPECT_EQ(claims->scopes, std::vector<std::string>{"wallet:read"});
  }
  EXPECT_TRUE(verify_jwt(rs, *JwtKeys::from_pem(rsa.pem(), "r"), kRules, kNow));
  EXPECT_TRUE(verify_jwt(es, *JwtKeys::from_pem(ec.pem(), "e"), kRules, kNow));
  EXPECT_FALSE(verify_jwt(rs, *JwtKeys::from_pem(KeyPair(true).pem(), "r"), kRules, kNow)) << "another key";
  EXPECT_FALSE(verify_jwt(es, *JwtKeys::from_pem(KeyPair(false).pem(), "e"), kRules, kNow)) << "another key";
  EXPECT_FALSE(
      verify_jwt(token(R"({"alg":"RS256"})", [&](const std::string& t) { return rsa.sign(t); }), *set, kRules, kNow))
      << "two keys, and none is named";
}

// The public key is known to everybody: as an HMAC secret it must be worth nothing.
using jwt::KnownSignatures;

KnownSignatures::Digest digest_of(const std::string& token) {
  const size_t dot = token.rfind('.');
  const std::string text = token.substr(0, dot + 1) + *base64url_decode(token.substr(dot + 1));
  KnownSignatures::Digest digest;
  EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

// A signature that was found to fit is not computed again; everything else of the token is looked at each time.
TEST(Jwt, ATokenThatIsKnownExpiresAndIsNoOther) {
  for (const bool rsa : {true, false}) {
    const KeyPair pair(rsa), other(rsa);
    const auto keys = JwtKeys::from_pem(pair.pem());
    ASSERT_TRUE(keys);
    const auto sign = [&](const std::string& text) { return rsa ? pair.sign(text) : jose(pair.sign(text)); };
    const std::string good = token(rsa ? R"({"alg":"RS256"})" : R"({"alg":"ES256"})", sign);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(verify_jwt(good, *keys, kRules, kNow));
    EXPECT_FALSE(verify_jwt(good, *keys, kRules, kNow + 1000)) << "it has expired";
    EXPECT_FALSE(verify_jwt(good, *keys, JwtRules{"iss", "other", "/x", 30}, kNow));
    const size_t signature = good.rfind('.') + 1, payload = good.find('.') + 1;
    for (const size_t at : {payload + 20, signature + 5}) {
      std::string changed = good;
      changed[at] = changed[at] == 'A' ? 'B' : 'A';
      EXPECT_FALSE(verify_jwt(changed, *keys, kRules, kNow)) << at;
    }
    const auto others = JwtKeys::from_pem(other.pem());
    EXPECT_FALSE(verify_jwt(good, *others, kRules, kNow)) << "known to one key, not to the next";
    EXPECT_TRUE(verify_jwt(good, *keys, kRules, kNow));
    // What is known is not computed: the key takes even what it has not signed, once that is said to be known.
    KnownSignatures& known = *keys->find(std::nullopt)->known;
    EXPECT_TRUE(known.has(digest_of(good)));
    const std::string forged = token(rsa ? R"({"alg":"RS256"})" : R"({"alg":"ES256"})",
                                     [](const std::string&) { return std::string(64, 'x'); });
    EXPECT_FALSE(verify_jwt(forged, *keys, kRules, kNow));
    // Whose budget is used up has nothing computed: what is known passes, of the rest nobody knows.
    int asked = 0;
    const auto none = [&] { return ++asked == 0; };
    EXPECT_TRUE(verify_jwt(good, *keys, kRules, kNow, none));
    EXPECT_EQ(asked, 0);
    EXPECT_EQ(verify_jwt(forged, *keys, kRules, kNow, none).error().errc, Errc::kExhausted);
    EXPECT_EQ(asked, 1);
    EXPECT_FALSE(known.has(digest_of(forged))) << "only what fits is";
    known.add(digest_of(forged));
    EXPECT_TRUE(verify_jwt(forged, *keys, kRules, kNow));
  }
}

TEST(Jwt, KnowsTheLatestSignaturesInBoundedSpace) {
  KnownSignatures known;
  const auto digest = [](uint32_t i) {
    KnownSignatures::Digest out{};
    std::memcpy(out.data(), &i, sizeof i);
    return out;
  };
  for (uint32_t i = 0; i < 3 * KnownSignatures::kAtLeast; ++i) known.add(digest(i));
  for (uint32_t i = 2 * KnownSignatures::kAtLeast; i < 3 * KnownSignatures::kAtLeast; ++i) {
    ASSERT_TRUE(known.has(digest(i))) << i;
  }
  EXPECT_FALSE(known.has(digest(0)));
}

TEST(Jwt, APublicKeyIsNoSecret) {
  const KeyPair rsa(true);
  const auto keys = JwtKeys::from_pem(rsa.pem());
  ASSERT_TRUE(keys);
  for (const char* alg : {"HS256", "RS256", "ES256", "none", "PS256"}) {
    const auto forged =
        token(std::string(R"({"alg":")") + alg + R"("})", [&](const std::string& t) { return hmac(rsa.pem(), t); });
    EXPECT_FALSE(verify_jwt(forged, *keys, kRules, kNow)) << alg;
  }
}

TEST(Jwt, RefusesEcSignaturesThatAreNotRAndS) {
  const KeyPair ec(false);
  const auto keys = JwtKeys::from_pem(ec.pem());
  const std::string header = R"({"alg":"ES256"})";
  EXPECT_FALSE(verify_jwt(token(header, [&](const std::string& t) { return ec.sign(t); }), *keys, kRules, kNow))
      << "DER";
  EXPECT_FALSE(verify_jwt(token(header, [](const std::string&) { return std::string(64, '\0'); }), *keys, kRules, kNow))
      << "zeros";
  EXPECT_FALSE(
      verify_jwt(token(header, [](const std::string&) { return std::string(64, '\xFF'); }), *keys, kRules, kNow));
}

TEST(Jwt, RefusesKeysThatAreWeakPrivateOrConfused) {
  EXPECT_FALSE(JwtKeys::from_secret("short"));
  EXPECT_FALSE(JwtKeys::from_pem(KeyPair(true, 1024).pem()));
  EXPECT_FALSE(JwtKeys::from_pem("-----BEGIN NONSENSE-----"));
  const std::string secret = base64url_encode(std::string(32, 's'));
  for (const std::string& jwks :
       {std::string("{}"), std::string(R"({"keys":[]})"), std::string(R"({"keys":[{"kty":"oct","k":"c2hvcnQ"}]})"),
        R"({"keys":[{"kty":"oct","alg":"RS256","k":")" + secret + R"("}]})",
        R"({"keys":[{"kty":"oct","alg":"none","k":")" + secret + R"("}]})",
        R"({"keys":[{"kty":"oct","d":"AA","k":")" + secret + R"("}]})",
        R"({"keys":[{"kty":"oct","kid":"a","k":")" + secret + R"("},{"kty":"oct","kid":"a","k":")" + secret + R"("}]})",
        std::string(R"({"keys":[{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}]})"),
        R"({"keys":[{"kty":"EC","crv":"P-256","x":")" + secret + R"(","y":")" + secret + R"("}]})",
        std::string(R"({"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]})"), std::string(R"({"keys":[{"kty":1}]})")}) {
    EXPECT_FALSE(JwtKeys::parse_jwks(jwks)) << jwks;
  }
}

const std::string kSecret = "a secret of at least thirty-two bytes";

std::string hs256(const std::string& header, const std::string& payload) {
  const std::string text = base64url_encode(header) + '.' + base64url_encode(payload);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), kSecret.data(), static_cast<int>(kSecret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
  return text + '.' + base64url_encode(std::string(reinterpret_cast<char*>(mac), size));
}

std::string with_scopes(const std::string& members) {
  return R"({"iss":"iss","aud":"aud","exp":1795000600,"app_metadata":{"org_id":"o-1"},)" + members + "}";
}

// Issuers write them as words or as lists, under three names; those of ours are told by their prefix.
TEST(Jwt, ScopesAreOursByTheirPrefix) {
  const auto keys = JwtKeys::from_secret(kSecret);
  const auto scopes = [&](const std::string& members, const JwtRules& rules) {
    const auto claims = verify_jwt(hs256(R"({"alg":"HS256"})", with_scopes(members)), *keys, rules, kNow);
    EXPECT_TRUE(claims) << members;
    std::string all;
    for (const auto& scope : claims ? claims->scopes : std::vector<std::string>{}) all += scope + " ";
    return all;
  };
  for (const char* name : {"scope", "scopes", "scp"}) {
    const std::string member = '"' + std::string(name) + "\":";
    EXPECT_EQ(scopes(member + R"("openid  tallygate:wallet:read admin tallygate:usage:write")", kRules),
              "wallet:read usage:write ");
    EXPECT_EQ(scopes(member + R"(["openid","tallygate:wallet:read","admin"])", kRules), "wallet:read ");
    EXPECT_EQ(scopes(member + R"("tallygate:admin tallygate:lease:write lease:write")", kRules), "");
    JwtRules privileged = kRules;
    privileged.privileged = true;
    EXPECT_EQ(scopes(member + R"("admin tallygate:admin tallygate:lease:write")", privileged), "admin lease:write ");
    JwtRules url = kRules;
    url.scope_prefix = "https://api.example/";
    EXPECT_EQ(scopes(member + R"("https://api.example/wallet:read tallygate:wallet:write")", url), "wallet:read ");
    EXPECT_FALSE(verify_jwt(hs256(R"({"alg":"HS256"})", with_scopes(member + "7")), *keys, kRules, kNow));
    EXPECT_FALSE(verify_jwt(hs256(R"({"alg":"HS256"})", with_scopes(member + "[7]")), *keys, kRules, kNow));
  }
}

// A logout token is signed by the same issuer with the same key (RFC 8725, 3.11).
TEST(Jwt, ATypeThatIsRequired) {
  const auto keys = JwtKeys::from_secret(kSecret);
  JwtRules rules = kRules;
  rules.type = "at+jwt";
  const auto takes = [&](const std::string& header) {
    return verify_jwt(hs256(header, with_scopes(R"("sub":"s")")), *keys, rules, kNow).has_value();
  };
  EXPECT_TRUE(takes(R"({"alg":"HS256","typ":"at+jwt"})"));
  EXPECT_TRUE(takes(R"({"alg":"HS256","typ":"application/AT+JWT"})"));
  for (const char* header : {R"({"alg":"HS256","typ":"logout+jwt"})", R"({"alg":"HS256","typ":"JWT"})",
                             R"({"alg":"HS256"})", R"({"alg":"HS256","typ":7})"}) {
    EXPECT_FALSE(takes(header)) << header;
  }
  rules.type.clear();
  EXPECT_TRUE(takes(R"({"alg":"HS256","typ":"logout+jwt"})"));
}

TEST(Jwt, KeysForOtherThingsThanSignaturesAreSkipped) {
  const std::string jwk = R"({"kty":"oct","kid":"a","k":")" + base64url_encode(kSecret) + '"';
  const std::string token = hs256(R"({"alg":"HS256"})", with_scopes(R"("sub":"s")"));
  const auto takes = [&](const std::string& more) {
    const auto keys = JwtKeys::parse_jwks(R"({"keys":[)" + jwk + more + "}]}");
    return keys && verify_jwt(token, *keys, kRules, kNow);
  };
  EXPECT_TRUE(takes(""));
  EXPECT_TRUE(takes(R"(,"key_ops":["sign","verify"])"));
  EXPECT_FALSE(takes(R"(,"key_ops":["encrypt","decrypt"])"));
  EXPECT_FALSE(takes(R"(,"key_ops":["sign"])"));
  EXPECT_FALSE(takes(R"(,"key_ops":[])"));
  EXPECT_FALSE(takes(R"(,"key_ops":"verify")"));
  EXPECT_FALSE(takes(R"(,"use":"enc")"));
}

}  // namespace
}  // namespace tallygate::api
