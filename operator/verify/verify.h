// Checks a deployment: PostgreSQL's schema and contents, Redis, Stripe. Changes nothing but Redis's cache of scripts.
// Blocks; one thread.
#pragma once

#include <optional>
#include <string>

#include "operator/verify/checks.h"

namespace tallygate::verify {

struct Deployment {
  std::string database_url;
  redis::Endpoint redis;
  std::optional<billing::StripeOptions> stripe;  // nothing: usage is not submitted
  int64_t settle_ms = 2000;                      // given to an operator that is changing Redis just now
};

Report verify(Env& env, const Deployment& deployment, HttpClient& http);

}  // namespace tallygate::verify
