#include "operator/source/acceptance.h"

#include <algorithm>

namespace tallygate::source {
namespace {

constexpr size_t kFewTenants = 4;  // of less than that any number may go

size_t count(const manifest::Resources& r) { return r.plans.size() + r.tenants.size() + r.policies.size(); }

template <class Map>
size_t missing(const Map& before, const Map& after) {
  return static_cast<size_t>(
      std::count_if(before.begin(), before.end(), [&](const auto& entry) { return !after.contains(entry.first); }));
}

size_t missing_objects(const manifest::Resources& before, const manifest::Resources& after) {
  return missing(before.plans, after.plans) + missing(before.tenants, after.tenants) +
         missing(before.policies, after.policies);
}

}  // namespace

std::string too_much_gone(const manifest::Resources& before, const manifest::Resources& after) {
  if (count(after) == 0 && count(before) > 0) {
    return "nothing is shown any more, of " + std::to_string(count(before)) + " objects";
  }
  const size_t had = before.tenants.size(), gone = missing(before.tenants, after.tenants);
  if (had < kFewTenants || gone * 2 <= had) return "";
  return std::to_string(gone) + " of " + std::to_string(had) + " tenants are not shown any more";
}

Acceptance::Acceptance(Baseline baseline, AcceptanceOptions options)
    : adopt_cluster_(options.adopt_cluster), believe_(options.accept_removals) {
  auto accepted = std::make_shared<manifest::Accepted>();
  accepted->resources = std::move(baseline.resources);
  now_.accepted = std::move(accepted);
  now_.cluster = std::move(baseline.cluster);
}

// Empty: what the look shows can go in force.
std::string Acceptance::why_lost(const Look& look, const manifest::Resources& after) const {
  if (!look.cluster.empty() && !now_.cluster.empty() && look.cluster != now_.cluster && !adopt_cluster_) {
    return "this is cluster " + look.cluster + ", and the ledger's is " + now_.cluster +
           "; nothing is changed. Use the right ledger or kubeconfig, or, if the cluster is to take the other's place, "
           "restart with --adopt-cluster";
  }
  const auto& before = now_.accepted->resources;
  std::string why;
  if (look.blank) {
    if (missing_objects(before, {}) > 0) why = look.doubt;
  } else if (!believe_ && missing_objects(before, after) > 0) {
    why = look.doubt.empty() ? too_much_gone(before, after) : look.doubt;
  }
  if (why.empty()) return "";
  return why + "; nothing is changed. Restore what is missing, or, if it is meant, restart with --accept-removals";
}

Snapshot Acceptance::take(const Look& look) {
  const manifest::Accepted& before = *now_.accepted;
  auto accepted = std::make_shared<manifest::Accepted>(look.blank ? before : manifest::accept(before.resources, look.files));
  Snapshot next;
  next.number = now_.number + 1;
  next.trouble = look.trouble;
  next.cluster = now_.cluster;
  if (auto why = why_lost(look, accepted->resources); !why.empty()) {
    next.lost = "SourceLost: " + why;
    accepted->resources = before.resources;
  } else if (!look.blank) {
    believe_ = false;
    if (!look.cluster.empty()) next.cluster = look.cluster;
  }
  next.resources_changed = !(accepted->resources == before.resources);
  next.news = next.resources_changed || accepted->faults != before.faults || accepted->warnings != before.warnings ||
              next.lost != now_.lost || next.trouble != now_.trouble || now_.number == 0;
  next.accepted = std::move(accepted);
  return now_ = next;
}

}  // namespace tallygate::source
