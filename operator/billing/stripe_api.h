// One call of Stripe's Meter Events API over the outbound HTTP port.
// https://docs.stripe.com/api/billing/meter-event/create
#pragma once

#include <cstdint>
#include <string>

#include "operator/billing/submitter.h"

namespace tallygate {
class HttpClient;
}

namespace tallygate::billing {

struct StripeOptions {
  std::string api_base;  // "https://api.stripe.com", without a slash at the end
  std::string api_key;   // never logged
  std::string api_version;
  int64_t timeout_ms = 10'000;  // of one call
};

// `client` outlives the answer, which any number of threads may call.
SendEvent stripe_sender(HttpClient& client, StripeOptions options);

}  // namespace tallygate::billing
