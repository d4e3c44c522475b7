#include "operator/billing/answer.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace tallygate::billing {
namespace {

constexpr size_t kMaxDetail = 500;
constexpr int64_t kMaxRetryAfterMs = 3600'000;

struct StripeError {
  std::string type, code, message;
};

StripeError parse_error(const std::string& body) {
  StripeError out;
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object()) return out;
  const auto error = json.find("error");
  if (error == json.end() || !error->is_object()) return out;
  const auto text = [&](const char* name) {
    const auto it = error->find(name);
    return it != error->end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  return {text("type"), text("code"), text("message")};
}

// Seconds, as Stripe sends it; an HTTP date counts as absent. Bounded, so that no header stops the submitter for a day.
int64_t retry_after_ms(const std::string& value) {
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc{} || end != value.data() + value.size() || seconds < 0) return 0;
  return std::min(seconds, kMaxRetryAfterMs / 1000) * 1000;
}

bool is_duplicate(const StripeError& error, std::string_view identifier) {
  if (error.code == "duplicate_meter_event") return true;
  return error.type == "invalid_request_error" && error.message.find("already exists") != std::string::npos &&
         error.message.find(identifier) != std::string::npos;
}

std::string describe(const Answer& answer, const StripeError& error) {
  std::string text = "HTTP " + std::to_string(answer.status);
  for (const auto& part : {error.type, error.code, error.message}) {
    if (!part.empty()) text += (text.size() < 9 ? ": " : ", ") + part;
  }
  return text.substr(0, kMaxDetail);
}

Decision decide_client_error(const Answer& answer, const StripeError& error, std::string_view identifier) {
  // Of two calls under one Idempotency-Key the first may have had its effect: with the next key we shall be told.
  if (answer.status == 409) return {Verdict::kRetry, "busy", true};
  if (answer.status == 429) return {Verdict::kRetry, "rate_limited"};
  if (answer.status == 401 || answer.status == 403) return {Verdict::kBlocked, "unauthorized"};
  if (answer.status == 400 && is_duplicate(error, identifier)) return {Verdict::kDelivered, "duplicate"};
  if (answer.should_retry == "true" || answer.status == 408) return {Verdict::kRetry, "busy", true};
  if (answer.status == 400) return {Verdict::kDead, "invalid"};
  return {Verdict::kDead, "refused"};
}

Decision decide_answered(const Answer& answer, const StripeError& error, std::string_view identifier) {
  if (answer.status >= 200 && answer.status < 300) return {Verdict::kDelivered, "accepted"};
  if (answer.status >= 300 && answer.status < 400) return {Verdict::kBlocked, "redirected"};
  if (answer.status >= 400 && answer.status < 500) return decide_client_error(answer, error, identifier);
  if (answer.status >= 500) {
    const bool stop = answer.should_retry == "false";
    return {stop ? Verdict::kDead : Verdict::kRetry, "server_error", true};
  }
  return {Verdict::kRetry, "unexpected", true};
}

}  // namespace

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kDelivered:
      return "delivered";
    case Verdict::kRetry:
      return "retry";
    case Verdict::kBlocked:
      return "blocked";
    case Verdict::kDead:
      return "dead";
  }
  return "unknown";
}

Decision classify(const Answer& answer, std::string_view identifier) {
  if (answer.transport == Answer::Transport::kNotSent) {
    return {Verdict::kRetry, "unreachable", false, 0, answer.transport_error.substr(0, kMaxDetail)};
  }
  if (answer.transport == Answer::Transport::kUnknown) {
    return {Verdict::kRetry, "timeout", true, 0, answer.transport_error.substr(0, kMaxDetail)};
  }
  const StripeError error = parse_error(answer.body);
  Decision decision = decide_answered(answer, error, identifier);
  if (decision.verdict != Verdict::kDelivered) decision.detail = describe(answer, error);
  if (decision.verdict == Verdict::kRetry) decision.retry_after_ms = retry_after_ms(answer.retry_after);
  return decision;
}

}  // namespace tallygate::billing
