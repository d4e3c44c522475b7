// Stripe's webhook: what is signed is kept in the ledger's inbox and answered at once; what it does is done later, by the
// workers of operator/stripe. Nothing of the API's other rules is in its way: no token, no tenant, no manifests, no rate.
#include "core/telemetry/log.h"
#include "operator/api/call.h"
#include "operator/stripe/payments.h"

namespace tallygate::api {
namespace {

using stripe::Received;

http::Response refused(const Call& call, const stripe::WebhookRefusal& refusal) {
  call.services.payments->webhook.count(refusal.result);
  static log::Throttle throttle(10);
  log::warn(throttle, "an event of Stripe is refused",
            {{"request_id", call.request_id}, {"peer", call.request.peer}, {"error", refusal.why}});
  if (refusal.result == Received::kUnsigned) {
    return http::problem_response({400, "InvalidSignature", "Stripe-Signature does not prove this body.", "", {}});
  }
  if (refusal.result == Received::kWrongMode) {
    return http::problem_response({400, "WrongMode", "This is " + refusal.why + ".", "", {}});
  }
  return http::problem_response({400, "MalformedBody", "This is no event of Stripe: " + refusal.why + ".", "", {}});
}

}  // namespace

http::Response receive_stripe_event(Call& call) {
  if (call.services.payments == nullptr) return http::problem_response({404, "NotFound", "Stripe is not enabled here.", "", {}});
  const stripe::Webhook* webhook = &call.services.payments->webhook;
  const std::string& body = call.request.body;
  const std::string_view signature = call.request.header_count("stripe-signature") == 1
                                         ? call.request.header("stripe-signature")
                                         : std::string_view();
  const auto event = webhook->check(signature, body, call.now_ns / 1'000'000'000);
  if (!event) return refused(call, event.error());
  const auto taken = call.services.pool.exec(stripe::kAcceptEvent,
                                             stripe::accept_params(*event, body, "webhook", call.now_ns), call.until_ms);
  if (!taken && taken.error().errc == Errc::kInvalid) {
    return refused(call, {Received::kMalformed, "it has texts that cannot be kept"});
  }
  if (!taken) {
    webhook->count(Received::kFailed);
    return failure_response(call, taken.error());
  }
  webhook->count(taken->boolean(0, 0) ? Received::kAccepted : Received::kDuplicate);
  return http::json_response(200, R"({"received":true})");
}

}  // namespace tallygate::api
