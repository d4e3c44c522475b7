// Accepted resources → what is published to the sidecars and what the ledger and the submitter need to bill. Pure and
// deterministic: the result depends on the resources and on the UTC day of `now_s` only, so that unrelated changes and
// restarts publish nothing new.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/tenant/model.h"
#include "operator/manifest/resources.h"
#include "operator/plan/pricing.h"

namespace tallygate::plan {

struct MeterPrice {
  MeterName meter;
  std::string unit;
  manifest::Aggregation aggregation = manifest::Aggregation::kSum;
  tenant::Settlement settlement = tenant::Settlement::kInvoice;
  UnitPrices prices;
  bool operator==(const MeterPrice&) const = default;
};

struct WalletTerms {
  std::string currency;
  Micros debt_limit = 0;
  bool operator==(const WalletTerms&) const = default;
};

// What the ledger and the submitter know of a tenant; never published to Redis.
struct TenantBilling {
  TenantId tenant;
  PlanName plan;
  std::string plan_family;
  std::string currency;  // of the plan
  Micros base_price = 0;
  int64_t annual_discount_percent = 0;
  std::string email;
  std::string stripe_customer_id;  // empty: usage is booked and not submitted
  manifest::Interval interval = manifest::Interval::kMonth;
  int64_t anchor_s = 0;
  std::string time_zone;
  std::vector<MeterPrice> meters;
  std::optional<WalletTerms> wallet;
  bool operator==(const TenantBilling&) const = default;
};

// All sorted by id; versions are 0: the publisher gives them.
struct Compiled {
  std::vector<tenant::Tenant> tenants;
  std::vector<tenant::Policy> policies;
  std::vector<tenant::Identity> identities;
  std::vector<TenantBilling> billing;  // one a tenant, in the order of `tenants`
  int64_t recompile_at_s = 0;          // compile again at this time at the latest, for windows to stay known ahead
  bool operator==(const Compiled&) const = default;
};

// Fails (kInternal, kUnavailable) only where tzdata has lost a zone since it was validated. Names that dangle because
// the named object changed later (an override of a limit that is gone) are skipped: accept() has reported them.
Result<Compiled> compile(const manifest::Resources& resources, int64_t now_s);

// JSON of everything, indented, for golden tests and for people.
std::string to_json(const Compiled& compiled);

}  // namespace tallygate::plan
