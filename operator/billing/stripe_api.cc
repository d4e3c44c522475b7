#include "operator/billing/stripe_api.h"

#include "operator/http_client/http_client.h"

namespace tallygate::billing {
namespace {

HttpRequest request_of(const StripeOptions& options, const MeterEvent& event, int64_t attempt) {
  HttpRequest request;
  request.method = "POST";
  request.url = options.api_base + "/v1/billing/meter_events";
  request.headers = {{"Authorization", "Bearer " + options.api_key},
                     {"Stripe-Version", options.api_version},
                     {"Idempotency-Key", idempotency_key(event, attempt)},
                     {"Content-Type", "application/x-www-form-urlencoded"},
                     {"Accept", "application/json"},
                     {"User-Agent", "tallygate/" TALLYGATE_VERSION}};
  request.body = form_body(event);
  request.timeout_ms = options.timeout_ms;
  return request;
}

Answer answer_of(Result<HttpResponse> result) {
  Answer answer;
  if (!result) {
    // Nobody stops our calls, so kUnavailable means that nothing was sent.
    const bool sent = result.error().errc != Errc::kUnavailable && result.error().errc != Errc::kInvalid;
    answer.transport = sent ? Answer::Transport::kUnknown : Answer::Transport::kNotSent;
    answer.transport_error = std::move(result.error().message);
    return answer;
  }
  answer.status = result->status;
  answer.should_retry = result->header("stripe-should-retry");
  answer.retry_after = result->header("retry-after");
  answer.body = std::move(result->body);
  return answer;
}

}  // namespace

SendEvent stripe_sender(HttpClient& client, StripeOptions options) {
  return [&client, options = std::move(options)](const MeterEvent& event, int64_t attempt) {
    return answer_of(client.send(request_of(options, event, attempt)));
  };
}

}  // namespace tallygate::billing
