// The reasons of refusals: constants for programs in problem bodies, verdicts and metrics, in the form that Kubernetes
// gives its own. This is the one list of them, for API, admin servers and sidecars; docs/problems.md tells people what
// each means, and a test holds the two together. A name that is not here does not compile.
#pragma once

#include <string_view>

namespace tallygate {

// A problem's type (RFC 9457) is this and its reason.
inline constexpr std::string_view kProblemTypePrefix = "https://tallygate.dev/problems/";

inline constexpr std::string_view kReasons[] = {
    // HTTP, on every port.
    "BodyTooLarge", "ConnectionLimitReached", "ExpectationFailed", "Internal", "MalformedBody", "MalformedPath",
    "MalformedRequest", "MethodNotAllowed", "MethodNotImplemented", "NotFound", "Overloaded", "RequestHeadTooLarge",
    "RequestTimeout", "TargetTooLong", "TlsRequired", "UpgradeNotImplemented", "VersionNotSupported",
    // A sidecar's app.
    "UpstreamClosed", "UpstreamLimitReached", "UpstreamMalformedResponse", "UpstreamTimeout", "UpstreamUnreachable",
    // Who asks, and whether it may.
    "InvalidCredential", "NoTenant", "NotEntitled", "RateLimited", "RouteDenied", "ScopeMissing", "Suspended",
    "TenantDeleted", "TenantNotAllowed", "Unauthenticated", "UnknownTenant", "UntrustedSource",
    // What is left of quotas and money.
    "BalanceExhausted", "DebtLimitExceeded", "InsufficientBalance", "MeterNotInPlan", "NoCost", "NoRate", "NoWallet",
    "QuotaExhausted", "UnsupportedCharge", "ZeroBalance",
    // What the request says.
    "AlreadyCommitted", "AlreadyReleased", "AmbiguousBody", "BalanceLimit", "CurrencyMismatch", "CurrencyRequired",
    "IdempotencyMismatch", "InvalidAmount", "InvalidCall", "InvalidExpiry", "InvalidFields", "InvalidKey",
    "InvalidRequest", "MalformedForm", "MalformedJson", "MalformedQuery", "ReasonRequired", "Refused", "UnknownGate",
    "UnknownQuote", "UnknownReservation", "UnknownUsage", "UnsupportedMediaType",
    // What cannot be known or kept just now.
    "LogFull", "NotReady", "PolicyUnavailable", "QuotaUnavailable", "TooManyWaiting", "Unavailable",
    "WaitingLimitReached"};

constexpr bool is_reason(std::string_view name) {
  for (const std::string_view known : kReasons) {
    if (known == name) return true;
  }
  return false;
}

class ReasonName {
 public:
  constexpr ReasonName() = default;  // none
  // NOLINTNEXTLINE(google-explicit-constructor): a literal, checked by the compiler
  consteval ReasonName(const char* name) : text_(name) {
    if (!is_reason(text_)) throw "no such reason: core/reason.h and docs/problems.md list them";
  }
  constexpr std::string_view str() const { return text_; }
  constexpr bool empty() const { return text_.empty(); }

 private:
  std::string_view text_;
};

}  // namespace tallygate
