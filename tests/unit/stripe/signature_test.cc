// Whose signature is believed, and whose is not: a row each.
#include "operator/stripe/signature.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/stripe/signed.h"

namespace tallygate::stripe {
namespace {

using testing::mac_of;
using testing::stripe_signature;

constexpr int64_t kNow = 1'800'000'000;
const std::string kSecret = "whsec_one", kOther = "whsec_two", kStranger = "whsec_stranger";
const std::string kBody = R"({"id":"evt_1","object":"event"})";
const std::string kAt = std::to_string(kNow);
const std::string kMac = mac_of(kSecret, kAt, kBody);

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'a' && c <= 'f' ? c - 32 : c);
  return text;
}

std::string changed(std::string mac, size_t at) {
  mac[at] = mac[at] == '0' ? '1' : '0';
  return mac;
}

struct Row {
  const char* name;
  std::string header, body;
  bool believed;
};

std::vector<Row> rows() {
  const std::string other = mac_of(kOther, kAt, kBody), stranger = mac_of(kStranger, kAt, kBody);
  const auto at = [](int64_t s) { return stripe_signature(kSecret, s, kBody); };
  const auto moment = [](const std::string& text) { return "t=" + text + ",v1=" + mac_of(kSecret, text, kBody); };
  std::string many;
  for (int i = 0; i < 16; ++i) many += ",v1=" + stranger;
  return {
      {"as Stripe signs", at(kNow), kBody, true},
      {"the other secret in force", "t=" + kAt + ",v1=" + other, kBody, true},
      {"both, while a secret is rolled", "t=" + kAt + ",v1=" + other + ",v1=" + kMac, kBody, true},
      {"the right one second", "t=" + kAt + ",v1=" + stranger + ",v1=" + kMac, kBody, true},
      {"the right one first", "t=" + kAt + ",v1=" + kMac + ",v1=" + stranger, kBody, true},
      {"with a scheme of test mode beside it", "t=" + kAt + ",v1=" + kMac + ",v0=" + stranger, kBody, true},
      {"with a scheme yet to come", "t=" + kAt + ",v2=abc,v1=" + kMac, kBody, true},
      {"the moment last", "v1=" + kMac + ",t=" + kAt, kBody, true},
      {"spaces between", "t=" + kAt + ", v1=" + kMac, kBody, true},
      {"spaces around", " t=" + kAt + " ,v1=" + kMac + " ", kBody, true},
      {"capitals", "t=" + kAt + ",v1=" + upper(kMac), kBody, true},
      {"just within the past", at(kNow - 300), kBody, true},
      {"just within the future", at(kNow + 300), kBody, true},
      {"an empty body", stripe_signature(kSecret, kNow, ""), "", true},
      {"a body of any bytes", stripe_signature(kSecret, kNow, std::string("\0\xff\n.", 4)), std::string("\0\xff\n.", 4), true},
      {"an item that says nothing", "t=" + kAt + ",,v1=" + kMac, kBody, true},
      {"an item without a value", "t=" + kAt + ",v2,v1=" + kMac, kBody, true},

      {"nothing", "", kBody, false},
      {"a space", " ", kBody, false},
      {"commas", ",,,", kBody, false},
      {"too old", at(kNow - 301), kBody, false},
      {"too new", at(kNow + 301), kBody, false},
      {"of 1970", at(0), kBody, false},
      {"before 1970", moment("-1"), kBody, false},
      {"a moment that overflows", moment("99999999999999999999"), kBody, false},
      {"a moment in words", moment("now"), kBody, false},
      {"a moment and something", moment(kAt + "x"), kBody, false},
      {"a moment with a fraction", moment(kAt + ".0"), kBody, false},
      {"a moment with a sign", moment("+" + kAt), kBody, false},
      {"a moment in hexadecimal", moment("0x6b49d200"), kBody, false},
      {"an empty moment", "t=,v1=" + mac_of(kSecret, "", kBody), kBody, false},
      {"no moment", "v1=" + kMac, kBody, false},
      {"two moments", "t=" + kAt + ",t=" + kAt + ",v1=" + kMac, kBody, false},
      {"another moment than was signed", "t=" + std::to_string(kNow + 1) + ",v1=" + kMac, kBody, false},
      {"no signature", "t=" + kAt, kBody, false},
      {"an empty signature", "t=" + kAt + ",v1=", kBody, false},
      {"the scheme of test mode alone", "t=" + kAt + ",v0=" + kMac, kBody, false},
      {"a scheme in capitals", "t=" + kAt + ",V1=" + kMac, kBody, false},
      {"a secret that is not ours", "t=" + kAt + ",v1=" + stranger, kBody, false},
      {"the first digit changed", "t=" + kAt + ",v1=" + changed(kMac, 0), kBody, false},
      {"the last digit changed", "t=" + kAt + ",v1=" + changed(kMac, 63), kBody, false},
      {"a digit missing", "t=" + kAt + ",v1=" + kMac.substr(0, 63), kBody, false},
      {"a digit too many", "t=" + kAt + ",v1=" + kMac + "0", kBody, false},
      {"half of it", "t=" + kAt + ",v1=" + kMac.substr(0, 32), kBody, false},
      {"no hexadecimal", "t=" + kAt + ",v1=" + std::string(64, 'g'), kBody, false},
      {"in base64", "t=" + kAt + ",v1=q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng=", kBody, false},
      {"quotes", "t=" + kAt + ",v1=\"" + kMac + "\"", kBody, false},
      {"semicolons", "t=" + kAt + ";v1=" + kMac, kBody, false},
      {"a body with a byte more", at(kNow), kBody + "\n", false},
      {"a body with a byte less", at(kNow), kBody.substr(1), false},
      {"a body that was read and written", at(kNow), R"({"id": "evt_1", "object": "event"})", false},
      {"an empty body in its place", at(kNow), "", false},
      {"the body alone signed", "t=" + kAt + ",v1=" + testing::to_hex(hmac_sha256(kSecret, kBody)), kBody, false},
      {"the prefix of the secret left out", "t=" + kAt + ",v1=" + mac_of(kSecret.substr(6), kAt, kBody), kBody, false},
      {"more signatures than anybody needs", "t=" + kAt + many + ",v1=" + kMac, kBody, false},
      {"a header of five thousand bytes", "t=" + kAt + ",v1=" + kMac + ",v0=" + std::string(5000, '0'), kBody, false},
  };
}

TEST(StripeSignature, EveryRow) {
  const std::vector<std::string> secrets{kSecret, kOther};
  ASSERT_GE(rows().size(), 40u);
  for (const Row& row : rows()) {
    const std::string fault = signature_fault(row.header, row.body, secrets, kNow);
    EXPECT_EQ(fault.empty(), row.believed) << row.name << ": " << fault;
    EXPECT_EQ(fault.find(kMac), std::string::npos) << row.name << ": a fault tells no signature";
  }
}

TEST(StripeSignature, WithoutSecretsNothingIsBelieved) {
  EXPECT_NE(signature_fault(stripe_signature("", kNow, kBody), kBody, {}, kNow), "");
}

}  // namespace
}  // namespace tallygate::stripe
