// What an answer of Stripe, or its absence, means for one meter event. Pure.
//
// Source of the rules: Stripe's API reference (errors, rate limits, idempotent requests) and its own clients: obey
// stripe-should-retry where it is present; else repeat after connection errors, 409, 429 and 5xx.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tallygate::billing {

struct Answer {
  enum class Transport : uint8_t {
    kAnswered,  // status and the rest are set
    kNotSent,   // no connection: Stripe certainly did nothing
    kUnknown,   // sent, then a time-out or a broken connection
  };
  Transport transport = Transport::kAnswered;
  int status = 0;
  std::string should_retry;  // the header's value; empty: absent
  std::string retry_after;   // the header's value; empty: absent
  std::string body;
  std::string transport_error;  // for people
};

enum class Verdict : uint8_t {
  kDelivered,  // Stripe has it
  kRetry,      // again, after a while
  kBlocked,    // nothing can be delivered now, through no fault of the event (a refused key): pause everything
  kDead,       // repeating cannot help: keep it aside with its error
};
const char* to_string(Verdict verdict);

struct Decision {
  Verdict verdict = Verdict::kRetry;
  // A constant, for the metric's label: accepted, duplicate, rate_limited, busy, server_error, timeout, unreachable,
  // unauthorized, redirected, invalid, refused, unexpected.
  const char* result = "unexpected";
  // Whether Stripe may have taken the event although it did not say so.
  bool outcome_unknown = false;
  int64_t retry_after_ms = 0;  // at least so long; 0: as the backoff says
  std::string detail = {};     // for people; without secrets, at most 500 bytes
};

Decision classify(const Answer& answer, std::string_view identifier);

}  // namespace tallygate::billing
