// What the API knows of tenants and policies without asking the ledger: the compiled manifests, as a snapshot.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "operator/plan/compile.h"

namespace tallygate::api {

// A route rule that names a gate. The texts and values belong to the snapshot.
struct GateRoute {
  const tenant::Policy* policy = nullptr;
  const tenant::Route* route = nullptr;
};

// Immutable; any thread.
class Snapshot {
 public:
  explicit Snapshot(std::shared_ptr<const plan::Compiled> compiled);
  // Null where there is none.
  const tenant::Tenant* tenant(std::string_view id) const;
  const plan::TenantBilling* billing(std::string_view id) const;
  const std::string* tenant_of_external_id(std::string_view external_id) const;
  // Of policies whose namespace the tenant admits, in the policies' order.
  std::vector<GateRoute> gate(std::string_view name, const tenant::Tenant& tenant) const;
  bool knows_gate(std::string_view name) const;

 private:
  std::shared_ptr<const plan::Compiled> compiled_;
  std::unordered_map<std::string_view, size_t> tenants_;
  std::unordered_map<std::string_view, const std::string*> external_ids_;
  std::unordered_map<std::string_view, std::vector<GateRoute>> gates_;
};

// Holds the latest snapshot; null before the first. Any thread.
class Directory {
 public:
  void offer(std::shared_ptr<const plan::Compiled> compiled);
  std::shared_ptr<const Snapshot> snapshot() const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Snapshot> snapshot_;
};

}  // namespace tallygate::api
