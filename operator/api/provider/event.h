// What a provider can tell, whatever its words for it; and what became of it here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "core/money.h"
#include "operator/api/provider/decimal.h"

namespace tallygate::api {

// A cost in the provider's words. No amount: it did not say. No currency: the one that the settings name.
struct ProviderCost {
  std::optional<Decimal> amount;
  std::string currency;
};

struct CallStarting {
  std::string call_id;
  std::optional<int64_t> started_ns;
};
struct StatusCheck {
  std::string call_id;
};
struct CallEnded {
  std::string call_id;
  ProviderCost cost;
  std::optional<int64_t> started_ns, ended_ns;
};
struct MessageStatus {
  std::string message_id;
  bool delivered = false;  // or on its way for good; else it never will be
  ProviderCost price;      // no amount: what is on hold
};
struct Ignored {
  std::string what;   // the provider's name for it
  bool known = true;  // means nothing for billing; else: nobody here knows
};
using ProviderEvent = std::variant<CallStarting, StatusCheck, CallEnded, MessageStatus, Ignored>;

// An event and whose it is.
struct Reading {
  ProviderEvent event;
  std::string external_id;  // at the settings' pointer; "" where there is none
};

// Reasons are the ledger's (operator/api/SQL.md), and UnknownTenant, NoRate, NoCost.
struct Outcome {
  enum class Kind : uint8_t {
    kReserved,  // the call may start
    kRefused,   // it may not
    kStatus,    // `end_call` says whether the call must end
    kSettled,   // charged, or a message's hold freed
    kUnpaid,    // it took place and could not be charged: recorded
    kIgnored
  };
  Kind kind = Kind::kIgnored;
  std::string reason = {};  // "" where all is well
  bool end_call = false;
  bool duplicate = false;
  std::string currency = {};  // the wallet's; "" where no wallet is known
  Micros amount = 0;          // on hold, or charged; 0 where neither
  Micros effective = 0;       // what the wallet can still spend, the call's own hold apart
};

}  // namespace tallygate::api
