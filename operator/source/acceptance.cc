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

std::set<std::string> missing_objects(const manifest::Resources& before, const manifest::Resources& after) {
  std::set<std::string> keys;
  const auto add = [&](const auto& had, const auto& has) {
    for (const auto& [id, object] : had) {
      if (!has.contains(id)) keys.insert(manifest::key_of(object));
    }
  };
  add(before.plans, after.plans);
  add(before.tenants, after.tenants);
  add(before.policies, after.policies);
  return keys;
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
std::string Acceptance::why_lost(const Look& look, const manifest::Resources& after) {
  if (!look.cluster.empty() && !now_.cluster.empty() && look.cluster != now_.cluster && !adopt_cluster_) {
    return "this is cluster " + look.cluster + ", and the ledger's is " + now_.cluster +
           "; nothing is changed. Use the right ledger or kubeconfig, or, if the cluster is to take the other's place, "
           "restart with --adopt-cluster";
  }
  const auto& before = now_.accepted->resources;
  const auto gone = missing_objects(before, look.blank ? manifest::Resources{} : after);
  std::erase_if(wiped_, [&](const auto& key) { return !gone.contains(key); });
  if (gone.empty() || (believe_ && !look.blank)) return "";
  if (look.wiped) wiped_ = gone;
  std::string why = look.doubt;
  if (why.empty() && !look.blank) {
    why = too_much_gone(before, after);
    if (!wiped_.empty()) why = std::to_string(wiped_.size()) + " objects went with their CustomResourceDefinition and are not back";
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
  next.files = look.files;
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
