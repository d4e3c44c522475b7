// What is known → what an object's status says, and what people are told. Pure: the same facts give the same status, so
// that nothing is written at rest.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/tenant/model.h"
#include "operator/controller/status.h"
#include "operator/kube/events.h"
#include "operator/manifest/read.h"
#include "operator/plan/compile.h"

namespace tallygate::controller {

// One object, as far as source and publication know it.
struct View {
  int64_t generation = 0;  // of the object as the API server has it
  // The newest look's reading of this generation; null: the source has not come to it yet, and the status waits.
  const manifest::FileContent* content = nullptr;
  const manifest::Metadata* accepted = nullptr;  // the version that is accepted; null: none is
  const manifest::Metadata* in_force = nullptr;  // the version that is published; null: none is
  manifest::Faults faults;                       // of this object, its own and those between objects
  std::string lost;                              // the source is not believed: why
  std::string waits_for;                         // why publication has not come to it; empty: it is under way
};
// observedGeneration, and the conditions Accepted, Programmed, Ready. Nothing where there is no content.
std::optional<Status> judge(const View& view);

// What the ledger says of a tenant.
struct Wallet {
  std::string currency;
  Micros balance = 0, held = 0, reserved = 0, debt_limit = 0;
  bool operator==(const Wallet&) const = default;
};
struct TenantFacts {
  struct Used {
    int64_t units = 0;
    int64_t crossed_at_s = 0;  // when a soft limit was passed; 0: it was not
    bool operator==(const Used&) const = default;
  };
  std::map<std::string, Used> used;  // by bucket
  std::optional<Wallet> wallet;      // in the currency of the tenant's plan
  std::string suspended;             // by the ledger, why; empty: it is not
  int64_t dead = 0, held = 0;        // meter events that were put aside, or wait for a customer or a meter
  bool operator==(const TenantFacts&) const = default;
};
// Adds to a tenant's status what is in force and what the ledger says. `facts` null: not asked yet, nothing is added.
void add_tenant(Status& status, const tenant::Tenant& tenant, const plan::TenantBilling& billing,
                const TenantFacts* facts, bool submits, int64_t now_s);
LimitState state_of(const tenant::Limit& limit, const TenantFacts::Used& used, int64_t now_s);
// The bucket of the window that is under way, and when it ends; nothing for windows under an hour.
struct Window {
  std::string bucket;
  int64_t end_s = 0;
};
std::optional<Window> window_of(const tenant::Limit& limit, int64_t now_s);

// For people, of what has changed: a refusal, a cap's state, a suspension, a balance.
std::vector<kube::EventText> events(const Status& before, const Status& now);

}  // namespace tallygate::controller
