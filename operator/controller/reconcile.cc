#include "operator/controller/reconcile.h"

#include <algorithm>

#include "core/redis_contract/bucket_id.h"
#include "core/utf8.h"
#include "operator/plan/calendar.h"

namespace tallygate::controller {
namespace {

constexpr size_t kFaultsShown = 8;
constexpr size_t kMessageBytes = 2'000;
constexpr int64_t kWarnedPercent = 80;
constexpr const char* kWindows[] = {"Second", "Minute", "Hour", "Day", "Week", "Month", "Year", "BillingPeriod"};

std::string bounded(std::string text) {
  if (text.size() <= kMessageBytes) return text;
  return std::string(cut_utf8(text, kMessageBytes)) + "…";
}

std::string describe(const manifest::Faults& faults) {
  std::string text;
  for (size_t i = 0; i < std::min(faults.size(), kFaultsShown); ++i) {
    const auto& fault = faults[i];
    if (!text.empty()) text += "; ";
    if (!fault.field.empty()) text += fault.field + ": ";
    text += fault.message;
    if (!fault.fix.empty()) text += " (" + fault.fix + ")";
  }
  if (faults.size() > kFaultsShown) text += "; and " + std::to_string(faults.size() - kFaultsShown) + " more";
  return bounded(std::move(text));
}

// The same reading of the same version.
bool is(const manifest::Metadata* a, const manifest::Metadata& b) {
  return a != nullptr && (a->version.text == b.version.text ||
                          (a->version.text && b.version.text && a->version.generation == b.version.generation &&
                           *a->version.text == *b.version.text));
}

std::string stays(const manifest::Metadata* in_force) {
  if (in_force == nullptr) return "nothing of it is in force";
  return "generation " + std::to_string(in_force->version.generation) + " stays in force";
}

// "61.90 GBP"
std::string money(Micros amount, const std::string& currency) { return format_money(amount) + " " + currency; }

bool settles_by(const plan::TenantBilling& billing, tenant::Settlement settlement) {
  return std::any_of(billing.meters.begin(), billing.meters.end(),
                     [&](const auto& meter) { return meter.settlement == settlement; });
}

void add_period(Status& status, const plan::TenantBilling& billing, int64_t now_s) {
  const plan::Calendar calendar{billing.time_zone, billing.interval, billing.anchor_s};
  const int64_t about_s = billing.interval == manifest::Interval::kYear ? 366 * 86'400 : 31 * 86'400;
  int64_t n = (now_s - billing.anchor_s) / about_s - 1;
  while (plan::period_start(calendar, n + 1) <= now_s) ++n;
  status.period_start_s = plan::period_start(calendar, n);
  status.period_end_s = plan::period_start(calendar, n + 1);
}

Condition billing_condition(const plan::TenantBilling& billing, const TenantFacts& facts, bool submits) {
  if (facts.dead > 0) {
    return {kBillingSynced, Truth::kFalse, "PutAside",
            std::to_string(facts.dead) + " meter events were refused for good and are put aside; see the operator's log"};
  }
  if (billing.stripe_customer_id.empty()) {
    return {kBillingSynced, Truth::kUnknown, "NoCustomer",
            "usage is kept until spec.billing.stripe.customerID says whom it is billed to"};
  }
  if (!submits) return {kBillingSynced, Truth::kUnknown, "Disabled", "submission is disabled; usage is kept"};
  if (facts.held > 0) {
    return {kBillingSynced, Truth::kFalse, "Held",
            std::to_string(facts.held) + " meter events wait for a meter or customer that can take them"};
  }
  return {kBillingSynced, Truth::kTrue, "Synced", "nothing was refused"};
}

kube::EventText event(bool warning, const char* reason, const char* action, std::string note) {
  return {warning ? kube::EventText::Type::kWarning : kube::EventText::Type::kNormal, reason, action, std::move(note)};
}

void limit_event(const LimitUsage& now, LimitState before, std::vector<kube::EventText>& out) {
  const std::string what = "limit " + now.limit + ": " + std::to_string(now.used) + " of " + std::to_string(now.amount) + " " +
                           now.meter + " used in this window";
  if (now.state > before) {
    if (now.state == LimitState::kHard) out.push_back(event(true, "LimitReached", "Deny", what + "; further requests are denied"));
    if (now.state == LimitState::kGrace) out.push_back(event(true, "GraceBegan", "Meter", what + "; what follows is within the grace"));
    if (now.state == LimitState::kSoftOver) out.push_back(event(true, "SoftLimitPassed", "Meter", what + "; what follows is billed as overage"));
  } else if (now.state < before && before >= LimitState::kSoftOver && now.state < LimitState::kSoftOver) {
    out.push_back(event(false, "LimitCleared", "Admit", what));
  }
}

// Turned to `to` since `before`.
const Condition* turned(const Status& before, const Status& now, const char* type, Truth to) {
  const Condition* is = now.condition(type);
  const Condition* was = before.condition(type);
  if (is == nullptr || is->status != to) return nullptr;
  const bool same = was != nullptr && was->status == to && was->reason == is->reason &&
                    was->observed_generation == is->observed_generation;
  return same ? nullptr : is;
}

}  // namespace

std::optional<Status> judge(const View& view) {
  if (view.content == nullptr) return std::nullopt;
  Status status;
  status.observed_generation = view.generation;
  const manifest::Metadata* read = view.content->objects.empty() ? nullptr : &manifest::metadata_of(view.content->objects[0]);
  const bool accepted = read != nullptr && is(view.accepted, *read);
  const bool programmed = accepted && is(view.in_force, *read);
  Condition a{kAccepted, Truth::kTrue, "Accepted", describe(view.faults), view.generation};
  if (!accepted) {
    a.status = Truth::kFalse;
    a.reason = view.faults.empty() ? "Refused" : manifest::to_string(view.faults.front().reason);
    if (view.faults.empty() && !view.lost.empty()) {
      a.status = Truth::kUnknown;
      a.reason = "SourceLost";
      a.message = bounded(view.lost);
    }
  }
  Condition p{kProgrammed, Truth::kTrue, "Programmed", "the ledger and every sidecar's cache have this generation", view.generation};
  if (!programmed) {
    p.status = Truth::kFalse;
    p.reason = accepted ? kPending : "NotAccepted";
    p.message = accepted ? bounded(view.waits_for.empty() ? "being published" : view.waits_for) : stays(view.in_force);
  }
  Condition r = p;
  r.type = kReady;
  if (programmed) {
    r.reason = "InForce";
    r.message = "this generation is in force";
  } else if (!accepted) {
    r.reason = a.reason;
    r.message = a.message + (a.message.empty() ? "" : "; ") + p.message;
  }
  status.conditions = {std::move(a), std::move(p), std::move(r)};
  return status;
}

std::optional<Window> window_of(const tenant::Limit& limit, int64_t now_s) {
  if (tenant::is_redis_only(limit.window)) return std::nullopt;
  const auto& edges = limit.boundaries_s;
  const auto end = std::upper_bound(edges.begin(), edges.end(), now_s);
  if (end == edges.begin() || end == edges.end()) return std::nullopt;
  const int64_t start_s = *std::prev(end);
  return Window{redis_contract::BucketId{limit.name.str(), false, start_s, *end - start_s}.str(), *end};
}

LimitState state_of(const tenant::Limit& limit, const TenantFacts::Used& used, int64_t now_s) {
  const bool soft = limit.cap == tenant::Cap::kSoft;
  const bool grace_over = soft && limit.grace_duration_s > 0 && used.crossed_at_s > 0 &&
                          used.crossed_at_s + limit.grace_duration_s <= now_s;
  const int64_t capacity = grace_over ? limit.amount : limit.capacity;
  if (used.units >= capacity) return LimitState::kHard;
  if (used.units > limit.amount) {
    const bool bounded = limit.capacity < tenant::kUnbounded || limit.grace_duration_s > 0;
    return bounded ? LimitState::kGrace : LimitState::kSoftOver;
  }
  const bool warned = static_cast<__int128>(used.units) * 100 >= static_cast<__int128>(limit.amount) * kWarnedPercent;
  return warned && limit.amount > 0 ? LimitState::kWarned : LimitState::kOk;
}

void add_tenant(Status& status, const tenant::Tenant& tenant, const plan::TenantBilling& billing,
                const TenantFacts* facts, bool submits, int64_t now_s) {
  status.stripe_customer = billing.stripe_customer_id;
  add_period(status, billing, now_s);
  if (facts == nullptr) return;
  LimitState worst = LimitState::kOk;
  for (const auto& limit : tenant.limits) {
    const auto window = window_of(limit, now_s);
    if (!window) continue;
    const auto found = facts->used.find(window->bucket);
    const TenantFacts::Used used = found == facts->used.end() ? TenantFacts::Used{} : found->second;
    LimitUsage usage{limit.name.str(), limit.meter.str(), kWindows[static_cast<size_t>(limit.window)], limit.amount,
                     used.units,       state_of(limit, used, now_s), window->end_s};
    worst = std::max(worst, usage.state);
    status.usage.push_back(std::move(usage));
  }
  std::sort(status.usage.begin(), status.usage.end(), [](const auto& a, const auto& b) { return a.limit < b.limit; });
  status.state = worst;
  const auto add = [&](Condition condition) {
    condition.observed_generation = status.observed_generation;
    status.conditions.push_back(std::move(condition));
  };
  if (facts->wallet) {
    const Wallet& w = *facts->wallet;
    status.balance = money(w.balance, w.currency);
    const bool paid_up = w.balance - w.held - w.reserved + w.debt_limit > 0;
    add({kBalanceHealthy, paid_up ? Truth::kTrue : Truth::kFalse, paid_up ? "Funded" : "Exhausted",
         paid_up ? "" : "nothing is left to spend: top the wallet up"});
  }
  if (settles_by(billing, tenant::Settlement::kInvoice)) add(billing_condition(billing, *facts, submits));
  if (!facts->suspended.empty()) add({kPaymentCurrent, Truth::kFalse, "Suspended", facts->suspended});
}

std::vector<kube::EventText> events(const Status& before, const Status& now) {
  std::vector<kube::EventText> out;
  if (const auto* refused = turned(before, now, kAccepted, Truth::kFalse)) {
    out.push_back(event(true, "Refused", "Accept", refused->message.substr(0, 1'000)));
  }
  for (const auto& limit : now.usage) {
    const auto was = std::find_if(before.usage.begin(), before.usage.end(), [&](const auto& u) { return u.limit == limit.limit; });
    limit_event(limit, was == before.usage.end() ? LimitState::kOk : was->state, out);
  }
  if (const auto* c = turned(before, now, kBalanceHealthy, Truth::kFalse)) out.push_back(event(true, "BalanceExhausted", "Charge", c->message));
  if (const auto* c = turned(before, now, kPaymentCurrent, Truth::kFalse)) out.push_back(event(true, "Suspended", "Deny", c->message));
  if (before.condition(kPaymentCurrent) != nullptr && now.condition(kPaymentCurrent) == nullptr) {
    out.push_back(event(false, "Resumed", "Admit", "requests pass again"));
  }
  return out;
}

}  // namespace tallygate::controller
