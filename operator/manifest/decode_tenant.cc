#include "operator/manifest/decode.h"
#include "operator/manifest/formats.h"

namespace tallygate::manifest {
namespace {

using tenant::Enforcement;
using tenant::OnUnavailable;

constexpr size_t kMaxIdentities = 64;
constexpr size_t kMaxOverrides = 64;
constexpr size_t kMaxThresholds = 8;
constexpr int64_t kHourMs = 3'600'000;

constexpr Choice<PlanChangeTime> kPlanChangeTimes[] = {{"NextPeriod", PlanChangeTime::kNextPeriod},
                                                       {"Immediate", PlanChangeTime::kImmediate}};
constexpr Choice<Proration> kProrations[] = {{"None", Proration::kNone}, {"Prorate", Proration::kProrate}};
constexpr Choice<Enforcement> kEnforcements[] = {{"Enforce", Enforcement::kEnforce}, {"Shadow", Enforcement::kShadow}};
constexpr Choice<Interval> kIntervals[] = {{"Month", Interval::kMonth}, {"Year", Interval::kYear}};
constexpr Choice<PastDueAction> kPastDueActions[] = {{"Suspend", PastDueAction::kSuspend},
                                                     {"Warn", PastDueAction::kWarn}};
constexpr Choice<DeletionPolicy> kDeletionPolicies[] = {{"CancelAtPeriodEnd", DeletionPolicy::kCancelAtPeriodEnd},
                                                        {"CancelNow", DeletionPolicy::kCancelNow}};
constexpr Choice<AllowedNamespaces> kAllowedNamespaces[] = {
    {"Same", AllowedNamespaces::kSame}, {"All", AllowedNamespaces::kAll}, {"Selector", AllowedNamespaces::kSelector}};
constexpr Choice<OnUnavailable> kOnUnavailable[] = {{"Allow", OnUnavailable::kAllow}, {"Deny", OnUnavailable::kDeny}};
constexpr Form kName = {253, is_dns_subdomain, "a name of lower-case letters, digits, - and ."};

void decode_allowed_namespaces(Fields& f, BillingTenant* tenant) {
  const bool known = f.choice("from", kRequired, kAllowedNamespaces, &tenant->allowed_namespaces);
  const bool by_selector = tenant->allowed_namespaces == AllowedNamespaces::kSelector;
  f.object("selector", by_selector ? kRequired : kOptional, [&](Fields& selector) {
    auto& labels = tenant->allowed_namespace_labels;
    const size_t before = f.sink().faults->size();
    selector.string_map("matchLabels", kRequired, 16, 63, is_label_value, &labels);
    if (labels.empty() && f.sink().faults->size() == before) {
      selector.fault("matchLabels", Reason::kRequired, "is empty", "add a label, or use from: All");
    }
  });
  if (known && !by_selector && f.has("selector")) {
    f.fault("selector", Reason::kConflict, "belongs to from: Selector", "remove it, or use from: Selector");
  }
  if (by_selector) f.not_in_force("from", "from: Selector (it acts as Same)");
}

void decode_past_due(Fields& f, PastDue* past_due) {
  f.choice("action", kRequired, kPastDueActions, &past_due->action);
  f.duration_ms("after", kOptional, 0, 90 * 24 * kHourMs, &past_due->after_ms);
}

void decode_billing(Fields& f, BillingSpec* billing) {
  f.text("email", kOptional, {254, is_email, "an address such as billing@acme.example"}, &billing->email);
  f.choice("interval", kOptional, kIntervals, &billing->interval);
  std::string anchor;
  if (f.text("anchorTime", kOptional, {32, nullptr, "a time such as \"2026-01-15T00:00:00Z\""}, &anchor)) {
    const auto seconds = parse_rfc3339(anchor);
    if (!seconds) {
      f.invalid("anchorTime", seconds.error().message, "write a time such as \"2026-01-15T00:00:00Z\"");
    } else if (*seconds < 0 || *seconds >= 4'102'444'800) {
      f.fault("anchorTime", Reason::kOutOfRange, "is out of range", "use a time from 1970 to 2099");
    } else {
      billing->anchor_s = *seconds;
    }
  }
  f.text("timeZone", kOptional, {64, is_time_zone, "an IANA time zone known to this system, such as Europe/London"},
         &billing->time_zone);
  f.object("stripe", kOptional, [&](Fields& stripe) {
    stripe.text("customerID", kOptional, {255, is_stripe_customer, "a Stripe customer, such as cus_example"},
                &billing->stripe_customer_id);
  });
  if (f.object("pastDue", kOptional, [&](Fields& due) { decode_past_due(due, &billing->past_due.emplace()); })) {
    f.not_in_force("pastDue", "pastDue");
  }
  f.choice("deletionPolicy", kOptional, kDeletionPolicies, &billing->deletion_policy);
}

// A list of texts that keeps the line of each.
void marked_texts(Fields& f, std::string_view key, const Form& form, std::string (*canonical)(std::string_view),
                  std::vector<Marked<std::string>>* out) {
  std::vector<std::string> texts;
  const size_t before = f.sink().faults->size();
  f.texts(key, kOptional, kMaxIdentities, form, &texts);
  if (f.sink().faults->size() != before) return;  // lines could not be matched, and the object is refused anyway
  const Node* node = f.get(key, kOptional);
  for (size_t i = 0; i < texts.size(); ++i) {
    out->push_back({canonical(texts[i]), {f.sink().file, node->items[i].line}});
  }
}

void decode_identity(Fields& f, TenantIdentity* identity) {
  const auto same = [](std::string_view text) { return std::string(text); };
  marked_texts(f, "externalIDs", {256, is_printable_ascii, "printable ASCII without blanks at the ends"}, same,
               &identity->external_ids);
  marked_texts(f, "hosts", {253, is_host, "a host name without a port, such as acme.example.com"}, to_lower,
               &identity->hosts);
  if (!identity->hosts.empty()) f.not_in_force("hosts", "identity by host name");
  f.list("apiKeySecretRefs", kOptional, kMaxIdentities, [&](const Node& item, const std::string& path) {
    Fields ref(f.sink(), item, path);
    ref.text("name", kRequired, kName, &identity->api_key_secret_refs.emplace_back());
    ref.finish();
  });
  if (!identity->api_key_secret_refs.empty()) {
    // The source has taken those out that it knows.
    f.not_in_force("apiKeySecretRefs", "a Secret that is not there, or whose namespace --secret-namespaces does not list,");
  }
  marked_texts(
      f, "apiKeyHashes",
      {71, is_api_key_hash,
       "sha256: and 64 lower-case hexadecimal digits: the key's SHA-256 (printf %s KEY | sha256sum), never the key",
       true},
      [](std::string_view text) { return std::string(text.substr(7)); }, &identity->api_key_hashes);
}

void decode_overrides(Fields& spec, std::vector<LimitOverride>* overrides) {
  Names names;
  spec.list("limitOverrides", kOptional, kMaxOverrides, [&](const Node& item, const std::string& path) {
    Fields f(spec.sink(), item, path);
    LimitOverride& o = overrides->emplace_back();
    if (f.id("name", kRequired, "the name of a limit of the plan", &o.name.value)) {
      o.name.place = f.place("name");
      names.add(spec.sink(), o.name.value.str(), f.line("name"), f.path("name"));
    }
    f.integer("amount", kRequired, 0, kMaxInteger, &o.amount);
    int64_t burst = 0;
    if (f.integer("burst", kOptional, 1, kMaxInteger, &burst)) {
      o.burst = burst;
      if (burst < o.amount) {
        f.fault("burst", Reason::kOutOfRange, "is less than amount", "use at least " + std::to_string(o.amount));
      }
      f.not_in_force("burst", "burst");
    }
    f.finish();
  });
}

void decode_auto_recharge(Fields& f, const std::string& currency, AutoRecharge* recharge) {
  f.money("threshold", kRequired, currency, &recharge->threshold);
  if (f.money("amount", kRequired, currency, &recharge->amount) && recharge->amount == 0) {
    f.fault("amount", Reason::kOutOfRange, "tops up by nothing", "use more than 0");
  }
  f.integer("maxPerDay", kOptional, 1, 100, &recharge->max_per_day);
}

void decode_wallet(Fields& f, WalletSpec* wallet) {
  f.text("currency", kRequired, {3, is_currency, "an ISO 4217 currency, such as GBP"}, &wallet->currency.value);
  wallet->currency.place = f.place("currency");
  const std::string currency = is_currency(wallet->currency.value) ? wallet->currency.value : "";
  f.money("debtLimit", kOptional, currency, &wallet->debt_limit);
  f.moneys("alertThresholds", kOptional, kMaxThresholds, currency, &wallet->alert_thresholds);
  if (!wallet->alert_thresholds.empty()) f.not_in_force("alertThresholds", "alertThresholds");
  if (f.object("autoRecharge", kOptional,
               [&](Fields& r) { decode_auto_recharge(r, currency, &wallet->auto_recharge.emplace()); })) {
    f.not_in_force("autoRecharge", "autoRecharge");
  }
}

void decode_unavailable(Fields& f, UnavailableSpec* spec) {
  f.choice("quota", kOptional, kOnUnavailable, &spec->quota);
  f.choice("wallet", kOptional, kOnUnavailable, &spec->wallet);
  const bool allows = spec->quota == OnUnavailable::kAllow || spec->wallet == OnUnavailable::kAllow;
  f.integer("allowancePerPod", kOptional, 0, kMaxInteger, &spec->allowance_per_pod);
  if (allows && !f.has("allowancePerPod")) {
    f.fault("allowancePerPod", Reason::kRequired, "Allow is an exception to the cap, and has to be bounded",
            "add allowancePerPod: the units a pod may admit on its own in a window");
  }
  f.duration_ms("staleAfter", kOptional, 1'000, 24 * kHourMs, &spec->stale_after_ms);
}

}  // namespace

void decode_tenant(Fields& root, Metadata metadata, BillingTenant* tenant) {
  tenant->metadata = std::move(metadata);
  if (auto id = TenantId::parse(tenant->metadata.name_space + "/" + tenant->metadata.name)) tenant->id = std::move(*id);
  root.object("spec", kRequired, [&](Fields& spec) {
    spec.text("displayName", kOptional, {128, is_display_text, "a name for people, in one line"},
              &tenant->display_name);
    spec.object("planRef", kRequired, [&](Fields& ref) {
      ref.id("name", kRequired, "the name of a BillingPlan", &tenant->plan.value);
      tenant->plan.place = ref.place("name");
    });
    if (spec.object("planChange", kOptional, [&](Fields& f) {
          PlanChange& change = tenant->plan_change.emplace();
          f.choice("effective", kOptional, kPlanChangeTimes, &change.effective);
          f.choice("proration", kOptional, kProrations, &change.proration);
        })) {
      spec.not_in_force("planChange", "planChange (a changed planRef is in force at once)");
    }
    spec.choice("enforcement", kOptional, kEnforcements, &tenant->enforcement);
    spec.flag("suspend", kOptional, &tenant->suspend);
    spec.object("allowedNamespaces", kOptional,
                [&](Fields& f) { decode_allowed_namespaces(f, tenant); });
    spec.object("billing", kOptional, [&](Fields& f) { decode_billing(f, &tenant->billing); });
    spec.object("identity", kOptional, [&](Fields& f) { decode_identity(f, &tenant->identity); });
    decode_overrides(spec, &tenant->limit_overrides);
    spec.object("wallet", kOptional, [&](Fields& f) { decode_wallet(f, &tenant->wallet.emplace()); });
    spec.object("onUnavailable", kOptional, [&](Fields& f) { decode_unavailable(f, &tenant->on_unavailable); });
  });
  if (tenant->display_name.empty()) tenant->display_name = tenant->metadata.name;
}

}  // namespace tallygate::manifest
