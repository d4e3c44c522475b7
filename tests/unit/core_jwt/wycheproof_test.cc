// The public Wycheproof vectors for JSON Web Signatures.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/jwt/verify.h"

namespace tallygate::jwt {
namespace {

const std::vector<Algorithm> kAll{Algorithm::kHs256, Algorithm::kHs384, Algorithm::kHs512, Algorithm::kRs256,
                                  Algorithm::kRs384, Algorithm::kRs512, Algorithm::kPs256, Algorithm::kPs384,
                                  Algorithm::kPs512, Algorithm::kEs256, Algorithm::kEs384, Algorithm::kEs512,
                                  Algorithm::kEdDsa};

// Called valid there and refused here: characters in base64url that are none of its alphabet, which RFC 7515 does not
// allow.
const std::set<int> kStricterHere{372, 373};

TEST(Wycheproof, EachTokenIsTakenOrRefusedAsItsVectorSays) {
  std::ifstream file("tests/golden/jwt/wycheproof_jws.json");
  const auto document = nlohmann::json::parse(file);
  int tokens = 0, taken = 0;
  std::set<std::string> keys_refused;
  for (const auto& group : document["testGroups"]) {
    const auto& key = group.contains("public") ? group["public"] : group["private"];
    const auto keys = Keys::parse_jwks(nlohmann::json{{"keys", {key}}}.dump(), {.algorithms = kAll});
    if (!keys) keys_refused.insert(group["comment"].get<std::string>() + ": " + keys.error().message);
    for (const auto& test : group["tests"]) {
      ++tokens;
      const int id = test["tcId"];
      const bool valid = test["result"] == "valid";
      const bool takes = keys && verify_jws(test["jws"].get<std::string>(), *keys);
      taken += takes;
      if (!keys && valid) continue;  // seen below
      EXPECT_EQ(takes, valid && !kStricterHere.contains(id)) << id << ' ' << test["comment"];
    }
  }
  EXPECT_EQ(tokens, 401);
  EXPECT_GT(taken, 30);
  // Keys for encryption, and two that name an algorithm that there is not.
  for (const std::string& refusal : keys_refused) {
    const bool other_use = refusal.find("it has no key for signatures") != std::string::npos;
    EXPECT_TRUE(other_use || refusal.find("rfc7520") == 0) << refusal;
  }
}

}  // namespace
}  // namespace tallygate::jwt
