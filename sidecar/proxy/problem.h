// The proxy's own error answers: RFC 9457 problem details with a constant reason. The gate's denials are not among
// them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/http1/parse_error.h"

namespace tallygate::proxy {

enum class Reason : uint8_t {
  kMalformedRequest,  // the detail says which of http1::ParseError it is
  kMalformedBody,
  kBodyTooLarge,
  kRequestHeadTooLarge,
  kTargetTooLong,
  kMethodNotImplemented,
  kMethodNotAllowed,
  kVersionNotSupported,
  kExpectationFailed,
  kUpgradeNotImplemented,
  kRequestTimeout,
  kUpstreamUnreachable,
  kUpstreamClosed,
  kUpstreamMalformedResponse,
  kUpstreamTimeout,
  kUpstreamLimitReached,
  kConnectionLimitReached,
  kWaitingLimitReached,
  kCount,
};

struct Problem {
  int status;
  const char* reason;
  const char* title;
  const char* detail;
};

const Problem& problem(Reason reason);
// What kMethodNotAllowed has to name.
inline constexpr std::string_view kAllow = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";
// A client's malformed message, as one of the above.
Reason reason_of(http1::ParseError error);

// {"type","title","status","detail","reason","requestId"}; `detail` empty: the table's.
std::string problem_json(Reason reason, std::string_view detail, std::string_view request_id);

// The reason phrase of RFC 9110 for a status; "Unknown" for those it does not name.
std::string_view reason_phrase(int status);

}  // namespace tallygate::proxy
