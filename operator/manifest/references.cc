#include "operator/manifest/references.h"

#include <set>

#include "operator/manifest/read.h"

namespace tallygate::manifest {
namespace {

class Checker {
 public:
  Checker(const Resources& resources, const Resources& previous) : now_(resources), previous_(previous) {
    for (const auto& [name, plan] : now_.plans) {
      for (const MeterSpec& meter : plan.pricing.meters) meters_.insert(meter.name);
    }
  }

  std::map<std::string, Faults> run() {
    check_default_plan();
    for (const auto& [id, tenant] : now_.tenants) check_tenant(tenant);
    check_identities();
    for (const auto& [id, policy] : now_.policies) check_policy(policy);
    return std::move(faults_);
  }

 private:
  void fault(const std::string& key, const Place& place, std::string field, Reason reason, std::string message,
             std::string fix) {
    faults_[key].push_back({place.file, place.line, key, std::move(field), reason, std::move(message), std::move(fix)});
  }

  void check_default_plan() {
    const BillingPlan* holder = nullptr;
    const auto was_default = [&](const PlanName& name) {
      const auto found = previous_.plans.find(name);
      return found != previous_.plans.end() && found->second.is_default;
    };
    for (const auto& [name, plan] : now_.plans) {
      if (plan.is_default && (holder == nullptr || (was_default(name) && !was_default(holder->name)))) holder = &plan;
    }
    for (const auto& [name, plan] : now_.plans) {
      if (!plan.is_default || &plan == holder) continue;
      fault(key_of(plan), plan.metadata.place, "metadata.annotations", Reason::kConflict,
            "plan " + holder->name.str() + " is the default plan already",
            std::string("remove ") + kDefaultPlanAnnotation + " from one of the two");
    }
  }

  void check_tenant(const BillingTenant& t) {
    const std::string key = key_of(t);
    const auto plan = now_.plans.find(t.plan.value);
    if (plan == now_.plans.end()) {
      std::vector<std::string_view> names;
      for (const auto& [name, unused] : now_.plans) names.push_back(name.str());
      const auto meant = did_you_mean(t.plan.value.str(), names);
      fault(key, t.plan.place, "spec.planRef.name", Reason::kNotFound,
            "there is no accepted BillingPlan " + t.plan.value.str(),
            meant.empty() ? "add the plan, or name another" : "did you mean " + std::string(meant) + "?");
      return;
    }
    const BillingPlan& p = plan->second;
    if (t.wallet && t.wallet->currency.value != p.pricing.currency) {
      fault(key, t.wallet->currency.place, "spec.wallet.currency", Reason::kConflict,
            "the wallet is in " + t.wallet->currency.value + ", plan " + p.name.str() + " in " + p.pricing.currency,
            "use " + p.pricing.currency);
    }
    for (size_t i = 0; i < t.limit_overrides.size(); ++i) check_override(t, key, p, i);
  }

  void check_override(const BillingTenant& t, const std::string& key, const BillingPlan& plan, size_t i) {
    const auto& name = t.limit_overrides[i].name;
    std::vector<std::string_view> names;
    for (const LimitSpec& limit : plan.limits) {
      if (limit.name == name.value) {
        if (t.limit_overrides[i].burst && limit.cap == tenant::Cap::kHard) {
          fault(key, name.place, "spec.limitOverrides[" + std::to_string(i) + "].burst", Reason::kConflict,
                "limit " + name.value.str() + " of plan " + plan.name.str() +
                    " is a hard cap, which has no burst in this version",
                "remove burst");
        }
        return;
      }
      names.push_back(limit.name.str());
    }
    const auto meant = did_you_mean(name.value.str(), names);
    fault(key, name.place, "spec.limitOverrides[" + std::to_string(i) + "].name", Reason::kNotFound,
          "plan " + plan.name.str() + " has no limit " + name.value.str(),
          meant.empty() ? "name a limit of the plan, or remove the override"
                        : "did you mean " + std::string(meant) + "?");
  }

  // Identities in the order of who comes first: tenants that held them before, then by name.
  void check_identities() {
    std::set<std::pair<std::string, std::string>> held;  // of previous: (identity, tenant)
    for (const auto& [id, tenant] : previous_.tenants) {
      for_each_identity(tenant, [&](const std::string& identity, const Place&, const std::string&, const std::string&) {
        held.emplace(identity, id.str());
      });
    }
    std::map<std::string, std::string> owner;  // identity → tenant
    for (const bool holders : {true, false}) {
      for (const auto& [id, tenant] : now_.tenants) {
        for_each_identity(tenant, [&](const std::string& identity, const Place& place, const std::string& field,
                                      const std::string& shown) {
          if ((held.count({identity, id.str()}) != 0) != holders) return;
          const auto [first, inserted] = owner.emplace(identity, id.str());
          if (inserted || first->second == id.str()) return;
          // Who may read one tenant's status may not read of others in foreign namespaces.
          const bool foreign = !first->second.starts_with(tenant.metadata.name_space + "/");
          fault(key_of(tenant), place, field, Reason::kConflict,
                foreign ? shown + " is claimed by a tenant of another namespace, who had it first"
                        : shown + " is claimed by tenant " + first->second + " and by tenant " + id.str(),
                "remove it from one of the two: an identity means one tenant in the whole cluster");
        });
      }
    }
  }

  template <class Fn>
  static void for_each_identity(const BillingTenant& t, Fn fn) {
    const auto each = [&](const char* member, const char* kind, const std::vector<Marked<std::string>>& list) {
      for (size_t i = 0; i < list.size(); ++i) {
        fn(std::string(kind) + ":" + list[i].value, list[i].place,
           std::string("spec.identity.") + member + "[" + std::to_string(i) + "]",
           std::string(kind) + " \"" + list[i].value.substr(0, 80) + "\"");
      }
    };
    each("externalIDs", "external ID", t.identity.external_ids);
    each("hosts", "host", t.identity.hosts);
    each("apiKeyHashes", "API key hash", t.identity.api_key_hashes);
  }

  void check_policy(const BillingPolicy& p) {
    for (size_t i = 0; i < p.routes.size(); ++i) check_route(p, p.routes[i], "spec.routes[" + std::to_string(i) + "]");
    check_route(p, p.default_route, "spec.defaultRoute");
  }

  void check_route(const BillingPolicy& p, const RouteSpec& route, const std::string& path) {
    for (size_t i = 0; i < route.charges.size(); ++i) {
      const auto& meter = route.charges[i].meter;
      if (meters_.count(meter.value) != 0) continue;
      std::vector<std::string_view> names;
      for (const MeterName& name : meters_) names.push_back(name.str());
      const auto meant = did_you_mean(meter.value.str(), names);
      fault(key_of(p), meter.place, path + ".charges[" + std::to_string(i) + "].meter", Reason::kNotFound,
            "no accepted plan has a meter " + meter.value.str(),
            meant.empty() ? "add the meter to a plan, or name another" : "did you mean " + std::string(meant) + "?");
    }
  }

  const Resources& now_;
  const Resources& previous_;
  std::set<MeterName> meters_;
  std::map<std::string, Faults> faults_;
};

// The first field of pricing in which two versions differ.
std::string first_difference(const Pricing& a, const Pricing& b) {
  const std::string path = "spec.pricing";
  if (a.currency != b.currency) return path + ".currency";
  if (a.base_price != b.base_price) return path + ".basePrice";
  if (a.annual_discount_percent != b.annual_discount_percent) return path + ".annualDiscountPercent";
  for (size_t i = 0; i < std::min(a.meters.size(), b.meters.size()); ++i) {
    if (!(a.meters[i] == b.meters[i])) return path + ".meters[" + std::to_string(i) + "]";
  }
  return path + ".meters";
}

}  // namespace

std::map<std::string, Faults> check_references(const Resources& resources, const Resources& previous) {
  return Checker(resources, previous).run();
}

bool check_immutable(const BillingPlan& plan, const Resources& previous, Faults* faults) {
  const auto before = previous.plans.find(plan.name);
  if (before == previous.plans.end() || before->second.pricing == plan.pricing) return true;
  faults->push_back({plan.pricing_place.file, plan.pricing_place.line, key_of(plan),
                     first_difference(before->second.pricing, plan.pricing), Reason::kImmutable,
                     "the prices of an accepted plan never change; the last accepted ones stay in force",
                     "undo the change, and add a new plan of the family " + plan.family + " for the new prices"});
  return false;
}

}  // namespace tallygate::manifest
