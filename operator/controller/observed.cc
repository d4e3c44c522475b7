#include "operator/controller/observed.h"

#include <algorithm>

namespace tallygate::controller {
namespace {

constexpr size_t kConflictsShown = 16;

// Whether each pod that `b` selects is selected by `a` too.
bool covers(const manifest::BillingPolicy& a, const manifest::BillingPolicy& b) {
  return std::includes(b.match_labels.begin(), b.match_labels.end(), a.match_labels.begin(), a.match_labels.end());
}

bool is_older(const manifest::BillingPolicy& a, const manifest::BillingPolicy& b) {
  return std::tie(a.metadata.created, a.metadata.name) < std::tie(b.metadata.created, b.metadata.name);
}

}  // namespace

Observed::Index Observed::index(const manifest::Resources& resources) {
  Index index;
  for (const auto& [id, object] : resources.plans) index.emplace(manifest::key_of(object), &object.metadata);
  for (const auto& [id, object] : resources.tenants) index.emplace(manifest::key_of(object), &object.metadata);
  for (const auto& [id, object] : resources.policies) index.emplace(manifest::key_of(object), &object.metadata);
  return index;
}

Observed::Observed(source::Snapshot newest, InForce in_force) : newest_(std::move(newest)), in_force_(std::move(in_force)) {
  for (const auto& file : newest_.files) contents_.emplace(file->file, file.get());
  if (newest_.accepted) {
    for (const auto& fault : newest_.accepted->faults) faults_[fault.object].push_back(fault);
    accepted_ = index(newest_.accepted->resources);
    find_conflicts();
  }
  if (in_force_.accepted) {
    published_ = index(in_force_.accepted->resources);
    for (const auto& [id, tenant] : in_force_.accepted->resources.tenants) ++tenants_on_[tenant.plan.value.str()];
  }
  if (in_force_.compiled) {
    for (size_t i = 0; i < in_force_.compiled->tenants.size(); ++i) tenants_.emplace(in_force_.compiled->tenants[i].id.str(), i);
  }
}

View Observed::view(const std::string& key, int64_t generation) const {
  View view;
  view.generation = generation;
  view.lost = newest_.lost;
  const auto find = [&](const auto& map) {
    const auto found = map.find(key);
    return found == map.end() ? nullptr : found->second;
  };
  const auto* content = find(contents_);
  if (content != nullptr && content->generation == generation) view.content = content;
  view.accepted = find(accepted_);
  view.in_force = find(published_);
  if (const auto found = faults_.find(key); found != faults_.end()) view.faults = found->second;
  return view;
}

const size_t* Observed::tenant(const std::string& id) const {
  const auto found = tenants_.find(id);
  return found == tenants_.end() ? nullptr : &found->second;
}

int64_t Observed::tenants_on(const std::string& plan) const {
  const auto found = tenants_on_.find(plan);
  return found == tenants_on_.end() ? 0 : found->second;
}

const std::vector<std::string>& Observed::conflicts(const std::string& policy_key) const {
  static const std::vector<std::string> kNone;
  const auto found = conflicts_.find(policy_key);
  return found == conflicts_.end() ? kNone : found->second;
}

void Observed::find_conflicts() {
  std::map<std::string, std::vector<const manifest::BillingPolicy*>> spaces;
  for (const auto& [id, policy] : newest_.accepted->resources.policies) spaces[policy.metadata.name_space].push_back(&policy);
  for (auto& [name, policies] : spaces) {
    std::sort(policies.begin(), policies.end(), [](const auto* a, const auto* b) { return is_older(*a, *b); });
    for (size_t young = 1; young < policies.size(); ++young) {
      for (size_t old = 0; old < young; ++old) {
        if (!covers(*policies[old], *policies[young]) && !covers(*policies[young], *policies[old])) continue;
        auto& names = conflicts_[manifest::key_of(*policies[young])];
        if (names.size() < kConflictsShown) names.push_back(policies[old]->metadata.name);
      }
    }
  }
}

}  // namespace tallygate::controller
