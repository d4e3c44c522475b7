// The half of Admission that deals in units: plans, purses, slots.
#include <algorithm>

#include "core/counting.h"
#include "core/time_text.h"
#include "sidecar/admission/admission.h"
#include "sidecar/admission/problem.h"
#include "sidecar/admission/quota_headers.h"

namespace tallygate::sidecar {

using proxy::Verdict;

namespace {

constexpr size_t kDefaultRoute = AdmissionCounters::kDefaultRoute;

using Units = std::span<const int64_t>;  // by charge

// How much of `plan` one request takes of a purse: several charges may go to the same.
int64_t units_of(const Plan& plan, Units by_charge, const Purse& purse) {
  int64_t units = 0;
  for (const auto& item : plan.items) units += item.purse == &purse ? by_charge[item.charge] : 0;
  return units;
}

// Whether `item` goes on denying for longer than `other`: a denial says when all that deny have started anew. What lies
// with other sidecars is back soon. A wallet never starts anew by itself, but who tops it up should not be denied by a
// limit then, so limits are told of first.
bool outlasts(const Plan& plan, Units by_charge, const PlanItem& item, const PlanItem& other) {
  const bool soon = comes_back(item, units_of(plan, by_charge, *item.purse)),
             other_soon = comes_back(other, units_of(plan, by_charge, *other.purse));
  if (soon != other_soon) return other_soon;
  if (item.wallet != other.wallet) return other.wallet;
  return item.end_s > other.end_s;
}

std::string exhausted_detail(const PlanItem& item, int64_t units) {
  if (comes_back(item, units)) {
    return (item.wallet ? "what the wallet still pays for of " : "what is left of limit " + item.limit + " of meter ") +
           item.meter + " is with other sidecars for now: try again in a second";
  }
  if (item.wallet) {
    return "the wallet cannot pay for the " + std::to_string(units) + " of " + item.meter +
           " that this request needs; top it up";
  }
  const std::string limit = "limit " + item.limit + " of meter " + item.meter;
  const int64_t left = item.purse->told ? remaining_of(item) : 0;
  if (left == 0) return limit + " is used up until " + rfc3339(item.end_s);
  return limit + " has " + std::to_string(left) + " left until " + rfc3339(item.end_s) + ", and this request needs " +
         std::to_string(units);
}

}  // namespace

// Finds the tenant's plan for the route, or builds it anew where anything it stands on has changed.
Plan* Admission::plan_for(Request& request, Reason* reason, std::string* detail) {
  TenantEntry& tenant = *request.tenant;
  const size_t row = request.route == kDefaultRoute ? 0 : request.route + 1;  // most tenants use few routes
  if (tenant.plans.size() <= row) tenant.plans.resize(row + 1);
  const int64_t now_s = (loop_.now_ns() + wall_offset_ns_) / 1'000'000'000;
  Plan*& cached = tenant.plans[row];
  if (cached != nullptr && cached->tenant_serial == tenant.serial &&
      cached->policy_serial == directory_.policy_serial() && now_s >= cached->valid_from_s &&
      now_s < cached->valid_until_s &&
      (cached->items.empty() || cached->epoch == escrow_.shard(cached->items[0].purse->shard).epoch)) [[likely]] {
    return cached;
  }
  std::shared_ptr<const RouteAmounts> amounts_before;
  std::vector<Recent> recent;
  if (cached != nullptr) {
    amounts_before = cached->amounts;
    recent = cached->recent;
    retire(std::exchange(cached, nullptr));
  }
  if (!amounts_faults_[request.route].empty()) {
    *reason = Reason::kUnsupportedCharge;
    *detail = amounts_faults_[request.route];
    return nullptr;
  }
  PlanResult built = build_plan(route(request.route), route_amounts_[request.route], tenant, escrow_, log_, now_s);
  logged_();
  if (!built.plan) {
    *reason = built.reason;
    *detail = std::move(built.detail);
    return nullptr;
  }
  built.plan->route = request.route;
  if (built.plan->amounts != nullptr && built.plan->amounts == amounts_before) built.plan->recent = std::move(recent);
  built.plan->policy_serial = directory_.policy_serial();
  for (auto& item : built.plan->items) {
    const auto before = allowed_before_.find(item.purse->member);
    if (before != allowed_before_.end()) {
      item.purse->allowed += before->second;
      allowed_before_.erase(before);
    }
  }
  cached = built.plan.get();
  plans_.emplace(cached, std::move(built.plan));
  return cached;
}

void Admission::retire(Plan* plan) {
  plan->retired = true;
  if (plan->in_flight > 0) return;
  for (auto& item : plan->items) --item.purse->users;
  log_.release(plan->definition);
  if (plan->has_allow_definition) log_.release(plan->allow_definition);
  plans_.erase(plan);
}

bool Admission::stale(const Request& request) const {
  return directory_.age_ns(*request.tenant) > request.tenant->doc.stale_after_ms * 1'000'000;
}

Verdict Admission::decide_units(Request& request, Plan& plan, proxy::Admission& admission, proxy::Denial& denial) {
  request.units = plan.units;
  if (plan.amounts != nullptr) [[unlikely]] {
    Verdict verdict = Verdict::kDeny;
    if (!estimate_amounts(request, plan, admission, denial, &verdict)) return verdict;
  }
  if (!plan.items.empty() && stale(request)) [[unlikely]] {
    // The ledger's answer to whatever is asked there says what the tenant's document is now.
    const auto asked = std::find_if(plan.items.begin(), plan.items.end(),
                                    [this](const PlanItem& item) { return escrow_.may_ask_ledger(*item.purse); });
    if (asked != plan.items.end() && may_wait(request)) {
      escrow_.ask_ledger(*asked->purse);
      return wait(request, asked->purse->waiting);
    }
    return unavailable(request, plan, plan.items[0], admission, denial);
  }
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const PlanItem& item = plan.items[i];
    Purse& purse = *item.purse;
    const int64_t units = request.units[item.charge];
    if (purse.epoch == plan.epoch && plan.epoch != 0 && purse.available() >= units) [[likely]] {
      purse.spent += units;
      continue;
    }
    // Not enough of this one: what was taken of the others goes back before anything else happens (I5).
    for (size_t j = 0; j < i; ++j) plan.items[j].purse->spent -= request.units[plan.items[j].charge];
    return lacking(request, plan, admission, denial);
  }
  for (const PlanItem& item : plan.items) escrow_.spent_from(*item.purse);
  return take(request, plan, plan.definition, Reason::kAdmitted, admission, denial);
}

// Not every purse has enough: asks for all that is lacking. Denied only where the ledger says that it is exhausted.
Verdict Admission::lacking(Request& request, Plan& plan, proxy::Admission& admission, proxy::Denial& denial) {
  const PlanItem* exhausted = nullptr;
  const PlanItem* lacks = nullptr;
  const PlanItem* lost = nullptr;
  const PlanItem* due = nullptr;  // an answer is on its way: it may deny for longer than others
  bool fresh = false, may_come = true;
  for (const PlanItem& item : plan.items) {
    const int64_t units = units_of(plan, request.units, *item.purse);
    if (item.purse->available() >= units && item.purse->epoch == plan.epoch && plan.epoch != 0) continue;
    if (lacks == nullptr) lacks = &item;
    if (item.purse->state == PurseState::kLost) lost = &item;
    may_come = may_come && escrow_.may_lease(*item.purse);
    if (!escrow_.exhausted(*item.purse, units, /*fresh=*/false)) {
      if (item.purse->asking || item.purse->asking_ledger) due = &item;
      continue;
    }
    fresh = fresh || escrow_.exhausted(*item.purse, units, /*fresh=*/true);
    if (exhausted == nullptr || outlasts(plan, request.units, item, *exhausted)) exhausted = &item;
  }
  if (fresh && due != nullptr && may_wait(request)) return wait(request, due->purse->waiting);
  const bool wait_is_possible = lost == nullptr && !fresh && may_come && may_wait(request);
  if (exhausted != nullptr && !wait_is_possible) {
    if (shadow(request)) return unavailable(request, plan, *exhausted, admission, denial);
    const PlanItem& item = *exhausted;
    const Reason reason = item.wallet ? Reason::kBalanceExhausted : Reason::kQuotaExhausted;
    const int64_t units = units_of(plan, request.units, *item.purse);
    return deny(request, reason, exhausted_detail(item, units), denial, &plan, &item, units);
  }
  for (const PlanItem& item : plan.items) {
    const int64_t units = units_of(plan, request.units, *item.purse);
    if (item.purse->available() < units) escrow_.need(*item.purse, units);
  }
  if (wait_is_possible) return wait(request, lacks->purse->waiting);
  return unavailable(request, plan, lost != nullptr ? *lost : *lacks, admission, denial);
}

std::string Admission::why_unavailable(const PlanItem& item) const {
  if (item.purse->state == PurseState::kLost) {
    return "Redis has lost what was used of limit " + item.limit + " of meter " + item.meter +
           " in this window; the next one begins at " + rfc3339(item.end_s);
  }
  return escrow_.connected() ? "no units came in time" : "Redis is away";
}

// The units cannot be had in time: `onUnavailable`, of the route, else of the tenant, by what settles the meter.
Verdict Admission::unavailable(Request& request, Plan& plan, const PlanItem& item, proxy::Admission& admission,
                               proxy::Denial& denial) {
  const tenant::Tenant& doc = request.tenant->doc;
  const auto rule =
      route(request.route).on_unavailable.value_or(item.wallet ? doc.on_unavailable_wallet : doc.on_unavailable_quota);
  const bool free_pass = shadow(request);
  bool room = true;
  for (const auto& i : plan.items) {
    room = room && i.purse->allowed + units_of(plan, request.units, *i.purse) <= doc.allowance_per_pod;
  }
  if (!free_pass && (rule == tenant::OnUnavailable::kDeny || !room)) {
    return deny(
        request, Reason::kQuotaUnavailable,
        why_unavailable(item) + (rule == tenant::OnUnavailable::kAllow ? ", and this pod's allowance is used up" : ""),
        denial, &plan, &item, units_of(plan, request.units, *item.purse));
  }
  if (!plan.has_allow_definition) {
    auto defined = log_.define(definition_of(route(request.route), plan, 0));
    if (!defined) return refuse(request, Reason::kLogFull, defined.error().message, admission, denial);
    plan.allow_definition = *defined;
    plan.has_allow_definition = true;
  }
  const Verdict verdict = take(request, plan, plan.allow_definition,
                               free_pass ? Reason::kShadow : Reason::kAllowedUnavailable, admission, denial);
  if (verdict == Verdict::kAdmit) {
    for (const auto& i : plan.items) {
      if (!free_pass) i.purse->allowed += request.units[i.charge];
    }
    for (const int64_t units : request.units) count(counters_.allowed_units, units);
  }
  return verdict;
}

// The last step: the slot is in the log before the request is forwarded (rule 1).
Verdict Admission::take(Request& request, Plan& plan, uint32_t definition, Reason reason, proxy::Admission& admission,
                        proxy::Denial& denial) {
  const int64_t now_s = (loop_.now_ns() + wall_offset_ns_) / 1'000'000'000;
  Slot* slot = log_.admit(definition, request.units, now_s);
  if (slot == nullptr) [[unlikely]] {
    if (reason == Reason::kAdmitted) {
      for (const auto& item : plan.items) item.purse->spent -= request.units[item.charge];
    }
    return refuse(request, Reason::kLogFull, log_.last_error(), admission, denial);
  }
  ++plan.in_flight;
  Held& now = hold(admission) = held(request, reason);
  now.plan = &plan;
  now.slot = slot;
  if (reason == Reason::kAdmitted) now.epoch = plan.epoch;
  if (request.amounts != nullptr) [[unlikely]]
    watch(request, plan, reason, admission);
  return decided(request.route, reason, Verdict::kAdmit);
}

// An app's 5xx or a failed connection releases the hold; a client that left pays for what the app was asked to do
// (A13). What did not reach the app costs nothing, whatever the route says.
void Admission::settle(proxy::Admission& admission, const proxy::Outcome& outcome) {
  const Held& held = hold(admission);
  if (held.amounts != nullptr) [[unlikely]]
    return settle_amounts(admission, outcome);
  if (held.plan == nullptr) return;
  Plan& plan = *held.plan;
  const bool failed = outcome.end == proxy::End::kUpstreamFailed || outcome.status >= 500;
  if ((failed && plan.charge_on_success) || !outcome.app_reached) {
    static constexpr int64_t kNothing[kMaxCharges] = {};
    for (const auto& item : plan.items) {
      const int64_t units = plan.units[item.charge];
      escrow_.release(*item.purse, held.epoch, units);
      if (held.reason == Reason::kAllowedUnavailable) item.purse->allowed -= units;
    }
    for (const int64_t units : plan.units) count(counters_.released_units, units);
    log_.settle(held.slot, {kNothing, plan.units.size()});
  } else {
    for (const int64_t units : plan.units) count(counters_.charged_units, units);
    log_.settle(held.slot, plan.units);
  }
  if (--plan.in_flight == 0 && plan.retired) retire(&plan);
}

}  // namespace tallygate::sidecar
