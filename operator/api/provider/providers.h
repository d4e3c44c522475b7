// Which providers may send events, and on which terms: read from a file of JSON, and again when it or a secret changes.
//
//   {"providers": [{
//     "name": "voice",                                    a DNS label: POST /v1/providers/voice/events
//     "adapter": "vapi",                                  standard, vapi or twilio
//     "secrets": [{"env": "VAPI_SECRET"}, {"file": "/etc/tallygate/vapi-previous"}],
//     "tenants": ["*"],                                   whom it may report for; "*": all
//     "tenantPointer": "/message/call/metadata/tenant",   where a payload says the tenant's external ID; not needed
//                                                         where tenants is one tenant
//     "currency": "USD",                                  of its costs
//     "rates": {"GBP": "0.79"},                           1 of it in other wallets' currencies
//     "markup": "1.20",                                   what tenants pay, times the cost
//     "reserve": {"amount": "2.00", "ttlSeconds": 3600},  per call; as a cost: times rate and markup
//     "ignore": ["unknown-type"],                         also unknown-tenant, unknown-hold
//     "options": {"assistantId": "…"}                     the adapter's own
//   }]}
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/options.h"
#include "core/telemetry/metrics.h"
#include "operator/api/principal.h"
#include "operator/api/provider/adapter.h"

namespace tallygate::api {

// What became of a request, for the metric's label.
enum class EventResult : uint8_t {
  kUnauthenticated,
  kRateLimited,
  kMalformed,
  kUnknownTenant,
  kReserved,
  kRefused,
  kContinue,
  kEndCall,
  kSettled,
  kDuplicate,
  kMismatch,
  kUnpaid,
  kIgnored,
  kFailed
};
inline constexpr size_t kEventResults = 14;
std::string_view to_string(EventResult result);

struct Provider {
  std::string name;
  std::unique_ptr<const ProviderAdapter> adapter;
  Principal principal;         // actor and tenants
  std::string tenant_pointer;  // "": the one tenant
  std::string currency;
  std::map<std::string, Decimal> rates;  // by the wallet's currency; its own is among them
  Decimal markup;
  Decimal reserve_amount;  // in its currency
  int64_t reserve_ttl_s = 0;
  bool ignores_unknown_types = false, ignores_unknown_tenants = false, ignores_unknown_holds = false;
  std::array<metrics::Counter, kEventResults> counters;

  void count(EventResult result) const { counters[static_cast<size_t>(result)].add(); }
};

// Immutable once counted; any thread.
class Providers {
 public:
  // All faults, each with its place and what to do. `files` gets the paths of the secrets that are named, also where
  // something is wrong.
  static tl::expected<Providers, std::vector<std::string>> parse(std::string_view json,
                                                                 const config::Environment& environment,
                                                                 std::vector<std::string>* files = nullptr);
  const Provider* find(std::string_view name) const;
  bool empty() const { return by_name_.empty(); }
  // Events are counted there from now on.
  void count_in(metrics::Registry& registry);

 private:
  std::map<std::string, Provider, std::less<>> by_name_;
};

}  // namespace tallygate::api
