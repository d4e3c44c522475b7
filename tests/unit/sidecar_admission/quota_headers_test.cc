#include "sidecar/admission/quota_headers.h"

#include <gtest/gtest.h>

namespace tallygate::sidecar {
namespace {

class QuotaHeaders : public ::testing::Test {
 protected:
  // `used` as far as is told; the rest lies elsewhere.
  PlanItem& add(const std::string& name, int64_t amount, int64_t capacity, int64_t used, bool soft = false, bool grace = false) {
    Purse& purse = *purses_.emplace_back(std::make_unique<Purse>());
    purse.told = true;
    purse.elsewhere = capacity - used;
    PlanItem item;
    item.purse = &purse;
    item.limit = name;
    item.amount = amount;
    item.capacity = capacity;
    item.soft = soft;
    item.grace = grace;
    item.end_s = 1060;
    plan.items.push_back(item);
    plan.policy_header = "RateLimit-Policy: x\r\n";
    return plan.items.back();
  }
  std::string write(size_t room = 4096, int64_t now_s = 1000, const PlanItem* denied = nullptr) {
    std::string text(room, '\0');
    text.resize(write_quota_headers(plan, now_s, text, denied));
    return text;
  }
  std::vector<std::unique_ptr<Purse>> purses_;
  Plan plan;
};

TEST_F(QuotaHeaders, OfOneLimit) {
  add("calls", 100, 100, 30);
  EXPECT_EQ(write(),
            "RateLimit-Policy: x\r\nRateLimit: \"calls\";r=70;t=60\r\nX-RateLimit-Limit: 100\r\n"
            "X-RateLimit-Remaining: 70\r\nX-RateLimit-Reset: 60\r\nX-Tallygate-Cap-State: ok\r\n");
}

TEST_F(QuotaHeaders, TheLegacyTrioIsOfTheLimitWithTheLeastShareLeft) {
  add("loose", 1000, 1000, 999);
  add("strict", 10, 10, 1);
  EXPECT_NE(write().find("X-RateLimit-Limit: 1000\r\nX-RateLimit-Remaining: 1\r\n"), std::string::npos);
  plan.items[1].purse->elsewhere = 0;
  EXPECT_NE(write().find("X-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: 0\r\n"), std::string::npos);
}

TEST_F(QuotaHeaders, States) {
  const struct {
    int64_t capacity, used;
    bool soft, grace;
    const char* state;
  } cases[] = {
      {10, 0, false, false, "ok"},       {10, 7, false, false, "ok"},      {10, 8, false, false, "warned"},
      {10, 10, false, false, "hard"},    {20, 8, true, true, "warned"},    {20, 10, true, true, "warned"},
      {20, 11, true, true, "grace"},     {20, 20, true, true, "hard"},     {20, 11, true, false, "soft-over"},
      {10, 12, false, false, "hard"},
  };
  for (const auto& c : cases) {
    plan.items.clear();
    add("x", 10, c.capacity, c.used, c.soft, c.grace);
    EXPECT_STREQ(to_string(cap_state(plan.items[0])), c.state) << c.used << "/" << c.capacity;
  }
}

TEST_F(QuotaHeaders, NothingIsTornWhereThereIsNoRoom) {
  add("calls", 100, 100, 30);
  const std::string whole = write();
  for (size_t room = 0; room < whole.size(); ++room) EXPECT_EQ(write(room), "") << room;
  EXPECT_EQ(write(whole.size()), whole);
}

TEST_F(QuotaHeaders, TimeNeverRunsNegative) {
  add("calls", 100, 100, 30);
  const std::string late = write(4096, 2000);
  EXPECT_EQ(late.find('-', late.find("\nRateLimit: ")), late.find('-', late.find("X-RateLimit-Limit"))) << late;
  EXPECT_NE(late.find("t=0"), std::string::npos);
  EXPECT_NE(late.find("Reset: 0"), std::string::npos);
}

TEST_F(QuotaHeaders, WhatIsNotKnownIsLeftOut) {
  add("calls", 100, 100, 100).purse->told = false;
  EXPECT_EQ(write(), "RateLimit-Policy: x\r\n");
  EXPECT_EQ(write(4096, 1000, &plan.items[0]),
            "RateLimit-Policy: x\r\nX-RateLimit-Limit: 100\r\nX-RateLimit-Reset: 60\r\n");
  add("other", 50, 50, 40);
  EXPECT_EQ(write(),
            "RateLimit-Policy: x\r\nRateLimit: \"other\";r=10;t=60\r\nX-RateLimit-Limit: 50\r\n"
            "X-RateLimit-Remaining: 10\r\nX-RateLimit-Reset: 60\r\nX-Tallygate-Cap-State: warned\r\n");
}

TEST_F(QuotaHeaders, TheLegacyTrioIsOfTheLimitThatDenies) {
  add("strict", 10, 10, 10);
  add("denies", 100, 100, 64).end_s = 5000;
  EXPECT_NE(write().find("X-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 60\r\n"),
            std::string::npos);
  EXPECT_NE(write(4096, 1000, &plan.items[1])
                .find("X-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 36\r\nX-RateLimit-Reset: 4000\r\n"),
            std::string::npos);
}

TEST_F(QuotaHeaders, OfLimitsThatAreAllUsedTheTrioIsOfTheLastToReset) {
  add("minute", 3, 3, 3);
  add("month", 3, 3, 3).end_s = 900'000;
  add("day", 3, 3, 3).end_s = 80'000;
  EXPECT_NE(write().find("X-RateLimit-Reset: 899000\r\n"), std::string::npos) << write();
}

// RFC 9651 3.3.1: an integer has at most 15 digits, and a parser refuses the whole field otherwise.
TEST_F(QuotaHeaders, IntegersOfStructuredFieldsHaveAtMost15Digits) {
  add("wide", kMaxInteger, kMaxInteger, 0).end_s = kMaxInteger;
  const std::string text = write();
  EXPECT_NE(text.find("RateLimit: \"wide\";r=999999999999999;t=999999999999999\r\n"), std::string::npos) << text;
  EXPECT_NE(text.find("X-RateLimit-Remaining: 9007199254740991\r\n"), std::string::npos) << "no structured field";
}

TEST_F(QuotaHeaders, NoLimitNoHeaders) { EXPECT_EQ(write(), ""); }

}  // namespace
}  // namespace tallygate::sidecar
