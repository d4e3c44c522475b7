// What the controller looks at, indexed: the newest snapshot of the source, and the one that is in force. Values that
// share what they refer to; made anew when either changes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "operator/controller/reconcile.h"
#include "operator/source/acceptance.h"

namespace tallygate::controller {

struct InForce {
  std::shared_ptr<const manifest::Accepted> accepted;  // null: nothing is published by this process yet
  std::shared_ptr<const plan::Compiled> compiled;
  bool operator==(const InForce&) const = default;
};

class Observed {
 public:
  Observed() = default;
  Observed(source::Snapshot newest, InForce in_force);

  const source::Snapshot& newest() const { return newest_; }
  const InForce& in_force() const { return in_force_; }
  // By manifest::object_key().
  View view(const std::string& key, int64_t generation) const;
  // A tenant's place in in_force().compiled, or nothing.
  const size_t* tenant(const std::string& id) const;
  int64_t tenants_on(const std::string& plan) const;
  // Older policies of the namespace whose selector surely selects some of the same pods.
  const std::vector<std::string>& conflicts(const std::string& policy_key) const;

 private:
  using Index = std::map<std::string, const manifest::Metadata*>;
  static Index index(const manifest::Resources& resources);
  void find_conflicts();

  source::Snapshot newest_;
  InForce in_force_;
  std::map<std::string, const manifest::FileContent*> contents_;
  std::map<std::string, manifest::Faults> faults_;
  Index accepted_, published_;
  std::map<std::string, size_t> tenants_;
  std::map<std::string, int64_t> tenants_on_;
  std::map<std::string, std::vector<std::string>> conflicts_;
};

}  // namespace tallygate::controller
