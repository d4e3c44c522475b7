#include "core/http/message.h"

#include <gtest/gtest.h>

namespace tallygate::http {
namespace {

TEST(Message, ProblemsAreWhatRfc9457Says) {
  const Response response = problem_response({.status = 402,
                                              .reason = "DebtLimitExceeded",
                                              .detail = "Balance is \"0\".",
                                              .members = {{"limit", "500"}, {"meter", "\"sms\""}}},
                                             {{"Retry-After", "5"}});
  EXPECT_EQ(response.status, 402);
  EXPECT_EQ(response.content_type, "application/problem+json");
  EXPECT_EQ(response.body,
            R"({"type":"https://tallygate.dev/problems/DebtLimitExceeded","title":"Payment Required","status":402,)"
            R"("detail":"Balance is \"0\".","reason":"DebtLimitExceeded","limit":500,"meter":"sms"})");
  EXPECT_EQ(to_json({.status = 404}), R"({"type":"about:blank","title":"Not Found","status":404})");
}

TEST(Message, QueryParametersAreFormDecoded) {
  Request request;
  request.query = "a=1&b=x%20y+z&empty&c=%zz&a=2&%64=4";
  EXPECT_EQ(request.query_param("a"), "1");
  EXPECT_EQ(request.query_param("b"), "x y z");
  EXPECT_EQ(request.query_param("empty"), "");
  EXPECT_EQ(request.query_param("d"), "4");
  EXPECT_FALSE(request.query_param("c")) << "a broken escape is no value";
  EXPECT_FALSE(request.query_param("missing"));
}

TEST(Message, PercentDecodingRefusesControlCharacters) {
  EXPECT_EQ(percent_decode("a%2Fb"), "a/b");
  for (const char* text : {"%", "%1", "%g0", "%00", "%0a", "%7f"}) EXPECT_FALSE(percent_decode(text)) << text;
}

}  // namespace
}  // namespace tallygate::http
