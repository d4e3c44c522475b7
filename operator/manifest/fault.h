// What is wrong with a manifest: where, why (a constant), and what to do about it.
#pragma once

#include <compare>
#include <string>
#include <string_view>
#include <vector>

namespace tallygate::manifest {

enum class Reason : uint8_t {
  kSyntax,              // not YAML, or past a limit of the reader (size, depth, aliases)
  kUnknownField,        //
  kUnknownKind,         // apiVersion or kind
  kRequired,            //
  kInvalidValue,        // the wrong type or form
  kOutOfRange,          //
  kImmutable,           // a price of a plan that was accepted before
  kNotFound,            // names something that does not exist
  kDuplicate,           //
  kConflict,            // two things that exclude each other
  kTooMany,             // a list or map past its bound
  kUnsupportedFeature,  // refused by this version
  kNotInForceYet,       // a warning: accepted, without effect in this version
  kTrustsEveryone,      // a warning: accepted, and hardly meant
};

// "UnknownField" and so on: stable, for conditions, logs and metrics.
const char* to_string(Reason reason);

struct Fault {
  std::string file;    // as given to the reader; for Kubernetes objects empty
  int line = 0;        // 1-based; 0: unknown
  std::string object;  // "BillingPlan standard-v1", "BillingTenant shop/acme"; empty where it cannot be told
  std::string field;   // "spec.limits[2].amount"; empty: the whole document
  Reason reason = Reason::kInvalidValue;
  std::string message;
  std::string fix;  // what to write instead

  auto operator<=>(const Fault&) const = default;
};

// "plans.yaml:12: BillingPlan standard-v1: spec.limits[2].amount: OutOfRange: … (fix: …)"
std::string to_string(const Fault& fault);

using Faults = std::vector<Fault>;

// The candidate that is near enough to `word` to be what was meant, or "".
std::string_view did_you_mean(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace tallygate::manifest
