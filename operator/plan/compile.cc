#include "operator/plan/compile.h"

#include <algorithm>

#include "operator/plan/calendar.h"

namespace tallygate::plan {
namespace {

using manifest::BillingPlan;
using manifest::BillingPolicy;
using manifest::BillingTenant;
using manifest::Resources;

constexpr int64_t kDayS = 86'400;

Calendar calendar_of(const BillingTenant& t) { return {t.billing.time_zone, t.billing.interval, t.billing.anchor_s}; }

// The most units ever granted in a window.
int64_t capacity_of(const manifest::LimitSpec& limit, int64_t amount) {
  if (limit.cap == tenant::Cap::kHard) return amount;
  if (!limit.grace || limit.grace->percent == 0) return tenant::kUnbounded;
  const auto grace = static_cast<__int128>(amount) * limit.grace->percent / 100;
  const __int128 capacity = amount + grace;
  return capacity > tenant::kUnbounded ? tenant::kUnbounded : static_cast<int64_t>(capacity);
}

Result<tenant::Limit> compile_limit(const manifest::LimitSpec& spec, const BillingTenant& t, int64_t day_s) {
  tenant::Limit limit;
  limit.name = spec.name;
  limit.meter = spec.meter;
  limit.amount = spec.amount;
  limit.burst = spec.burst;
  for (const auto& own : t.limit_overrides) {
    if (own.name.value != spec.name) continue;
    limit.amount = own.amount;
    if (own.burst) limit.burst = *own.burst;
  }
  if (limit.burst != 0) limit.burst = std::max(limit.burst, limit.amount);
  limit.capacity = capacity_of(spec, limit.amount);
  limit.cap = spec.cap;
  limit.window = spec.window;
  limit.grace_duration_s = spec.grace ? spec.grace->duration_s : 0;
  if (tenant::is_redis_only(spec.window)) return limit;
  auto list = boundaries(calendar_of(t), spec.window, day_s, day_s + kDayS);
  if (!list) return tl::unexpected(list.error());
  limit.boundaries_s = std::move(*list);
  return limit;
}

Result<tenant::Tenant> compile_tenant(const BillingTenant& t, const BillingPlan& plan, int64_t day_s) {
  tenant::Tenant out;
  out.id = t.id;
  out.display_name = t.display_name;
  out.plan = plan.name;
  out.enforcement = t.enforcement;
  out.suspended = t.suspend;
  if (t.suspend) out.suspend_reason = "suspended by its BillingTenant";
  out.allowed_namespaces = {
      t.allowed_namespaces == manifest::AllowedNamespaces::kAll ? "*" : std::string(namespace_of(t.id.str()))};
  for (const auto& meter : plan.pricing.meters) out.meters.push_back({meter.name, meter.unit, meter.settlement});
  for (const auto& spec : plan.limits) {
    auto limit = compile_limit(spec, t, day_s);
    if (!limit) return tl::unexpected(limit.error());
    out.limits.push_back(std::move(*limit));
  }
  out.entitlements = plan.entitlements;
  out.on_unavailable_quota = t.on_unavailable.quota;
  out.on_unavailable_wallet = t.on_unavailable.wallet;
  out.allowance_per_pod = t.on_unavailable.allowance_per_pod;
  out.stale_after_ms = t.on_unavailable.stale_after_ms;
  return out;
}

TenantBilling compile_billing(const BillingTenant& t, const BillingPlan& plan) {
  TenantBilling out;
  out.tenant = t.id;
  out.plan = plan.name;
  out.plan_family = plan.family;
  out.currency = plan.pricing.currency;
  out.base_price = plan.pricing.base_price;
  out.annual_discount_percent = plan.pricing.annual_discount_percent;
  out.email = t.billing.email;
  out.stripe_customer_id = t.billing.stripe_customer_id;
  out.interval = t.billing.interval;
  out.anchor_s = t.billing.anchor_s;
  out.time_zone = t.billing.time_zone;
  for (const auto& m : plan.pricing.meters) {
    out.meters.push_back({m.name, m.unit, m.aggregation, m.settlement, {m.per_units, m.tiers}});
  }
  if (t.wallet) out.wallet = WalletTerms{t.wallet->currency.value, t.wallet->debt_limit};
  return out;
}

// Meters that no request can be charged on, because some plan aggregates them otherwise than by sum.
bool is_summed(const MeterName& meter, const Resources& resources) {
  for (const auto& [name, plan] : resources.plans) {
    for (const auto& m : plan.pricing.meters) {
      if (m.name == meter && m.aggregation != manifest::Aggregation::kSum) return false;
    }
  }
  return true;
}

tenant::Route compile_route(const manifest::RouteSpec& spec, const Resources& resources) {
  tenant::Route route;
  route.name = spec.name;
  route.action = spec.action;
  route.matches = spec.matches;
  for (const auto& c : spec.charges) {
    tenant::Charge& charge = route.charges.emplace_back();
    charge.meter = c.meter.value;
    charge.units = c.units;
    if (c.from) {
      charge.from = c.from->type;
      charge.pointer = c.from->pointer;
      charge.header = c.from->header;
      charge.tokens = c.from->tokens;
      charge.estimate = c.estimate.value_or(tenant::Estimate{});
    }
    if (!is_summed(c.meter.value, resources)) charge.unsupported_source = "aggregation Last";
  }
  route.gate = spec.gate;
  route.entitlement = spec.entitlement;
  route.charge_on_success = spec.charge_on_success;
  route.on_unavailable = spec.on_unavailable;
  return route;
}

tenant::Policy compile_policy(const BillingPolicy& p, const Resources& resources) {
  tenant::Policy out;
  out.id = p.id;
  out.enforcement = p.enforcement;
  out.paths = p.paths;
  for (const auto& source : p.identity) {
    out.identity.push_back({source.type, source.header, source.from_cidrs, source.forward});
  }
  out.tenant_header = p.tenant_header;
  out.cors = p.cors;
  out.streaming = p.streaming;
  out.request_bodies = p.request_bodies;
  for (const auto& route : p.routes) out.routes.push_back(compile_route(route, resources));
  out.default_route = compile_route(p.default_route, resources);
  return out;
}

void add_identities(const BillingTenant& t, std::vector<tenant::Identity>* out) {
  for (const auto& value : t.identity.external_ids) out->push_back({"external", value.value, t.id});
  for (const auto& value : t.identity.hosts) out->push_back({"host", value.value, t.id});
  for (const auto& value : t.identity.api_key_hashes) out->push_back({"apikey", value.value, t.id});
}

// When the first list of boundaries has less than three windows or 48 h left.
int64_t recompile_at(const std::vector<tenant::Tenant>& tenants, int64_t day_s) {
  int64_t at_s = day_s + 30 * kDayS;
  for (const auto& t : tenants) {
    for (const auto& limit : t.limits) {
      const auto& list = limit.boundaries_s;
      if (!list.empty()) at_s = std::min({at_s, list[list.size() - 3], list.back() - 2 * kDayS});
    }
  }
  return std::max(at_s, day_s + kDayS);
}

}  // namespace

Result<Compiled> compile(const Resources& resources, int64_t now_s) {
  const int64_t day_s = now_s - now_s % kDayS;
  Compiled out;
  for (const auto& [id, t] : resources.tenants) {
    const auto plan = resources.plans.find(t.plan.value);
    if (plan == resources.plans.end()) continue;
    auto compiled = compile_tenant(t, plan->second, day_s);
    if (!compiled) return tl::unexpected(compiled.error());
    out.tenants.push_back(std::move(*compiled));
    out.billing.push_back(compile_billing(t, plan->second));
    add_identities(t, &out.identities);
  }
  std::sort(out.identities.begin(), out.identities.end());
  for (const auto& [id, p] : resources.policies) out.policies.push_back(compile_policy(p, resources));
  out.recompile_at_s = recompile_at(out.tenants, day_s);
  return out;
}

}  // namespace tallygate::plan
