// What the API did, where the route and the status of its answers do not tell: ledger leases by what they were
// answered, quotes, corrections of usage. Any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/telemetry/metrics.h"

namespace tallygate::api {

class OperationMetrics {
 public:
  explicit OperationMetrics(metrics::Registry& registry);

  // By the ledger's status, e.g. "GRANT".
  void leased(std::string_view status, int64_t units) const;
  // By the ledger's status, e.g. "duplicate".
  void corrected(std::string_view status) const;

  metrics::Counter quotes_made, quotes_used;  // repetitions count once

 private:
  using ByStatus = std::map<std::string, metrics::Counter, std::less<>>;
  static void count(const ByStatus& counters, std::string_view status);
  ByStatus leases_, corrections_;
  metrics::Counter leased_units_;
};

}  // namespace tallygate::api
