// What one tenant pays on one route just now: cached, so that a request neither looks up nor allocates.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "sidecar/admission/amounts.h"
#include "sidecar/admission/directory.h"
#include "sidecar/admission/reason.h"
#include "sidecar/escrow/escrow.h"
#include "sidecar/log/usage_log.h"

namespace tallygate::sidecar {

struct PlanItem {  // one charge against one bucket
  size_t charge = 0;
  Purse* purse = nullptr;
  bool wallet = false;
  bool soft = false;
  bool grace = false;  // soft, with a grace that ends
  std::string limit;   // the limit's name; for a wallet "wallet"
  std::string meter;
  int64_t amount = 0;  // the limit as people know it
  int64_t capacity = 0;
  int64_t end_s = 0;
};

// How much requests came to of late, to hold as much for the next: by quarters of powers of two, the newest few hundred.
class Recent {
 public:
  void add(int64_t units);
  // As many as nineteen of twenty requests did not pass; 0: nothing is known.
  int64_t nineteen_of_twenty() const;

 private:
  static constexpr size_t kQuarters = 4 * 54;
  std::array<uint16_t, kQuarters> counts_{};
  uint32_t total_ = 0;
};

struct Plan {
  TenantEntry* tenant = nullptr;
  size_t route = 0;
  // Void as soon as one of these is no longer so.
  uint64_t tenant_serial = 0, policy_serial = 0;
  int64_t epoch = 0;
  int64_t valid_from_s = 0, valid_until_s = 0;  // where all its windows are the ones that are now

  std::vector<int64_t> units;  // per charge
  std::vector<PlanItem> items;
  uint32_t definition = 0;  // under `epoch`
  bool has_allow_definition = false;
  uint32_t allow_definition = 0;  // under no epoch: admitted without a lease
  std::string policy_header;      // "RateLimit-Policy: …\r\n"; empty where there is no limit
  bool charge_on_success = true;
  // Where an amount comes from somewhere; else null and empty.
  std::shared_ptr<const RouteAmounts> amounts;
  std::array<bool, kMaxCharges> capped{};  // by charge: it spends from a hard cap or a wallet
  std::vector<Recent> recent;              // by charge
  std::unique_ptr<Definition> without_lease;
  tenant::OnUnavailable on_unavailable_quota{}, on_unavailable_wallet{};
  int64_t in_flight = 0;
  bool retired = false;
};

// The reason is kAdmitted, or why there is none.
struct PlanResult {
  Reason reason = Reason::kAdmitted;
  std::string detail;
  std::unique_ptr<Plan> plan;
};

// `now_s`: Unix time. May log a definition (one write).
PlanResult build_plan(const tenant::Route& route, std::shared_ptr<const RouteAmounts> amounts, TenantEntry& tenant,
                      Escrow& escrow, UsageLog& log, int64_t now_s);

// The definition of a plan under an epoch, 0 for none.
Definition definition_of(const tenant::Route& route, const Plan& plan, int64_t epoch);

}  // namespace tallygate::sidecar
