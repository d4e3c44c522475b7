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
  std::string write(size_t room = 4096, int64_t now_s = 1000) {
    std::string text(room, '\0');
    text.resize(write_quota_headers(plan, now_s, text));
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
  EXPECT_EQ(late.find('-', late.find("RateLimit: ")), late.find('-', late.find("X-RateLimit-Limit"))) << late;
  EXPECT_NE(late.find("t=0"), std::string::npos);
  EXPECT_NE(late.find("Reset: 0"), std::string::npos);
}

TEST_F(QuotaHeaders, NothingUsedIsAssumedBeforeAnythingWasTold) {
  add("calls", 100, 100, 100).purse->told = false;
  EXPECT_NE(write().find("r=100;"), std::string::npos);
}

TEST_F(QuotaHeaders, NoLimitNoHeaders) { EXPECT_EQ(write(), ""); }

}  // namespace
}  // namespace tallygate::sidecar
