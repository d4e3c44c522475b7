// Manifests for tests: short, good, and easy to spoil.
#pragma once

#include <string>
#include <vector>

#include "operator/manifest/accept.h"
#include "operator/manifest/read.h"

namespace tallygate::manifest {

inline std::string plan_yaml(const std::string& name = "standard", const std::string& price = "0.40",
                             const std::string& amount = "1000") {
  return "apiVersion: billing.tallygate.dev/v1alpha1\n"
         "kind: BillingPlan\n"
         "metadata: {name: " +
         name +
         "}\n"
         "spec:\n"
         "  pricing:\n"
         "    currency: GBP\n"
         "    meters:\n"
         "    - {name: api_calls, unit: call, settlement: Invoice, perUnits: 1000, tiers: [{price: \"" +
         price +
         "\"}]}\n"
         "  limits:\n"
         "  - {name: calls-month, meter: api_calls, amount: " +
         amount + ", window: Month, cap: Hard}\n";
}

inline std::string tenant_yaml(const std::string& name = "acme", const std::string& external_id = "org_1",
                               const std::string& plan = "standard") {
  return "apiVersion: billing.tallygate.dev/v1alpha1\n"
         "kind: BillingTenant\n"
         "metadata: {name: " +
         name +
         ", namespace: shop}\n"
         "spec:\n"
         "  planRef: {name: " +
         plan +
         "}\n"
         "  identity: {externalIDs: [" +
         external_id + "]}\n";
}

inline std::string policy_yaml(const std::string& meter = "api_calls") {
  return "apiVersion: billing.tallygate.dev/v1alpha1\n"
         "kind: BillingPolicy\n"
         "metadata: {name: api, namespace: shop}\n"
         "spec:\n"
         "  identity:\n"
         "  - {type: APIKey, apiKey: {header: X-Api-Key}}\n"
         "  defaultRoute: {charges: [{meter: " +
         meter + ", units: 1}]}\n";
}

inline std::string all_of(const Faults& faults) {
  std::string text;
  for (const Fault& fault : faults) text += to_string(fault) + "\n";
  return text;
}

inline TenantId tenant_id(const std::string& name) { return TenantId::parse(name).value(); }
inline PlanName plan_name(const std::string& name) { return PlanName::parse(name).value(); }

}  // namespace tallygate::manifest
