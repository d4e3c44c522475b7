// Settings of the money that comes in by Stripe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/options.h"
#include "core/money.h"

namespace tallygate::stripe {

struct PaymentSettings {
  std::vector<std::string> webhook_secrets;  // never shown
  int64_t webhook_workers = 5;
  bool suspend_on_dispute = true;
  int64_t sweep_interval_ms = 120'000;
  std::vector<std::string> url_hosts;  // lower case: where customers come back to
  int64_t topups_per_day = 20;         // of a tenant
  Micros first_day_max = 1'000 * kMicrosPerUnit;  // until a day after its first payment, in the currency that it pays in
};

// `settings` outlives the parse.
void declare_payments(config::OptionSet& options, PaymentSettings& settings);

}  // namespace tallygate::stripe
