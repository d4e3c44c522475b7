#include <nlohmann/json.hpp>

#include "core/tenant/wire.h"
#include "operator/plan/compile.h"

namespace tallygate::plan {
namespace {

using Json = nlohmann::ordered_json;

Json encode(const MeterPrice& m) {
  Json tiers = Json::array();
  for (const auto& tier : m.prices.tiers) {
    Json one;
    if (tier.up_to) one["upTo"] = *tier.up_to;
    one["price"] = format_money(tier.price);
    tiers.push_back(std::move(one));
  }
  static constexpr const char* kSettlements[] = {"Invoice", "Wallet", "None"};
  return {{"meter", m.meter.str()},
          {"unit", m.unit},
          {"aggregation", m.aggregation == manifest::Aggregation::kSum ? "Sum" : "Last"},
          {"settlement", kSettlements[static_cast<size_t>(m.settlement)]},
          {"perUnits", m.prices.per_units},
          {"tiers", std::move(tiers)}};
}

Json encode(const TenantBilling& b) {
  Json meters = Json::array();
  for (const auto& meter : b.meters) meters.push_back(encode(meter));
  Json json = {{"tenant", b.tenant.str()},
               {"plan", b.plan.str()},
               {"planFamily", b.plan_family},
               {"currency", b.currency},
               {"basePrice", format_money(b.base_price)},
               {"annualDiscountPercent", b.annual_discount_percent},
               {"email", b.email},
               {"stripeCustomerID", b.stripe_customer_id},
               {"interval", b.interval == manifest::Interval::kYear ? "Year" : "Month"},
               {"anchor", b.anchor_s},
               {"timeZone", b.time_zone},
               {"meters", std::move(meters)}};
  if (b.wallet) json["wallet"] = {{"currency", b.wallet->currency}, {"debtLimit", format_money(b.wallet->debt_limit)}};
  return json;
}

}  // namespace

std::string to_json(const Compiled& compiled) {
  Json tenants = Json::array(), policies = Json::array(), identities = Json::array(), billing = Json::array();
  for (const auto& t : compiled.tenants) tenants.push_back(Json::parse(tenant::to_json(t)));
  for (const auto& p : compiled.policies) policies.push_back(Json::parse(tenant::to_json(p)));
  for (const auto& i : compiled.identities) {
    identities.push_back({{"kind", i.kind}, {"value", i.value}, {"tenant", i.tenant.str()}});
  }
  for (const auto& b : compiled.billing) billing.push_back(encode(b));
  const Json json = {{"tenants", std::move(tenants)},
                     {"policies", std::move(policies)},
                     {"identities", std::move(identities)},
                     {"billing", std::move(billing)},
                     {"recompileAt", compiled.recompile_at_s}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tallygate::plan
