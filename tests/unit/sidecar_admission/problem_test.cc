#include "sidecar/admission/problem.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tallygate::sidecar {
namespace {

TEST(Problem, IsValidJsonForEveryReasonAndAnyText) {
  for (size_t i = 0; i < static_cast<size_t>(Reason::kCount); ++i) {
    const auto reason = static_cast<Reason>(i);
    for (const char* detail : {"", "plain", "quote \" backslash \\ slash /", "tab\tline\nbell\x07", "über \xf0\x9f\x98\x80", "bad \xff\xc3"}) {
      DenialFacts facts;
      facts.reason = reason;
      facts.detail = detail;
      facts.request_id = "r-1";
      proxy::Denial denial;
      write_denial(facts, &denial);
      const auto body = nlohmann::json::parse(denial.body, nullptr, false);
      ASSERT_FALSE(body.is_discarded()) << denial.body;
      EXPECT_EQ(body["status"], info(reason).status);
      EXPECT_EQ(body["reason"], info(reason).code);
      EXPECT_EQ(body["requestId"], "r-1");
      EXPECT_EQ(denial.headers.find("WWW-Authenticate") != std::string::npos, info(reason).status == 401);
      if (std::string_view(detail) == "plain") {
        EXPECT_EQ(body["detail"], "plain");
      }
    }
  }
}

TEST(Problem, SaysWhatWasAskedAndWhatIsLeftWhereItIsKnown) {
  Purse purse;
  Plan plan;
  PlanItem item;
  item.purse = &purse;
  item.limit = "calls";
  item.meter = "api_calls";
  item.amount = item.capacity = 100;
  item.end_s = 1'769'817'600;
  const auto body = [&] {
    DenialFacts facts;
    facts.reason = Reason::kQuotaExhausted;
    facts.plan = &plan;
    facts.item = &item;
    facts.requested = 100;
    proxy::Denial denial;
    write_denial(facts, &denial);
    return nlohmann::json::parse(denial.body);
  };
  EXPECT_EQ(body()["requested"], 100);
  EXPECT_EQ(body()["limit"], 100);
  EXPECT_FALSE(body().contains("used")) << "nobody has told";
  EXPECT_FALSE(body().contains("remaining"));
  purse.told = true;
  purse.elsewhere = 36;
  EXPECT_EQ(body()["used"], 64);
  EXPECT_EQ(body()["remaining"], 36);
  item.wallet = true;
  EXPECT_EQ(body()["requested"], 100);
  EXPECT_FALSE(body().contains("limit"));
}

TEST(Problem, KeepsPeoplesLanguage) {
  DenialFacts facts;
  facts.reason = Reason::kSuspended;
  facts.detail = "Rechnung überfällig";
  proxy::Denial denial;
  write_denial(facts, &denial);
  EXPECT_EQ(nlohmann::json::parse(denial.body)["detail"], "Rechnung überfällig");
}

}  // namespace
}  // namespace tallygate::sidecar
