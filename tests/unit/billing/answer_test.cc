#include "operator/billing/answer.h"

#include <gtest/gtest.h>

namespace tallygate::billing {
namespace {

constexpr char kIdentifier[] = "tg-ab-calls-1-1";

std::string error_body(const std::string& type, const std::string& code, const std::string& message) {
  return R"({"error": {"type": ")" + type + R"(", "code": ")" + code + R"(", "message": ")" + message + R"("}})";
}

const std::string kDuplicate = error_body("invalid_request_error", "",
                                          std::string("An event already exists with identifier ") + kIdentifier + ".");

struct Row {
  const char* name;
  int status;
  std::string should_retry, retry_after, body;
  Verdict verdict;
  const char* result;
  bool outcome_unknown;
  int64_t retry_after_ms;
};

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows{
      {"ok", 200, "", "", "{}", Verdict::kDelivered, "accepted", false, 0},
      {"created", 201, "", "", "", Verdict::kDelivered, "accepted", false, 0},
      {"ok whatever the body", 200, "", "", "<html>", Verdict::kDelivered, "accepted", false, 0},
      {"ok although told to retry", 200, "true", "", "{}", Verdict::kDelivered, "accepted", false, 0},
      {"duplicate by message", 400, "false", "", kDuplicate, Verdict::kDelivered, "duplicate", false, 0},
      {"duplicate without the header", 400, "", "", kDuplicate, Verdict::kDelivered, "duplicate", false, 0},
      {"duplicate by code", 400, "", "", error_body("invalid_request_error", "duplicate_meter_event", "x"),
       Verdict::kDelivered, "duplicate", false, 0},
      {"another identifier's duplicate", 400, "", "",
       error_body("invalid_request_error", "", "An event already exists with identifier tg-other."), Verdict::kDead,
       "invalid", false, 0},
      {"a meter that exists already is no duplicate event", 400, "", "",
       error_body("invalid_request_error", "resource_already_exists", "A meter already exists."), Verdict::kDead,
       "invalid", false, 0},
      {"no such meter", 400, "false", "", error_body("invalid_request_error", "resource_missing", "No such meter"),
       Verdict::kDead, "invalid", false, 0},
      {"too old", 400, "", "", error_body("invalid_request_error", "timestamp_too_far_in_past", "35 days"),
       Verdict::kDead, "invalid", false, 0},
      {"a key with other parameters", 400, "", "", error_body("idempotency_error", "", "Keys for idempotent requests"),
       Verdict::kDead, "invalid", false, 0},
      {"bad request with an empty body", 400, "", "", "", Verdict::kDead, "invalid", false, 0},
      {"bad request that is to be retried", 400, "true", "", "{}", Verdict::kRetry, "busy", true, 0},
      {"bad key", 401, "", "", error_body("invalid_request_error", "", "Invalid API Key"), Verdict::kBlocked,
       "unauthorized", false, 0},
      {"no permission", 403, "false", "", "{}", Verdict::kBlocked, "unauthorized", false, 0},
      {"payment required", 402, "", "", "{}", Verdict::kDead, "refused", false, 0},
      {"not found", 404, "", "", "{}", Verdict::kDead, "refused", false, 0},
      {"request time-out", 408, "", "", "", Verdict::kRetry, "busy", true, 0},
      {"conflict", 409, "", "", "{}", Verdict::kRetry, "busy", true, 0},
      {"conflict, retry wanted", 409, "true", "2", "{}", Verdict::kRetry, "busy", true, 2000},
      {"unprocessable", 422, "", "", "{}", Verdict::kDead, "refused", false, 0},
      {"rate limit", 429, "", "", "{}", Verdict::kRetry, "rate_limited", false, 0},
      {"rate limit with a time", 429, "", "3", "{}", Verdict::kRetry, "rate_limited", false, 3000},
      {"rate limit is retried even if told not to at once", 429, "false", "", "{}", Verdict::kRetry, "rate_limited",
       false, 0},
      {"lock time-out", 429, "true", "", error_body("invalid_request_error", "lock_timeout", "x"), Verdict::kRetry,
       "rate_limited", false, 0},
      {"a time without bounds", 429, "", "99999999", "", Verdict::kRetry, "rate_limited", false, 3600'000},
      {"a time in words", 429, "", "Wed, 21 Oct 2026 07:28:00 GMT", "", Verdict::kRetry, "rate_limited", false, 0},
      {"a negative time", 429, "", "-5", "", Verdict::kRetry, "rate_limited", false, 0},
      {"server error", 500, "", "", "{}", Verdict::kRetry, "server_error", true, 0},
      {"server error, retry wanted", 500, "true", "1", "{}", Verdict::kRetry, "server_error", true, 1000},
      {"server error, never again", 500, "false", "", "{}", Verdict::kDead, "server_error", true, 0},
      {"bad gateway", 502, "", "", "<html>", Verdict::kRetry, "server_error", true, 0},
      {"unavailable", 503, "", "10", "", Verdict::kRetry, "server_error", true, 10'000},
      {"gateway time-out", 504, "", "", "", Verdict::kRetry, "server_error", true, 0},
      {"a redirect means a wrong base address", 301, "", "", "", Verdict::kBlocked, "redirected", false, 0},
      {"informational", 100, "", "", "", Verdict::kRetry, "unexpected", true, 0},
  };
  return kRows;
}

TEST(Answer, EveryRow) {
  for (const auto& row : rows()) {
    SCOPED_TRACE(row.name);
    Answer answer;
    answer.status = row.status;
    answer.should_retry = row.should_retry;
    answer.retry_after = row.retry_after;
    answer.body = row.body;
    const Decision decision = classify(answer, kIdentifier);
    EXPECT_STREQ(to_string(decision.verdict), to_string(row.verdict));
    EXPECT_STREQ(decision.result, row.result);
    EXPECT_EQ(decision.outcome_unknown, row.outcome_unknown);
    EXPECT_EQ(decision.retry_after_ms, row.retry_after_ms);
    EXPECT_EQ(decision.detail.empty(), decision.verdict == Verdict::kDelivered);
  }
}

TEST(Answer, NoConnectionIsRetriedAndCertainlyHadNoEffect) {
  Answer answer;
  answer.transport = Answer::Transport::kNotSent;
  answer.transport_error = "connection refused";
  const Decision decision = classify(answer, kIdentifier);
  EXPECT_EQ(decision.verdict, Verdict::kRetry);
  EXPECT_STREQ(decision.result, "unreachable");
  EXPECT_FALSE(decision.outcome_unknown);
  EXPECT_EQ(decision.detail, "connection refused");
}

TEST(Answer, BrokenConnectionIsRetriedWithAnUnknownOutcome) {
  Answer answer;
  answer.transport = Answer::Transport::kUnknown;
  const Decision decision = classify(answer, kIdentifier);
  EXPECT_EQ(decision.verdict, Verdict::kRetry);
  EXPECT_STREQ(decision.result, "timeout");
  EXPECT_TRUE(decision.outcome_unknown);
}

TEST(Answer, DetailIsReadableAndBounded) {
  Answer answer;
  answer.status = 400;
  answer.body = error_body("invalid_request_error", "resource_missing", std::string(5000, 'x'));
  const Decision decision = classify(answer, kIdentifier);
  EXPECT_EQ(decision.detail.size(), 500u);
  EXPECT_TRUE(decision.detail.starts_with("HTTP 400: invalid_request_error, resource_missing, xxx"));
}

TEST(Answer, StrangeBodiesDoNoHarm) {
  for (const char* body : {"", "[", "[]", "1", "\"x\"", "{\"error\":1}", "{\"error\":{\"type\":1,\"message\":[]}}"}) {
    Answer answer;
    answer.status = 400;
    answer.body = body;
    EXPECT_EQ(classify(answer, kIdentifier).verdict, Verdict::kDead) << body;
  }
}

}  // namespace
}  // namespace tallygate::billing
