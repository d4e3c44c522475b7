// Why a request was let through or not: constants for problem bodies, metrics and tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tallygate::sidecar {

enum class Reason : uint8_t {
  kAdmitted,
  kExempt,              // the route is not charged
  kPreflight,           // a browser's question, answered here
  kAllowedUnavailable,  // admitted without a lease under onUnavailable: Allow
  kShadow,              // would have been denied
  kBodyTooLarge,        // that an amount is read from
  kAmbiguousBody,       // ditto: apps may read it in other ways
  kMalformedPath,       // servers read it in different ways
  kUnauthenticated,
  kInvalidCredential,
  kUntrustedSource,
  kUnknownTenant,
  kTenantNotAllowed,
  kSuspended,
  kNotEntitled,
  kRouteDenied,
  kUnsupportedCharge,
  kQuotaExhausted,
  kBalanceExhausted,
  kQuotaUnavailable,
  kPolicyUnavailable,
  kLogFull,
  kTooManyWaiting,
  kCount,
};

struct ReasonInfo {
  const char* code;  // as in problem bodies and metrics
  int status;        // of the denial; 0 where it is none
  const char* title;
};

const ReasonInfo& info(Reason reason);

}  // namespace tallygate::sidecar
