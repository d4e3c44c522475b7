// BillingPlan, BillingTenant and BillingPolicy as values: every field of billing.tallygate.dev/v1alpha1, validated and
// parsed. Absent optional fields carry their defaults. Equality ignores where a thing was written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/ids.h"
#include "core/money.h"
#include "core/tenant/model.h"

namespace tallygate::manifest {

inline constexpr char kApiVersion[] = "billing.tallygate.dev/v1alpha1";
inline constexpr char kDefaultPlanAnnotation[] = "billing.tallygate.dev/is-default-plan";

// File and line; two places are always equal, so that moving a document is no change.
struct Place {
  std::string file;
  int line = 0;
  bool operator==(const Place&) const { return true; }
};

// A value that another object is checked against, with its line for the fault.
template <class T>
struct Marked {
  T value{};
  Place place;
  bool operator==(const Marked&) const = default;
};

// Which version of an object this is. Two are always equal: what an API server counts is no change by itself.
struct Version {
  std::string uid;                          // empty where a folder says none
  int64_t generation = 0;                   // 0 likewise
  std::shared_ptr<const std::string> text;  // what was declared, as JSON that read_manifest() reads; without status
  bool operator==(const Version&) const { return true; }
};

struct Metadata {
  std::string name_space;  // empty for BillingPlan
  std::string name;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
  std::string created;  // as an API server writes it: sorts by time; empty for a file's
  Place place;
  Version version;
  bool operator==(const Metadata&) const = default;
};

// --- BillingPlan ------------------------------------------------------------------------------------------------

enum class Aggregation : uint8_t { kSum, kLast };
enum class Interval : uint8_t { kMonth, kYear };

struct Tier {
  std::optional<int64_t> up_to;  // units, inclusive and cumulative; absent: the last tier, without end
  Micros price = 0;              // for each perUnits units
  bool operator==(const Tier&) const = default;
};

struct MeterSpec {
  MeterName name;
  std::string unit;
  Aggregation aggregation = Aggregation::kSum;
  tenant::Settlement settlement = tenant::Settlement::kInvoice;
  int64_t per_units = 1;
  std::vector<Tier> tiers;  // empty only for settlement None: free
  bool operator==(const MeterSpec&) const = default;
};

struct Pricing {
  std::string currency;
  Micros base_price = 0;  // per billing interval
  int64_t annual_discount_percent = 0;
  std::vector<MeterSpec> meters;
  bool operator==(const Pricing&) const = default;
};

struct Grace {
  int64_t percent = 0;     // 0: none
  int64_t duration_s = 0;  // 0: none
  bool operator==(const Grace&) const = default;
};

struct LimitSpec {
  LimitName name;
  MeterName meter;
  int64_t amount = 0;
  int64_t burst = 0;  // 0: none
  tenant::WindowKind window = tenant::WindowKind::kMonth;
  tenant::Cap cap = tenant::Cap::kHard;
  std::optional<Grace> grace;
  bool operator==(const LimitSpec&) const = default;
};

struct BillingPlan {
  Metadata metadata;
  PlanName name;
  std::string display_name;
  std::string family;
  Pricing pricing;
  Place pricing_place;
  std::vector<LimitSpec> limits;
  std::vector<std::string> entitlements;
  bool is_default = false;
  bool operator==(const BillingPlan&) const = default;
};

// --- BillingTenant ----------------------------------------------------------------------------------------------

enum class PlanChangeTime : uint8_t { kNextPeriod, kImmediate };
enum class Proration : uint8_t { kNone, kProrate };
enum class PastDueAction : uint8_t { kSuspend, kWarn };
enum class DeletionPolicy : uint8_t { kCancelAtPeriodEnd, kCancelNow };
// kSelector acts as kSame until namespaces are watched: never more than what was meant.
enum class AllowedNamespaces : uint8_t { kSame, kAll, kSelector };

struct PlanChange {
  PlanChangeTime effective = PlanChangeTime::kNextPeriod;
  Proration proration = Proration::kNone;
  bool operator==(const PlanChange&) const = default;
};

struct PastDue {
  PastDueAction action = PastDueAction::kSuspend;
  int64_t after_ms = 0;
  bool operator==(const PastDue&) const = default;
};

struct BillingSpec {
  std::string email;
  Interval interval = Interval::kMonth;
  int64_t anchor_s = 0;  // Unix seconds; 0 stands for the first of a month, UTC
  std::string time_zone = "UTC";
  std::string stripe_customer_id;  // empty: not known
  std::optional<PastDue> past_due;
  DeletionPolicy deletion_policy = DeletionPolicy::kCancelAtPeriodEnd;
  bool operator==(const BillingSpec&) const = default;
};

struct TenantIdentity {
  std::vector<Marked<std::string>> external_ids;
  std::vector<Marked<std::string>> hosts;           // lower case
  std::vector<std::string> api_key_secret_refs;     // Secret names in the tenant's namespace
  std::vector<Marked<std::string>> api_key_hashes;  // 64 lower-case hex digits, without "sha256:"
  bool operator==(const TenantIdentity&) const = default;
};

struct LimitOverride {
  Marked<LimitName> name;
  int64_t amount = 0;
  std::optional<int64_t> burst;
  bool operator==(const LimitOverride&) const = default;
};

struct AutoRecharge {
  Micros threshold = 0;
  Micros amount = 0;
  int64_t max_per_day = 1;
  bool operator==(const AutoRecharge&) const = default;
};

struct WalletSpec {
  Marked<std::string> currency;
  Micros debt_limit = 0;
  std::vector<Micros> alert_thresholds;
  std::optional<AutoRecharge> auto_recharge;
  bool operator==(const WalletSpec&) const = default;
};

struct UnavailableSpec {
  tenant::OnUnavailable quota = tenant::OnUnavailable::kDeny;
  tenant::OnUnavailable wallet = tenant::OnUnavailable::kDeny;
  int64_t allowance_per_pod = 0;
  int64_t stale_after_ms = 30'000;
  bool operator==(const UnavailableSpec&) const = default;
};

struct BillingTenant {
  Metadata metadata;
  TenantId id;
  std::string display_name;
  Marked<PlanName> plan;
  std::optional<PlanChange> plan_change;
  tenant::Enforcement enforcement = tenant::Enforcement::kEnforce;
  bool suspend = false;
  AllowedNamespaces allowed_namespaces = AllowedNamespaces::kSame;
  std::map<std::string, std::string> allowed_namespace_labels;  // kSelector
  BillingSpec billing;
  TenantIdentity identity;
  std::vector<LimitOverride> limit_overrides;
  std::optional<WalletSpec> wallet;
  UnavailableSpec on_unavailable;
  bool operator==(const BillingTenant&) const = default;
};

// --- BillingPolicy ----------------------------------------------------------------------------------------------

struct JwtSpec {
  std::string issuer;
  std::vector<std::string> audiences;
  std::vector<std::string> algorithms;
  std::string jwks_uri;
  std::string claim;  // JSON pointer
  bool operator==(const JwtSpec&) const = default;
};

struct IdentitySpec {
  tenant::IdentityType type = tenant::IdentityType::kApiKey;
  std::string header;                   // lower case; kApiKey and kTrustedHeader
  std::vector<std::string> from_cidrs;  // kTrustedHeader
  tenant::Forward forward = tenant::Forward::kVerified;
  std::optional<JwtSpec> jwt;           // kJwt
  bool operator==(const IdentitySpec&) const = default;
};

struct AmountSource {
  tenant::AmountFrom type = tenant::AmountFrom::kFixed;
  std::string pointer;         // for the JSON types
  std::string header;          // for the header types; lower case
  tenant::TokenSource tokens;  // for Tokens
  bool operator==(const AmountSource&) const = default;
};

struct ChargeSpec {
  Marked<MeterName> meter;
  int64_t units = 1;
  std::optional<AmountSource> from;
  std::optional<tenant::Estimate> estimate;
  bool operator==(const ChargeSpec&) const = default;
};

struct RouteSpec {
  LimitName name;  // "default" for defaultRoute
  tenant::RouteAction action = tenant::RouteAction::kCharge;
  std::vector<tenant::RouteMatch> matches;
  std::vector<ChargeSpec> charges;
  std::string gate;
  std::string entitlement;
  bool charge_on_success = true;
  std::optional<tenant::OnUnavailable> on_unavailable;
  bool operator==(const RouteSpec&) const = default;
};

struct InjectionSpec {
  bool may_opt_out = false;  // optOut: Permit
  bool may_choose = false;   // policyAnnotation: Permit
  bool operator==(const InjectionSpec&) const = default;
};

struct BillingPolicy {
  Metadata metadata;
  PolicyId id;
  std::map<std::string, std::string> match_labels;  // empty: every pod of the namespace
  std::vector<int64_t> ports;
  InjectionSpec injection;
  tenant::Enforcement enforcement = tenant::Enforcement::kEnforce;
  std::vector<IdentitySpec> identity;
  tenant::PathRules paths;
  std::string tenant_header = tenant::kTenantHeader;
  tenant::Cors cors;
  std::vector<RouteSpec> routes;
  RouteSpec default_route;
  tenant::Streaming streaming;
  tenant::RequestBodies request_bodies;
  bool operator==(const BillingPolicy&) const = default;
};

// --- A consistent set -------------------------------------------------------------------------------------------

struct Resources {
  std::map<PlanName, BillingPlan> plans;
  std::map<TenantId, BillingTenant> tenants;
  std::map<PolicyId, BillingPolicy> policies;
  bool operator==(const Resources&) const = default;
};

}  // namespace tallygate::manifest
