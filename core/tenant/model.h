// The policy model shared by both binaries: what the operator compiles out of BillingPlan, BillingTenant and
// BillingPolicy, publishes to Redis as JSON, and the sidecar enforces. Pure values; the JSON form is in wire.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/ids.h"
#include "core/money.h"

namespace tallygate::tenant {

enum class Enforcement : uint8_t { kEnforce, kShadow };          // Shadow: would-deny is counted, nothing is denied
enum class Settlement : uint8_t { kInvoice, kWallet, kNone };    // who bills the units: Stripe, the prepaid wallet, nobody
enum class Cap : uint8_t { kHard, kSoft };
enum class OnUnavailable : uint8_t { kAllow, kDeny };
enum class WindowKind : uint8_t { kSecond, kMinute, kHour, kDay, kWeek, kMonth, kYear, kBillingPeriod };

// Windows shorter than an hour live in Redis alone (DESIGN: bound of one limit per live primary or epoch).
constexpr bool is_redis_only(WindowKind kind) { return kind == WindowKind::kSecond || kind == WindowKind::kMinute; }

inline constexpr int64_t kUnbounded = kMaxInteger;

struct Limit {
  LimitName name;
  MeterName meter;
  int64_t amount = 0;              // units per window
  int64_t capacity = 0;            // most units ever granted in a window: amount for hard, with grace for soft, or kUnbounded
  Cap cap = Cap::kHard;
  WindowKind window = WindowKind::kMonth;
  int64_t burst = 0;               // 0: none
  int64_t grace_duration_s = 0;    // 0: none; after the soft limit is crossed, capacity falls back to amount
  // Ascending Unix seconds: window i is [boundaries_s[i], boundaries_s[i+1]). The operator keeps them ahead of time, in the
  // tenant's time zone and anchor, so that no one else needs a calendar. Empty for Second and Minute: those are aligned to
  // the Unix epoch by their length.
  std::vector<int64_t> boundaries_s;
  bool operator==(const Limit&) const = default;
};

struct Meter {
  MeterName name;
  std::string unit;
  Settlement settlement = Settlement::kInvoice;
  bool operator==(const Meter&) const = default;
};

struct Tenant {
  TenantId id;
  int64_t version = 0;             // publication version; grows with every change
  std::string display_name;
  PlanName plan;
  Enforcement enforcement = Enforcement::kEnforce;
  bool suspended = false;
  std::string suspend_reason;      // for the 403's detail
  std::vector<std::string> allowed_namespaces;  // "*": all
  std::vector<Meter> meters;       // of the plan
  std::vector<Limit> limits;       // of the plan, overrides applied
  std::vector<std::string> entitlements;
  OnUnavailable on_unavailable_quota = OnUnavailable::kDeny;
  OnUnavailable on_unavailable_wallet = OnUnavailable::kDeny;
  int64_t allowance_per_pod = 0;   // units per limit window, only for Allow
  int64_t stale_after_ms = 30'000;
  bool operator==(const Tenant&) const = default;
};

enum class IdentityType : uint8_t { kApiKey, kTrustedHeader, kJwt };

// Whether the app gets the credential that a source looks at. Other spellings of its header it never gets.
enum class Forward : uint8_t {
  kVerified,  // where it says whose the request is
  kAlways,  // as the client sent it: for apps that check it themselves; never for kTrustedHeader, which proves nothing
  kNever,
};

struct IdentitySource {
  IdentityType type = IdentityType::kApiKey;
  std::string header;                    // lower case; for kJwt "authorization"
  std::vector<std::string> from_cidrs;   // kTrustedHeader: canonical "a.b.c.d/n" or "v6/n"
  Forward forward = Forward::kVerified;
  bool operator==(const IdentitySource&) const = default;
};

// Where the amount of a charge comes from.
enum class AmountFrom : uint8_t {
  kFixed,  // Charge::units
  kRequestHeader,
  kResponseHeader,
  kRequestBytes,
  kResponseBytes,
  kDuration,  // in seconds
  kRequestJson,
  kResponseJson,  // of a stream, the last value that any event had
  kTokens,        // of an LLM's answer
};

// The kinds of tokens, and of calls of an API's own tools, that weights are given for. Disjoint.
inline constexpr std::array<const char*, 12> kTokenKinds = {
    "input",      "cachedInput", "cacheWrite5m", "cacheWrite1h", "output",       "reasoning",
    "audioInput", "audioOutput", "webSearches",  "webFetches",   "fileSearches", "codeRuns"};
inline constexpr size_t kTokenOnlyKinds = 8;  // the first ones are tokens

struct TokenSource {
  std::string api;  // as policies name it; empty: by path
  // Millionths of a unit for each, by kTokenKinds.
  std::array<int64_t, kTokenKinds.size()> weights{};
  bool operator==(const TokenSource&) const = default;
};

// What is held until the amount is known.
struct Estimate {
  std::string request_pointer;  // into the request's body, to an upper bound; empty: none
  int64_t fallback = 0;         // where the request does not say; 0: what the tenant's recent requests came to
  int64_t max = 0;              // no answer is more, whatever the request says; 0: there is no bound
  int64_t slice = 0;            // how much more is held at a time while a response streams; 0: by the fallback
  bool operator==(const Estimate&) const = default;
};

struct Charge {
  MeterName meter;
  int64_t units = 1;
  // Set where the amount comes from a source that this version cannot measure (aggregation Last, or one that a newer
  // operator knows): the route then answers 503 UnsupportedCharge, never a wrong charge.
  std::string unsupported_source;
  AmountFrom from = AmountFrom::kFixed;
  std::string pointer{};  // of the JSON sources
  std::string header{};   // of the header sources; lower case
  TokenSource tokens{};   // kTokens
  Estimate estimate{};    // not of kFixed
  bool operator==(const Charge&) const = default;
};

enum class RouteAction : uint8_t { kCharge, kExempt, kDeny };
enum class PathMatch : uint8_t { kExact, kPrefix };  // prefix of whole segments: /v1/chat matches /v1/chat and /v1/chat/x

struct RouteMatch {
  std::vector<std::string> methods;  // empty: any; GET means HEAD too
  PathMatch path_match = PathMatch::kPrefix;
  std::string path = "/";  // in normal form (core/path)
  bool operator==(const RouteMatch&) const = default;
};

struct Route {
  LimitName name;
  RouteAction action = RouteAction::kCharge;
  std::vector<RouteMatch> matches;  // any of them; empty: everything
  std::vector<Charge> charges;
  std::string gate;
  std::string entitlement;          // needed feature; empty: none
  bool charge_on_success = true;    // an app's 5xx or failed connection releases the hold
  std::optional<OnUnavailable> on_unavailable;
  bool operator==(const Route&) const = default;
};

// What becomes of a path that servers read in more than one way (core/path). It passes as it came where all ways lead
// to one route, else it is refused; or any such path is refused; or its normal form goes on, and is held to the first
// rule.
enum class AmbiguousPath : uint8_t { kRefuseIfRoutesDiffer, kRefuse, kNormalise };

// By these many a framework takes another method or path than the request's: the handler that runs would not be the one
// that is charged.
inline constexpr const char* kOverrideHeaders[] = {"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
                                                   "X-Original-URL", "X-Rewrite-URL"};

struct PathRules {
  AmbiguousPath ambiguous = AmbiguousPath::kRefuseIfRoutesDiffer;
  bool ignore_case = false;  // for apps whose routers do, of ASCII letters
  bool forward_overrides = false;  // kOverrideHeaders reach the app, whose handlers they choose
  bool operator==(const PathRules&) const = default;
};

// What becomes of a streamed response when what it is charged for is used up in the middle of it.
enum class OnExhausted : uint8_t {
  kFinish,      // the rest comes too, and is charged
  kErrorEvent,  // the client gets an event that says so, and the end
  kClose,       // its connection is cut
};

// What a client pays for that leaves before its response is complete.
enum class OnAbort : uint8_t {
  kReceived,  // what passed until then, as far as that is known
  kWhole,     // what was held for it, at least
  kDrain,     // the rest is read from the app and counted
};

struct Streaming {
  OnExhausted on_exhausted = OnExhausted::kFinish;
  OnAbort on_abort = OnAbort::kReceived;
  bool operator==(const Streaming&) const = default;
};

// Of request bodies that charges are read from.
struct RequestBodies {
  int64_t bytes_max = 1 << 20;
  bool refuse_larger = true;  // 413; else the estimate is charged
  bool operator==(const RequestBodies&) const = default;
};

// Which web pages may read a denial (the Fetch standard's CORS protocol). The app's own answers are its own affair.
struct Cors {
  std::vector<std::string>
      allow_origins;               // as browsers write them, "https://app.example.com", or "*" alone; empty: off
  bool allow_credentials = false;  // not with "*"
  bool operator==(const Cors&) const = default;
};

// The header that tells the app whose a request is: NAMESPACE/NAME.
inline constexpr const char* kTenantHeader = "X-Tallygate-Tenant";

struct Policy {
  PolicyId id;
  int64_t version = 0;
  Enforcement enforcement = Enforcement::kEnforce;
  std::vector<IdentitySource> identity;  // in order
  std::string tenant_header = kTenantHeader;  // empty: the app is not told
  Cors cors;
  PathRules paths;
  Streaming streaming;
  RequestBodies request_bodies;
  std::vector<Route> routes;  // first that matches
  Route default_route;
  bool operator==(const Policy&) const = default;
};

// A credential or name → tenant. `kind` is one of "apikey" (value: SHA-256 of the key, 64 lower-case hex digits),
// "external" (a trusted header's or JWT claim's value) and "host" (lower case, no port).
struct Identity {
  std::string kind;
  std::string value;
  TenantId tenant;
  auto operator<=>(const Identity&) const = default;
};

}  // namespace tallygate::tenant
