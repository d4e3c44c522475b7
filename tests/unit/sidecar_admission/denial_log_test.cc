#include "sidecar/admission/denial_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/env.h"

namespace tallygate::sidecar {
namespace {

class DenialLogTest : public ::testing::Test {
 protected:
  DenialLogTest() {
    log::Options options;
    options.format = log::Format::kJson;
    options.sink = [this](std::string_view line) { lines.push_back(nlohmann::json::parse(line)); };
    log::start(options, env);
  }
  ~DenialLogTest() override { log::stop(); }
  void note(Reason reason, int64_t now_ms = 0) {
    DenialFacts facts;
    facts.reason = reason;
    facts.request_id = "r-1";
    facts.tenant = "shop/acme";
    facts.detail = "quote \" and\nline";
    facts.item = &item;
    denials.note(facts, "chat", now_ms * 1'000'000);
  }
  ManualEnv env;
  PlanItem item;
  DenialLog denials;
  std::vector<nlohmann::json> lines;
};

TEST_F(DenialLogTest, SaysWhoseWhatAndWhy) {
  item.limit = "calls-month";
  item.meter = "api_calls";
  note(Reason::kQuotaExhausted);
  note(Reason::kQuotaUnavailable);
  ASSERT_EQ(lines.size(), 2u);
  lines[0].erase("ts");
  EXPECT_EQ(lines[0], nlohmann::json({{"level", "info"},
                                      {"msg", "denied"},
                                      {"request_id", "r-1"},
                                      {"tenant", "shop/acme"},
                                      {"route", "chat"},
                                      {"reason", "QuotaExhausted"},
                                      {"status", 429},
                                      {"meter", "api_calls"},
                                      {"limit", "calls-month"},
                                      {"detail", "quote \" and\nline"}}));
  EXPECT_EQ(lines[1]["level"], "warn") << "ours to mend";
}

TEST_F(DenialLogTest, AFloodOfOneReasonIsBoundedAndCountedAndHidesNoOther) {
  for (int i = 0; i < 1000; ++i) note(Reason::kInvalidCredential);
  EXPECT_EQ(lines.size(), 10u);
  note(Reason::kSuspended);
  EXPECT_EQ(lines.size(), 11u);
  note(Reason::kInvalidCredential, 999);
  EXPECT_EQ(lines.size(), 11u);
  note(Reason::kInvalidCredential, 1000);
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_EQ(lines[11]["suppressed"], 991);
  note(Reason::kInvalidCredential, 2000);
  ASSERT_EQ(lines.size(), 13u);
  EXPECT_FALSE(lines[12].contains("suppressed"));
  for (int i = 0; i < 1000; ++i) note(Reason::kInvalidCredential, 60'000);
  EXPECT_EQ(lines.size(), 23u) << "after a quiet minute a few at once again";
}

}  // namespace
}  // namespace tallygate::sidecar
