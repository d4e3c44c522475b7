#include "operator/stripe/webhook.h"

#include "operator/stripe/signature.h"

namespace tallygate::stripe {
namespace {

constexpr const char* kNames[] = {"accepted", "duplicate", "unsigned", "wrong_mode", "malformed", "failed"};

tl::unexpected<WebhookRefusal> refuse(Received result, std::string why) {
  return tl::unexpected<WebhookRefusal>(WebhookRefusal{result, std::move(why)});
}

}  // namespace

Webhook::Webhook(std::vector<std::string> secrets, bool livemode, metrics::Registry& registry)
    : secrets_(std::move(secrets)), livemode_(livemode) {
  for (const char* name : kNames) {
    counters_.push_back(registry.counter("tallygate_operator_webhook_received_total",
                                         "Requests to the webhook of Stripe by what became of them.", {{"result", name}}));
  }
}

tl::expected<Event, WebhookRefusal> Webhook::check(std::string_view signature, std::string_view body,
                                                   int64_t now_s) const {
  if (std::string fault = signature_fault(signature, body, secrets_, now_s); !fault.empty()) {
    return refuse(Received::kUnsigned, std::move(fault));
  }
  auto event = read_event(body);
  if (!event) return refuse(Received::kMalformed, std::move(event.error().message));
  if (event->livemode != livemode_) {
    return refuse(Received::kWrongMode, livemode_ ? "an event of test mode, where the secret key is of live mode"
                                                  : "an event of live mode, where the secret key is of test mode");
  }
  return *event;
}

}  // namespace tallygate::stripe
