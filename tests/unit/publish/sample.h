// Small compiled snapshots for the publisher's tests.
#pragma once

#include <string>

#include "operator/plan/compile.h"

namespace tallygate::publish {

inline void add_tenant(plan::Compiled& compiled, const std::string& id, int64_t amount = 100,
                       const std::string& key_hash = "") {
  tenant::Tenant tenant;
  tenant.id = *TenantId::parse(id);
  tenant.display_name = id;
  tenant.plan = *PlanName::parse("standard-v1");
  tenant.allowed_namespaces = {"shop"};
  tenant.meters = {{*MeterName::parse("api_calls"), "call", tenant::Settlement::kInvoice}};
  tenant::Limit limit;
  limit.name = *LimitName::parse("calls-month");
  limit.meter = *MeterName::parse("api_calls");
  limit.amount = limit.capacity = amount;
  limit.boundaries_s = {1'790'000'000, 1'792'000'000, 1'794'000'000, 1'797'000'000};
  tenant.limits = {limit};
  compiled.tenants.push_back(tenant);

  plan::TenantBilling billing;
  billing.tenant = tenant.id;
  billing.plan = tenant.plan;
  billing.currency = "GBP";
  billing.stripe_customer_id = "cus_" + id.substr(id.find('/') + 1);
  plan::MeterPrice price;
  price.meter = *MeterName::parse("api_calls");
  price.prices = {1000, {{1000, 0}, {std::nullopt, 400'000}}};
  billing.meters = {price};
  compiled.billing.push_back(billing);
  if (!key_hash.empty()) compiled.identities.push_back({"apikey", key_hash, tenant.id});
}

inline void add_policy(plan::Compiled& compiled, const std::string& id) {
  tenant::Policy policy;
  policy.id = *PolicyId::parse(id);
  policy.identity = {{tenant::IdentityType::kApiKey, "x-api-key", {}}};
  policy.default_route.name = *LimitName::parse("default");
  compiled.policies.push_back(policy);
}

}  // namespace tallygate::publish
