#include "sidecar/admission/plan.h"

#include <algorithm>

#include "core/redis_contract/bucket_id.h"
#include "sidecar/admission/quota_headers.h"

namespace tallygate::sidecar {
namespace {

using redis_contract::BucketId;
using tenant::WindowKind;

struct Window {
  int64_t start_s, end_s;
};

// False where the published boundaries do not cover `now_s`.
bool current_window(const tenant::Limit& limit, int64_t now_s, Window* window) {
  if (tenant::is_redis_only(limit.window)) {
    const int64_t length_s = limit.window == WindowKind::kSecond ? 1 : 60;
    window->start_s = now_s - now_s % length_s;
    window->end_s = window->start_s + length_s;
    return true;
  }
  const auto& b = limit.boundaries_s;
  const auto next = std::upper_bound(b.begin(), b.end(), now_s);
  if (next == b.begin() || next == b.end()) return false;
  window->start_s = *(next - 1);
  window->end_s = *next;
  return true;
}

PlanResult refuse(Reason reason, std::string detail) { return {reason, std::move(detail), nullptr}; }

void add_limit(Plan* plan, size_t charge, const tenant::Limit& limit, const Window& window, Escrow& escrow) {
  const BucketId id{limit.name.str(), false, window.start_s, window.end_s - window.start_s};
  const int64_t mint = tenant::is_redis_only(limit.window) ? limit.capacity : 0;
  PlanItem item;
  item.charge = charge;
  item.soft = limit.cap == tenant::Cap::kSoft;
  item.purse = escrow.purse(plan->tenant->id, id.str(), window.end_s, mint, item.soft);
  item.grace = item.soft && (limit.capacity != tenant::kUnbounded || limit.grace_duration_s > 0);
  item.limit = limit.name.str();
  item.meter = limit.meter.str();
  item.amount = limit.amount;
  item.capacity = limit.capacity;
  item.end_s = window.end_s;
  plan->valid_from_s = std::max(plan->valid_from_s, window.start_s);
  plan->valid_until_s = std::min(plan->valid_until_s, window.end_s);
  plan->policy_header += plan->policy_header.empty() ? "RateLimit-Policy: " : ", ";
  const auto bounded = [](int64_t n) { return std::to_string(std::min(n, kFieldIntegerMax)); };
  plan->policy_header +=
      "\"" + item.limit + "\";q=" + bounded(item.amount) + ";w=" + bounded(window.end_s - window.start_s);
  plan->items.push_back(std::move(item));
}

void add_wallet(Plan* plan, size_t charge, const tenant::Meter& meter, Escrow& escrow) {
  const BucketId id{meter.name.str(), true, 0, 0};
  PlanItem item;
  item.charge = charge;
  item.wallet = true;
  item.purse = escrow.purse(plan->tenant->id, id.str(), 0, 0);
  item.limit = "wallet";
  item.meter = meter.name.str();
  plan->items.push_back(std::move(item));
}

void note_amounts(Plan* plan, const tenant::Route& route, std::shared_ptr<const RouteAmounts> amounts) {
  if (amounts == nullptr) return;
  plan->amounts = std::move(amounts);
  plan->recent.resize(plan->units.size());
  for (const PlanItem& item : plan->items) {
    plan->capped[item.charge] |= !item.soft || item.capacity != tenant::kUnbounded;
  }
  const tenant::Tenant& doc = plan->tenant->doc;
  plan->on_unavailable_quota = route.on_unavailable.value_or(doc.on_unavailable_quota);
  plan->on_unavailable_wallet = route.on_unavailable.value_or(doc.on_unavailable_wallet);
  plan->without_lease = std::make_unique<Definition>(definition_of(route, *plan, 0));
}

// The bucket of a number of units, and the most that falls into one.
size_t quarter_of(int64_t units) {
  if (units < 4) return static_cast<size_t>(std::max<int64_t>(0, units));
  const int octave = 63 - __builtin_clzll(static_cast<uint64_t>(units));
  return static_cast<size_t>(4 * (octave - 1) + ((units >> (octave - 2)) & 3));
}

int64_t most_in(size_t quarter) {
  if (quarter < 4) return static_cast<int64_t>(quarter);
  const size_t octave = quarter / 4 + 1;
  return ((static_cast<int64_t>(quarter % 4) + 5) << (octave - 2)) - 1;
}

}  // namespace

void Recent::add(int64_t units) {
  constexpr uint32_t kMany = 512;
  if (total_ >= kMany) {
    total_ = 0;
    for (auto& count : counts_) total_ += count = static_cast<uint16_t>(count / 2);
  }
  ++counts_[std::min(quarter_of(units), kQuarters - 1)];
  ++total_;
}

int64_t Recent::nineteen_of_twenty() const {
  uint64_t seen = 0;
  for (size_t i = 0; i < kQuarters; ++i) {
    seen += counts_[i];
    if (seen > 0 && seen * 20 >= uint64_t{total_} * 19) return most_in(i);
  }
  return 0;
}

Definition definition_of(const tenant::Route& route, const Plan& plan, int64_t epoch) {
  Definition definition;
  definition.tenant = plan.tenant->id;
  definition.route = route.name.empty() ? "default" : route.name.str();
  definition.epoch = epoch;
  for (size_t i = 0; i < plan.units.size(); ++i) {
    ChargeTarget target;
    target.meter = route.charges[i].meter.str();
    for (const auto& item : plan.items) {
      if (item.charge == i) target.buckets.push_back(item.purse->bucket);
    }
    definition.charges.push_back(std::move(target));
  }
  return definition;
}

PlanResult build_plan(const tenant::Route& route, std::shared_ptr<const RouteAmounts> amounts, TenantEntry& entry,
                      Escrow& escrow, UsageLog& log, int64_t now_s) {
  const tenant::Tenant& doc = entry.doc;
  auto plan = std::make_unique<Plan>();
  plan->tenant = &entry;
  plan->tenant_serial = entry.serial;
  plan->charge_on_success = route.charge_on_success;
  plan->valid_until_s = now_s + 3600;
  const int shard = redis_contract::shard_of(entry.id);
  plan->epoch = escrow.epoch(shard);
  for (size_t i = 0; i < route.charges.size(); ++i) {
    const tenant::Charge& charge = route.charges[i];
    if (!charge.unsupported_source.empty()) {
      return refuse(Reason::kUnsupportedCharge, "the amount of meter " + charge.meter.str() + " comes from " +
                                                    charge.unsupported_source + ", which this version cannot measure");
    }
    const auto meter = std::find_if(doc.meters.begin(), doc.meters.end(),
                                    [&](const tenant::Meter& m) { return m.name == charge.meter; });
    if (meter == doc.meters.end()) {
      return refuse(Reason::kNotEntitled, "plan " + doc.plan.str() + " has no meter " + charge.meter.str());
    }
    plan->units.push_back(charge.units);
    for (const auto& limit : doc.limits) {
      if (limit.meter != charge.meter) continue;
      Window window{};
      if (!current_window(limit, now_s, &window)) {
        return refuse(Reason::kPolicyUnavailable,
                      "limit " + limit.name.str() + " has no window published for this time");
      }
      add_limit(plan.get(), i, limit, window, escrow);
    }
    if (meter->settlement == tenant::Settlement::kWallet) add_wallet(plan.get(), i, *meter, escrow);
  }
  if (!plan->policy_header.empty()) plan->policy_header += "\r\n";
  note_amounts(plan.get(), route, std::move(amounts));
  // Without a bucket no lease is needed, and none stands behind the usage.
  auto defined = log.define(definition_of(route, *plan, plan->items.empty() ? 0 : plan->epoch));
  if (!defined) return refuse(Reason::kLogFull, defined.error().message);
  plan->definition = *defined;
  for (auto& item : plan->items) ++item.purse->users;
  return {Reason::kAdmitted, "", std::move(plan)};
}

}  // namespace tallygate::sidecar
