#include "operator/api/operation_metrics.h"

namespace tallygate::api {
namespace {

// The ledger's statuses (migration 0031), and the labels' values.
constexpr std::pair<const char*, const char*> kLeaseAnswers[] = {{"GRANT", "grant"},        {"DRY", "dry"},
                                                                 {"WAIT", "wait"},          {"EPOCH", "epoch"},
                                                                 {"REG", "not_registered"}, {"SUSPENDED", "suspended"},
                                                                 {"NONE", "unknown_tenant"}};

}  // namespace

OperationMetrics::OperationMetrics(metrics::Registry& registry)
    : quotes_made(registry.counter("tallygate_operator_quotes_made_total", "Quotes of exchange rates that were made.")),
      quotes_used(registry.counter("tallygate_operator_quotes_used_total",
                                   "Purchases, holds and commits whose amount a quote converted.")),
      leased_units_(registry.counter("tallygate_operator_ledger_leased_units_total",
                                     "Units lent to sidecars by the ledger, while Redis was away.")) {
  for (const auto& [status, answer] : kLeaseAnswers) {
    leases_[status] = registry.counter("tallygate_operator_ledger_leases_total",
                                       "Sidecars' lease calls to the ledger, by answer.", {{"answer", answer}});
  }
  for (const char* status : {"new", "duplicate", "mismatch", "unknown", "too_old", "settled_otherwise"}) {
    corrections_[status] = registry.counter("tallygate_operator_usage_corrections_total",
                                            "Corrections of reported usage, by result.", {{"result", status}});
  }
}

void OperationMetrics::count(const ByStatus& counters, std::string_view status) {
  if (const auto found = counters.find(status); found != counters.end()) found->second.add();
}

void OperationMetrics::leased(std::string_view status, int64_t units) const {
  count(leases_, status);
  leased_units_.add(static_cast<double>(units));
}

void OperationMetrics::corrected(std::string_view status) const { count(corrections_, status); }

}  // namespace tallygate::api
