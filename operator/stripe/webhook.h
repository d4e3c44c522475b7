// Stripe's events as they come in: signed, of the key's mode, well-formed. What is taken goes to the ledger's inbox as it
// came, by whoever calls this (operator/api). Any thread.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "core/telemetry/metrics.h"
#include "operator/stripe/event.h"

namespace tallygate::stripe {

enum class Received : uint8_t { kAccepted, kDuplicate, kUnsigned, kWrongMode, kMalformed, kFailed };

struct WebhookRefusal {
  Received result = Received::kMalformed;
  std::string why;  // for our logs; of what is malformed for the caller too
};

class Webhook {
 public:
  // `livemode`: that of the secret key.
  Webhook(std::vector<std::string> secrets, bool livemode, metrics::Registry& registry);
  tl::expected<Event, WebhookRefusal> check(std::string_view signature, std::string_view body, int64_t now_s) const;
  void count(Received result) const { counters_[static_cast<size_t>(result)].add(); }

 private:
  const std::vector<std::string> secrets_;
  const bool livemode_;
  std::vector<metrics::Counter> counters_;
};

// Of a secret or restricted key.
inline bool is_live_key(std::string_view key) { return key.starts_with("sk_live_") || key.starts_with("rk_live_"); }

}  // namespace tallygate::stripe
