#include "core/redis_contract/signature.h"

#include <gtest/gtest.h>

#include "core/redis_contract/keys.h"

namespace tallygate::redis_contract {
namespace {

std::string unhex(std::string_view digits) {
  std::string out;
  for (size_t i = 0; i < digits.size(); i += 2) {
    out += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  }
  return out;
}

Signer signer(char fill) { return Signer::from_seed(std::string(32, fill)).value(); }

constexpr Edition kEdition{1, 7};

// RFC 8032, 7.1, test 1.
TEST(Signature, TheKeyIsThatOfTheStandard) {
  const auto made = Signer::from_seed(unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
  ASSERT_TRUE(made);
  EXPECT_EQ(made->public_key().raw(), unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
  EXPECT_EQ(made->public_key().id().size(), 16u);
}

TEST(Signature, HoldsForItsNameDocumentAndEditionAlone) {
  const Signer ours = signer('a'), theirs = signer('b');
  const auto trusted = TrustedKeys::of({ours.public_key()});
  const std::string good = ours.sign("Tshop/acme", "{\"v\":1}", kEdition);
  EXPECT_EQ(trusted.verify("Tshop/acme", "{\"v\":1}", good), kEdition);
  const auto why = [&](std::string_view name, std::string_view document, const std::string& text) {
    const auto verified = trusted.verify(name, document, text);
    return std::string(verified ? "believed" : to_string(verified.error()));
  };
  EXPECT_EQ(why("Tshop/acme", "{\"v\":2}", good), "forged");
  EXPECT_EQ(why("Tshop/globex", "{\"v\":1}", good), "forged") << "another's document";
  EXPECT_EQ(why("Tshop/acm", "e{\"v\":1}", good), "forged") << "divided otherwise";
  EXPECT_EQ(why("Tshop/acme", "", good), "forged");
  std::string later = good;
  later.replace(later.find(" 1 7 "), 5, " 1 8 ");
  EXPECT_EQ(why("Tshop/acme", "{\"v\":1}", later), "forged") << "another edition";
  std::string bent = good;
  bent[bent.size() - 10] = bent[bent.size() - 10] == 'A' ? 'B' : 'A';
  EXPECT_EQ(why("Tshop/acme", "{\"v\":1}", bent), "forged");
  EXPECT_EQ(why("Tshop/acme", "{\"v\":1}", theirs.sign("Tshop/acme", "{\"v\":1}", kEdition)), "unknown_key");
  for (const std::string& text : {std::string(), std::string("1"), good + " ", good + "A", "2" + good.substr(1),
                                 good.substr(0, good.size() - 1), std::string(500, ' '),
                                 "1 " + ours.public_key().id() + " -1 7 x", "1 " + ours.public_key().id() + " 01 7 x"}) {
    EXPECT_EQ(why("Tshop/acme", "{\"v\":1}", text), "unsigned") << text;
  }
}

TEST(Signature, ASignerKnowsItsOwn) {
  const Signer ours = signer('a'), theirs = signer('b');
  const std::string good = ours.sign("Pshop/api", "x", kEdition);
  EXPECT_TRUE(ours.made(good, "Pshop/api", "x"));
  EXPECT_FALSE(ours.made(good, "Pshop/api", "y"));
  EXPECT_FALSE(ours.made(good, "Pshop/web", "x"));
  EXPECT_FALSE(theirs.made(good, "Pshop/api", "x"));
  EXPECT_FALSE(ours.made("", "Pshop/api", "x"));
}

TEST(Signature, KeysGoThroughPem) {
  const Signer a = signer('a'), b = signer('b');
  const auto both = TrustedKeys::from_pem("about them\n" + a.public_key().pem() + b.public_key().pem());
  ASSERT_TRUE(both) << both.error().message;
  EXPECT_EQ(*both, TrustedKeys::of({b.public_key(), a.public_key()}));
  EXPECT_EQ(both->verify("n", "d", b.sign("n", "d", kEdition)), kEdition);
  EXPECT_FALSE(TrustedKeys::from_pem(""));
  EXPECT_FALSE(TrustedKeys::from_pem("-----BEGIN PUBLIC KEY-----"));
  EXPECT_FALSE(TrustedKeys::from_pem(a.public_key().pem().substr(0, 60)));
  std::string many;
  for (char c = 'a'; c < 'j'; ++c) many += signer(c).public_key().pem();
  EXPECT_FALSE(TrustedKeys::from_pem(many));
  const auto private_key = Signer::from_pem(
      "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
      "-----END PRIVATE KEY-----\n" + b.public_key().pem());
  ASSERT_TRUE(private_key) << private_key.error().message;
  EXPECT_EQ(private_key->public_key().raw(), unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
  const auto wrong = Signer::from_pem(b.public_key().pem());
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("openssl genpkey"), std::string::npos);
}

TEST(Signature, IsBesideWhatItIsOf) {
  EXPECT_EQ(signature_key(policy_key("shop/api")), "tg:{pub}:sig:policy:shop/api");
  EXPECT_EQ(signature_key(identity_key("external", "a}:b")), "tg:{pub}:sig:id:external:a}:b");
  const std::string key = tenant_key("shop/acme");
  EXPECT_EQ(signature_key(key).substr(0, 9), key.substr(0, 9)) << "the same slot";
}

}  // namespace
}  // namespace tallygate::redis_contract
