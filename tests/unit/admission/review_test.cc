#include "operator/admission/review.h"

#include <gtest/gtest.h>

#include "core/base64.h"
#include "operator/admission/validate.h"

namespace tallygate::admission {
namespace {

const char kPolicy[] = R"({"apiVersion":"billing.tallygate.dev/v1alpha1","kind":"BillingPolicy",
  "metadata":{"name":"api","namespace":"shop","uid":"1","creationTimestamp":"2026-01-01T00:00:00Z"},
  "spec":{"identity":[{"type":"APIKey","apiKey":{"header":"X-Api-Key"}}],
          "defaultRoute":{"charges":[{"meter":"api_calls","units":1}]}}})";

Review review_of(const std::string& operation, const Json& object, const Json& before = nullptr) {
  const Json body = {
      {"apiVersion", "admission.k8s.io/v1"},
      {"kind", "AdmissionReview"},
      {"request",
       {{"uid", "u-1"}, {"operation", operation}, {"namespace", "shop"}, {"object", object}, {"oldObject", before}}}};
  return parse_review(body.dump()).value();
}

TEST(Review, OnlyAReviewIsOne) {
  EXPECT_FALSE(parse_review(""));
  EXPECT_FALSE(parse_review("[]"));
  EXPECT_FALSE(
      parse_review(R"({"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}})"));
  EXPECT_FALSE(parse_review(R"({"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}})"));
}

TEST(Review, APatchTravelsInBase64) {
  Answer answer;
  answer.patch = Json::array({{{"op", "add"}, {"path", "/x"}, {"value", "ü"}}});
  const Json response = Json::parse(to_text("u-1", answer))["response"];
  EXPECT_EQ(response["uid"], "u-1");
  EXPECT_EQ(response["patchType"], "JSONPatch");
  EXPECT_EQ(Json::parse(base64_decode(response["patch"].get<std::string>()).value()), answer.patch);
}

TEST(Validate, AGoodObjectPassesAndABadOneIsToldFieldAndFix) {
  const Json good = Json::parse(kPolicy);
  EXPECT_TRUE(validate(review_of("CREATE", good)).allowed);
  Json bad = good;
  bad["spec"]["identity"][0]["type"] = "ApiKey";
  const Answer refused = validate(review_of("CREATE", bad));
  EXPECT_FALSE(refused.allowed);
  EXPECT_NE(refused.message.find("spec.identity[0].type"), std::string::npos) << refused.message;
  EXPECT_NE(refused.message.find("APIKey"), std::string::npos) << refused.message;
  EXPECT_EQ(Json::parse(to_text("u", refused))["response"]["status"]["code"], 422);
}

TEST(Validate, NeverStandsInTheWayOfAnEnd) {
  Json bad = Json::parse(kPolicy);
  bad["spec"] = {{"nonsense", 1}};
  EXPECT_FALSE(validate(review_of("CREATE", bad)).allowed);
  EXPECT_TRUE(validate(review_of("DELETE", nullptr, bad)).allowed);
  Json ending = bad;
  ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  EXPECT_TRUE(validate(review_of("UPDATE", ending, bad)).allowed);
  Json released = bad;  // a finalizer goes, of what was stored before a rule was there
  released["metadata"]["finalizers"] = Json::array();
  EXPECT_TRUE(validate(review_of("UPDATE", released, bad)).allowed);
  Json worse = bad;
  worse["spec"]["more"] = 2;
  EXPECT_FALSE(validate(review_of("UPDATE", worse, bad)).allowed);
}

TEST(Validate, ANameMayBeStillToCome) {
  Json object = Json::parse(kPolicy);
  object["metadata"].erase("name");
  object["metadata"]["generateName"] = "api-";
  const Answer answer = validate(review_of("CREATE", object));
  EXPECT_TRUE(answer.allowed) << answer.message;
}

}  // namespace
}  // namespace tallygate::admission
