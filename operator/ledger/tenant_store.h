// What the publisher writes to the ledger before it publishes to Redis: tenants, their meters with prices, their
// limits, their wallets. A changed limit binds from the next funding on.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/tenant/model.h"
#include "operator/ledger/session.h"

namespace tallygate::ledger {

struct PriceTier {
  int64_t up_to = tenant::kUnbounded;  // cumulative units; kUnbounded for the last tier
  Micros price_micros = 0;             // per `per_units`
};

struct PricedMeter {
  MeterName meter;
  tenant::Settlement settlement = tenant::Settlement::kInvoice;
  std::string currency;
  int64_t per_units = 1;
  std::vector<PriceTier> tiers;
  std::string stripe_customer_id;  // empty: none yet
};

struct WalletTerms {
  std::string currency;
  Micros debt_limit_micros = 0;
};

struct TenantRecord {
  tenant::Tenant tenant;            // limits, version, suspended
  std::vector<PricedMeter> meters;  // all of the plan's
  std::optional<WalletTerms> wallet;
  int period_months = 1;       // of billing: 1 or 12
  int64_t period_anchor_s = 0; // where its periods are counted from
};

// Threading: one thread at a time.
class TenantStore {
 public:
  TenantStore(Env& env, Session& session) : env_(env), session_(session) {}
  // All in one transaction; meters and limits that a tenant no longer has are deleted. Idempotent. With a `reign`:
  // kConflict, and nothing written, once another publisher has begun one.
  Result<void> publish(std::span<const TenantRecord> changed, std::span<const TenantId> removed, int64_t reign = 0);
  // Ids of tenants that are not removed: what a publisher compares with after a restart.
  Result<std::vector<std::string>> list();

 private:
  Env& env_;
  Session& session_;
};

}  // namespace tallygate::ledger
