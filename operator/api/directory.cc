#include "operator/api/directory.h"

#include <algorithm>

namespace tallygate::api {
namespace {

bool admits(const tenant::Tenant& tenant, std::string_view name_space) {
  if (tenant.allowed_namespaces.empty()) return namespace_of(tenant.id.str()) == name_space;
  return std::any_of(tenant.allowed_namespaces.begin(), tenant.allowed_namespaces.end(),
                     [&](const std::string& one) { return one == "*" || one == name_space; });
}

}  // namespace

Snapshot::Snapshot(std::shared_ptr<const plan::Compiled> compiled) : compiled_(std::move(compiled)) {
  for (size_t i = 0; i < compiled_->tenants.size(); ++i) tenants_.emplace(compiled_->tenants[i].id.str(), i);
  for (const auto& identity : compiled_->identities) {
    if (identity.kind == "external") external_ids_.emplace(identity.value, &identity.tenant.str());
  }
  for (const auto& policy : compiled_->policies) {
    for (const auto& route : policy.routes) {
      if (!route.gate.empty()) gates_[route.gate].push_back({&policy, &route});
    }
    if (!policy.default_route.gate.empty())
      gates_[policy.default_route.gate].push_back({&policy, &policy.default_route});
  }
}

const tenant::Tenant* Snapshot::tenant(std::string_view id) const {
  const auto found = tenants_.find(id);
  return found == tenants_.end() ? nullptr : &compiled_->tenants[found->second];
}

const plan::TenantBilling* Snapshot::billing(std::string_view id) const {
  const auto found = tenants_.find(id);
  if (found == tenants_.end() || found->second >= compiled_->billing.size()) return nullptr;
  return &compiled_->billing[found->second];
}

const std::string* Snapshot::tenant_of_external_id(std::string_view external_id) const {
  const auto found = external_ids_.find(external_id);
  return found == external_ids_.end() ? nullptr : found->second;
}

std::vector<GateRoute> Snapshot::gate(std::string_view name, const tenant::Tenant& tenant) const {
  std::vector<GateRoute> routes;
  const auto found = gates_.find(name);
  if (found == gates_.end()) return routes;
  for (const auto& one : found->second) {
    if (admits(tenant, namespace_of(one.policy->id.str()))) routes.push_back(one);
  }
  return routes;
}

bool Snapshot::knows_gate(std::string_view name) const { return gates_.contains(name); }

void Directory::offer(std::shared_ptr<const plan::Compiled> compiled) {
  auto next = std::make_shared<const Snapshot>(std::move(compiled));
  const std::lock_guard lock(mutex_);
  snapshot_ = std::move(next);
}

std::shared_ptr<const Snapshot> Directory::snapshot() const {
  const std::lock_guard lock(mutex_);
  return snapshot_;
}

}  // namespace tallygate::api
