// Gates for apps that ask directly: may this tenant do that now, and what will it cost. Asking books and holds nothing.
#include <algorithm>

#include "core/ids.h"
#include "operator/api/call.h"
#include "operator/api/usage_windows.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

struct PricedCharge {
  const tenant::Charge* charge;
  int64_t units = 0;
  tenant::Settlement settlement = tenant::Settlement::kInvoice;
  std::string currency;
  Micros price = 0;
};

struct Verdict {
  bool allowed = true;
  ReasonName reason;
  std::string limit;  // the one that is used up
  std::vector<PricedCharge> charges;
  std::optional<WalletResult> wallet;
  void refuse(ReasonName why) {
    if (allowed) reason = why;
    allowed = false;
  }
};

std::string_view to_string(tenant::Settlement settlement) {
  switch (settlement) {
    case tenant::Settlement::kInvoice:
      return "Invoice";
    case tenant::Settlement::kWallet:
      return "Wallet";
    case tenant::Settlement::kNone:
      return "None";
  }
  return "";
}

const plan::MeterPrice* price_of(const plan::TenantBilling& billing, const MeterName& meter) {
  for (const auto& price : billing.meters) {
    if (price.meter == meter) return &price;
  }
  return nullptr;
}

Result<PricedCharge> priced(const tenant::Charge& charge, int64_t times, const plan::TenantBilling& billing,
                            const UsedUnits& used) {
  PricedCharge out{&charge, 0, {}, billing.currency, 0};
  // Of an amount that comes from request or response what would be held for it.
  const bool fixed = charge.from == tenant::AmountFrom::kFixed;
  const __int128 units =
      static_cast<__int128>(fixed ? charge.units : std::max<int64_t>(1, charge.estimate.fallback)) * times;
  if (units > kMaxInteger) return fail(Errc::kInvalid, "too many units");
  out.units = static_cast<int64_t>(units);
  const auto* price = price_of(billing, charge.meter);
  if (price == nullptr) return fail(Errc::kNotFound, "the plan has no such meter");
  out.settlement = price->settlement;
  if (price->settlement == tenant::Settlement::kWallet && billing.wallet) out.currency = billing.wallet->currency;
  if (price->settlement == tenant::Settlement::kNone) return out;
  const auto exact = plan::cost(price->prices, used.of_meter(charge.meter.str()), out.units);
  if (!exact) return tl::unexpected(exact.error());
  auto rounded = exact->rounded_up();
  if (!rounded) return tl::unexpected(rounded.error());
  out.price = *rounded;
  return out;
}

// The first hard limit that these units would pass; empty: none. What is used of a window shorter than an hour is known
// to Redis alone: there only more than the whole of it is refused.
std::string limit_passed(const tenant::Tenant& tenant, const PricedCharge& charge, const UsedUnits& used) {
  for (const auto& limit : tenant.limits) {
    if (limit.meter != charge.charge->meter || limit.capacity >= tenant::kUnbounded) continue;
    const int64_t before = is_redis_only(limit.window) ? 0 : used.of_limit(limit.name.str());
    if (before > limit.capacity - charge.units) return limit.name.str();
  }
  return "";
}

// What the wallet must cover, over all charges that it settles.
Result<void> judge_wallet(Call& call, Verdict& verdict) {
  Micros needed = 0;
  std::string currency;
  for (const auto& charge : verdict.charges) {
    if (charge.settlement != tenant::Settlement::kWallet) continue;
    const auto sum = checked_add(needed, charge.price);
    if (!sum) return tl::unexpected(sum.error());
    needed = *sum;
    currency = charge.currency;
  }
  if (currency.empty()) return {};
  auto facts = run_wallet(call, "wallet_facts", {call.tenant, currency}, false);
  if (!facts) return tl::unexpected(facts.error());
  if (!facts->reason.empty()) {
    verdict.refuse("NoWallet");
    return {};
  }
  // Usage may go into debt as far as the tenant's limit, as it may at the sidecar. Float is on loan, not spent: it is
  // recalled where something else needs it.
  const Micros unreserved = facts->effective + facts->floating;
  if (unreserved + facts->debt_limit < needed || unreserved <= 0) verdict.refuse("InsufficientBalance");
  verdict.wallet = std::move(*facts);
  return {};
}

// By a manifest, or by the ledger.
Result<bool> is_suspended(Call& call, const tenant::Tenant& tenant) {
  if (tenant.suspended) return true;
  const auto rows = select_as_tenant(call, "select from suspended_tenants($1)", {call.tenant});
  if (!rows) return tl::unexpected(rows.error());
  return !rows->empty();
}

Result<Verdict> judge(Call& call, const tenant::Tenant& tenant, const tenant::Route& route, int64_t times) {
  Verdict verdict;
  const auto suspended = is_suspended(call, tenant);
  if (!suspended) return tl::unexpected(suspended.error());
  if (*suspended) verdict.refuse("Suspended");
  if (route.action == tenant::RouteAction::kDeny) verdict.refuse("RouteDenied");
  const auto& features = tenant.entitlements;
  if (!route.entitlement.empty() && std::find(features.begin(), features.end(), route.entitlement) == features.end()) {
    verdict.refuse("NotEntitled");
  }
  if (route.action != tenant::RouteAction::kCharge) return verdict;
  const auto* billing = call.snapshot->billing(call.tenant);
  if (billing == nullptr) return fail(Errc::kNotFound, "the tenant has no plan");
  auto used = used_units(call, tenant);
  if (!used) return tl::unexpected(used.error());
  for (const auto& charge : route.charges) {
    if (!charge.unsupported_source.empty()) verdict.refuse("UnsupportedCharge");
    auto one = priced(charge, times, *billing, *used);
    if (!one) {
      if (one.error().errc != Errc::kNotFound) return tl::unexpected(one.error());
      verdict.refuse("MeterNotInPlan");
      continue;
    }
    if (std::string limit = limit_passed(tenant, *one, *used); !limit.empty()) {
      verdict.refuse("QuotaExhausted");
      if (verdict.limit.empty()) verdict.limit = std::move(limit);
    }
    verdict.charges.push_back(std::move(*one));
  }
  if (auto done = judge_wallet(call, verdict); !done) return tl::unexpected(done.error());
  return verdict;
}

std::string verdict_json(std::string_view gate, const GateRoute& found, const Verdict& verdict) {
  JsonWriter json;
  json.begin_object();
  json.key("allowed");
  json.value(verdict.allowed);
  json.key("reason");
  json.value(verdict.reason.str());
  json.key("gate");
  json.value(gate);
  json.key("policy");
  json.value(found.policy->id.str());
  json.key("route");
  json.value(found.route->name.str());
  put_text_unless_empty(json, "limit", verdict.limit);
  json.key("charges");
  json.begin_array();
  for (const auto& charge : verdict.charges) {
    json.begin_object();
    json.key("meter");
    json.value(charge.charge->meter.str());
    json.key("units");
    json.value(charge.units);
    json.key("settlement");
    json.value(to_string(charge.settlement));
    json.key("currency");
    json.value(charge.currency);
    put_money(json, "price", charge.price, charge.currency);
    json.end_object();
  }
  json.end_array();
  if (verdict.wallet) {
    json.key("wallet");
    json.begin_object();
    put_wallet(json, *verdict.wallet);
    json.end_object();
  }
  json.end_object();
  return json.take();
}

}  // namespace

http::Response check_gate(Call& call) {
  Fields fields(call.request, Fields::Body::kOptional);
  const std::string policy = fields.text("policy", 320, false);
  if (!policy.empty() && !PolicyId::parse(policy)) fields.refuse("policy", "must be namespace/name");
  const int64_t times = fields.integer("times", 1, 1'000'000, false).value_or(1);
  if (auto refused = fields.refusal()) return *refused;
  const auto* tenant = call.snapshot ? call.snapshot->tenant(call.tenant) : nullptr;
  if (tenant == nullptr) return unknown_tenant();
  const std::string_view gate = call.request.param("gate");
  auto found = call.snapshot->gate(gate, *tenant);
  if (!policy.empty()) std::erase_if(found, [&](const GateRoute& one) { return one.policy->id.str() != policy; });
  if (found.empty())
    return http::problem_response({404, "UnknownGate", "No policy has such a gate for this tenant.", "", {}});
  const bool ambiguous =
      std::any_of(found.begin(), found.end(), [&](const GateRoute& one) { return one.policy != found.front().policy; });
  if (ambiguous) return faulty_fields({{"policy", "is required: several policies have this gate"}});
  auto verdict = judge(call, *tenant, *found.front().route, times);
  if (!verdict) return failure_response(call, verdict.error());
  return http::json_response(200, verdict_json(gate, found.front(), *verdict));
}

}  // namespace tallygate::api
