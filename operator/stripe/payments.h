// What the API needs of Stripe, as one.
#pragma once

#include "core/env.h"
#include "operator/stripe/checkout.h"
#include "operator/stripe/settings.h"
#include "operator/stripe/webhook.h"

namespace tallygate::stripe {

struct Payments {
  // `client` outlives it.
  Payments(const PaymentSettings& chosen, bool livemode, Client& client, metrics::Registry& registry)
      : settings(chosen), webhook(chosen.webhook_secrets, livemode, registry), checkout(client) {}
  const PaymentSettings settings;
  const Webhook webhook;
  Checkout checkout;
};

}  // namespace tallygate::stripe
