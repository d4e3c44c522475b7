#include "operator/controller/status.h"

#include <gtest/gtest.h>

namespace tallygate::controller {
namespace {

Status sample() {
  Status s;
  s.observed_generation = 3;
  s.conditions = {{kAccepted, Truth::kTrue, "Accepted", "", 3, 1'700'000'000},
                  {kReady, Truth::kFalse, "Pending", "being published", 3, 1'700'000'001}};
  s.state = LimitState::kWarned;
  s.usage = {{"calls", "api_calls", "Month", 1'000, 850, LimitState::kWarned, 1'701'388'800}};
  s.balance = "61.90 GBP";
  s.period_start_s = 1'698'796'800;
  s.period_end_s = 1'701'388'800;
  s.stripe_customer = "cus_1";
  return s;
}

TEST(Status, IsReadAsItIsWritten) {
  const std::string json = to_json(sample(), "BillingTenant", "shop", "acme", "uid-1");
  EXPECT_EQ(read_status(json), sample()) << json;
  EXPECT_NE(json.find("\"usedPercent\":85"), std::string::npos) << json;
  EXPECT_NE(json.find("\"uid\":\"uid-1\""), std::string::npos) << "another object of that name is not written to";
  Status plan;
  plan.tenants = 0;
  EXPECT_EQ(read_status(to_json(plan, "BillingPlan", "", "standard", "u")), plan);
  Status policy;
  policy.conflicts = {"older"};
  EXPECT_EQ(read_status(to_json(policy, "BillingPolicy", "shop", "api", "u")), policy);
}

TEST(Status, WhatCannotBeReadIsNothing) {
  for (const char* text : {"", "[]", "{}", R"({"status":5})", R"({"status":{"conditions":{"a":1},"usage":[5],"state":"x","period":3}})"}) {
    EXPECT_EQ(read_status(text), Status{}) << text;
  }
  // Others' conditions are none of ours.
  EXPECT_TRUE(read_status(R"({"status":{"conditions":[{"type":"Healthy","status":"True"}]}})").conditions.empty());
}

TEST(Status, WhatIsWorthAWrite) {
  struct Row {
    const char* name;
    Difference difference;
    void (*change)(Status&);
  };
  for (const Row& row : {Row{"nothing", Difference::kNone, [](Status&) {}},
                         Row{"less than a percent", Difference::kNone, [](Status& s) { s.usage[0].used = 859; }},
                         Row{"a percent", Difference::kFigures, [](Status& s) { s.usage[0].used = 860; }},
                         Row{"the balance", Difference::kFigures, [](Status& s) { s.balance = "61.80 GBP"; }},
                         Row{"a state", Difference::kNews, [](Status& s) { s.state = LimitState::kHard; }},
                         Row{"an amount", Difference::kNews, [](Status& s) { s.usage[0].amount = 2'000; }},
                         Row{"another window", Difference::kNews, [](Status& s) { s.usage[0].resets_at_s += 60; }},
                         Row{"a condition", Difference::kNews, [](Status& s) { s.conditions[1].status = Truth::kTrue; }},
                         Row{"a generation", Difference::kNews, [](Status& s) { s.observed_generation = 4; }}}) {
    Status now = sample();
    row.change(now);
    EXPECT_EQ(compare(now, sample()), row.difference) << row.name;
  }
}

TEST(Status, AConditionKeepsTheTimeOfItsStatus) {
  Status now = sample();
  now.conditions[1].status = Truth::kTrue;
  now.conditions[0].message = "other words";
  set_times(now, sample(), 1'800'000'000);
  EXPECT_EQ(now.conditions[0].since_s, 1'700'000'000);
  EXPECT_EQ(now.conditions[1].since_s, 1'800'000'000);
}

}  // namespace
}  // namespace tallygate::controller
