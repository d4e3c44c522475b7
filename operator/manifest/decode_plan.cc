#include "operator/manifest/decode.h"
#include "operator/manifest/formats.h"

namespace tallygate::manifest {
namespace {

using tenant::Cap;
using tenant::Settlement;
using tenant::WindowKind;

constexpr size_t kMaxMeters = 32;
constexpr size_t kMaxLimits = 64;
constexpr size_t kMaxTiers = 16;
constexpr size_t kMaxEntitlements = 64;
constexpr int64_t kMaxGraceMs = 366LL * 24 * 3'600'000;

constexpr Choice<Aggregation> kAggregations[] = {{"Sum", Aggregation::kSum}, {"Last", Aggregation::kLast}};
constexpr Choice<Settlement> kSettlements[] = {
    {"Invoice", Settlement::kInvoice}, {"Wallet", Settlement::kWallet}, {"None", Settlement::kNone}};
constexpr Choice<Cap> kCaps[] = {{"Hard", Cap::kHard}, {"Soft", Cap::kSoft}};
constexpr Choice<WindowKind> kWindows[] = {
    {"Second", WindowKind::kSecond}, {"Minute", WindowKind::kMinute},
    {"Hour", WindowKind::kHour},     {"Day", WindowKind::kDay},
    {"Week", WindowKind::kWeek},     {"Month", WindowKind::kMonth},
    {"Year", WindowKind::kYear},     {"BillingPeriod", WindowKind::kBillingPeriod}};

constexpr char kMeterWant[] = "a meter name of lower-case letters, digits and _, such as api_calls";
constexpr char kLimitWant[] = "a name of lower-case letters, digits and -, such as calls-month";

void check_tiers(Fields& meter, const std::vector<int>& lines, MeterSpec* m) {
  const auto at = [&](size_t i) { return meter.path("tiers") + "[" + std::to_string(i) + "].upTo"; };
  Sink& sink = meter.sink();
  int64_t previous = 0;
  for (size_t i = 0; i < m->tiers.size(); ++i) {
    const bool last = i + 1 == m->tiers.size();
    const auto& up_to = m->tiers[i].up_to;
    if (last && up_to) {
      sink.fault(lines[i], at(i), Reason::kInvalidValue, "the last tier ends, and what comes after has no price",
                 "remove upTo from the last tier");
    } else if (!last && !up_to) {
      sink.fault(lines[i], at(i), Reason::kRequired, "a tier without upTo takes all that follows; others come after it",
                 "add upTo");
    } else if (up_to && *up_to <= previous) {
      sink.fault(lines[i], at(i), Reason::kInvalidValue,
                 "tiers must ascend; the one before ends at " + std::to_string(previous),
                 "use more than " + std::to_string(previous));
    }
    if (up_to) previous = std::max(previous, *up_to);
  }
}

void decode_meter(Fields& f, MeterSpec* m) {
  f.id("name", kRequired, kMeterWant, &m->name);
  f.text("unit", kRequired, {63, is_display_text, "a word for one unit, such as call"}, &m->unit);
  if (f.choice("aggregation", kOptional, kAggregations, &m->aggregation) && m->aggregation != Aggregation::kSum) {
    f.not_in_force("aggregation", "aggregation Last (charges on such a meter answer 503: charge another meter until then)");
  }
  f.choice("settlement", kRequired, kSettlements, &m->settlement);
  f.integer("perUnits", kOptional, 1, kMaxInteger, &m->per_units);
  std::vector<int> lines;
  const Need need = m->settlement == Settlement::kNone ? kOptional : kRequired;
  const size_t before = f.sink().faults->size();
  f.list("tiers", need, kMaxTiers, [&](const Node& item, const std::string& path) {
    Fields tier(f.sink(), item, path);
    Tier& t = m->tiers.emplace_back();
    int64_t up_to = 0;
    if (tier.integer("upTo", kOptional, 1, kMaxInteger, &up_to)) t.up_to = up_to;
    tier.money("price", kRequired, "", &t.price);
    lines.push_back(tier.line("upTo"));
    tier.finish();
  });
  if (f.sink().faults->size() == before) check_tiers(f, lines, m);
}

void decode_pricing(Fields& f, Pricing* pricing) {
  if (!f.text("currency", kRequired, {3, is_currency, "an ISO 4217 currency, such as GBP"}, &pricing->currency)) {
    pricing->currency.clear();
  }
  f.money("basePrice", kOptional, pricing->currency, &pricing->base_price);
  f.integer("annualDiscountPercent", kOptional, 0, 100, &pricing->annual_discount_percent);
  Names names;
  f.list("meters", kOptional, kMaxMeters, [&](const Node& item, const std::string& path) {
    Fields meter(f.sink(), item, path);
    MeterSpec& m = pricing->meters.emplace_back();
    decode_meter(meter, &m);
    if (!m.name.empty()) names.add(f.sink(), m.name.str(), meter.line("name"), meter.path("name"));
    meter.finish();
  });
}

void decode_grace(Fields& f, Fields& limit, LimitSpec* l) {
  Grace grace;
  int64_t duration_ms = 0;
  const bool percent = f.integer("percent", kOptional, 1, 1000, &grace.percent);
  const bool duration = f.duration_ms("duration", kOptional, 1'000, kMaxGraceMs, &duration_ms);
  if (duration && duration_ms % 1'000 != 0) f.invalid("duration", "is finer than a second", "round it to seconds");
  grace.duration_s = duration_ms / 1'000;
  if (!percent && !duration && !f.has("percent") && !f.has("duration")) {
    limit.fault("grace", Reason::kRequired, "is empty", "add percent or duration, or remove grace");
  }
  l->grace = grace;
}

void check_meter_reference(Fields& f, const BillingPlan& plan, const LimitSpec& l) {
  std::vector<std::string_view> names;
  for (const MeterSpec& m : plan.pricing.meters) {
    if (m.name == l.meter) return;
    names.push_back(m.name.str());
  }
  const auto meant = did_you_mean(l.meter.str(), names);
  f.fault("meter", Reason::kNotFound, "the plan has no meter \"" + l.meter.str() + "\"",
          meant.empty() ? "add it to spec.pricing.meters" : "did you mean " + std::string(meant) + "?");
}

void decode_limit(Fields& f, const BillingPlan& plan, LimitSpec* l) {
  f.id("name", kRequired, kLimitWant, &l->name);
  if (f.id("meter", kRequired, kMeterWant, &l->meter)) check_meter_reference(f, plan, *l);
  const bool amount = f.integer("amount", kRequired, 0, kMaxInteger, &l->amount);
  const bool burst = f.integer("burst", kOptional, 1, kMaxInteger, &l->burst);
  if (burst && amount && l->burst < l->amount) {
    f.fault("burst", Reason::kOutOfRange, "is less than amount", "use at least " + std::to_string(l->amount));
  }
  f.choice("window", kRequired, kWindows, &l->window);
  const bool cap = f.choice("cap", kRequired, kCaps, &l->cap);
  f.object("grace", kOptional, [&](Fields& grace) { decode_grace(grace, f, l); });
  if (cap && l->cap == Cap::kHard && f.has("grace")) {
    f.fault("grace", Reason::kConflict, "a hard cap has no grace", "use cap: Soft, or remove grace");
  }
  // More than amount in a window would pass, or what was promised would not.
  if (burst && cap && l->cap == Cap::kHard) {
    f.fault("burst", Reason::kConflict, "a hard cap has no burst in this version", "remove burst");
  } else if (burst) {
    f.not_in_force("burst", "burst");
  }
}

void decode_limits(Fields& spec, BillingPlan* plan) {
  Names names;
  std::map<std::pair<std::string, WindowKind>, std::string> windows;
  spec.list("limits", kOptional, kMaxLimits, [&](const Node& item, const std::string& path) {
    Fields limit(spec.sink(), item, path);
    LimitSpec& l = plan->limits.emplace_back();
    decode_limit(limit, *plan, &l);
    if (!l.name.empty()) names.add(spec.sink(), l.name.str(), limit.line("name"), limit.path("name"));
    if (!l.meter.empty() && limit.has("window")) {
      const auto [other, inserted] = windows.emplace(std::pair{l.meter.str(), l.window}, l.name.str());
      if (!inserted) {
        limit.fault("window", Reason::kConflict, "limit " + other->second + " has the same meter and window",
                    "keep one of the two, or use another window");
      }
    }
    limit.finish();
  });
}

}  // namespace

void decode_plan(Fields& root, Metadata metadata, BillingPlan* plan) {
  plan->metadata = std::move(metadata);
  if (auto name = PlanName::parse(plan->metadata.name)) plan->name = std::move(*name);
  plan->pricing_place = plan->metadata.place;
  const auto annotation = plan->metadata.annotations.find(kDefaultPlanAnnotation);
  plan->is_default = annotation != plan->metadata.annotations.end() && annotation->second == "true";
  root.object("spec", kRequired, [&](Fields& spec) {
    spec.text("displayName", kOptional, {128, is_display_text, "a name for people, in one line"}, &plan->display_name);
    spec.text("family", kOptional, {63, is_dns_label, "a name of lower-case letters, digits and -"}, &plan->family);
    plan->pricing_place = spec.place("pricing");
    spec.object("pricing", kRequired, [&](Fields& pricing) { decode_pricing(pricing, &plan->pricing); });
    decode_limits(spec, plan);
    spec.texts("entitlements", kOptional, kMaxEntitlements,
               {63, is_feature_name, "a feature name of lower-case letters, digits, _ and -"}, &plan->entitlements);
  });
  if (plan->display_name.empty()) plan->display_name = plan->metadata.name;
  if (plan->family.empty()) plan->family = plan->metadata.name;
}

}  // namespace tallygate::manifest
