#include "operator/billing/submitter_metrics.h"

#include <string_view>

namespace tallygate::billing {
namespace {

// Decision::result, and "expired": put aside without a call.
constexpr const char* kResults[] = {"accepted", "duplicate",   "rate_limited", "busy",       "server_error",
                                    "timeout",  "unreachable", "unauthorized", "redirected", "invalid",
                                    "refused",  "unexpected",  "expired"};

}  // namespace

Submitter::Metrics::Metrics(metrics::Registry& registry)
    : delivered_units(registry.counter("tallygate_operator_stripe_units_total", "Units that Stripe has taken.")),
      taken_off_units(registry.counter("tallygate_operator_stripe_units_taken_off_total",
                                       "Units that corrections have taken off at Stripe.")),
      dead(registry.counter("tallygate_operator_stripe_dead_letters_total", "Meter events put aside for people.")),
      held(registry.counter("tallygate_operator_stripe_held_total",
                            "Meter events held back because their tenant cannot be billed yet.")),
      enqueued(registry.counter("tallygate_operator_stripe_enqueued_total", "Aggregates put into the outbox.")),
      failures(registry.counter("tallygate_operator_submission_failures_total",
                                "Steps of the submitter that the database failed.")),
      call_seconds(registry.histogram("tallygate_operator_stripe_call_seconds", "Time of one call to Stripe.",
                                      {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30})),
      waiting(registry.gauge("tallygate_operator_stripe_outbox_waiting", "Meter events that wait or are being sent.")),
      held_now(registry.gauge("tallygate_operator_stripe_outbox_held", "Meter events held back now.")),
      dead_now(registry.gauge("tallygate_operator_stripe_outbox_dead", "Meter events put aside now.")),
      blocked(registry.gauge("tallygate_operator_stripe_blocked", "1 while Stripe refuses the key or the address.")),
      age(registry.gauge("tallygate_operator_stripe_outbox_age_seconds", "Age of the oldest usage that waits.")) {
  for (const char* name : kResults) {
    results.emplace_back(name, registry.counter("tallygate_operator_stripe_submissions_total",
                                                "Calls to Stripe's meters by result.", {{"result", name}}));
  }
}

const metrics::Counter& Submitter::Metrics::result(const char* name) const {
  for (const auto& [known, counter] : results) {
    if (known == std::string_view(name)) return counter;
  }
  return result("unexpected");
}

}  // namespace tallygate::billing
