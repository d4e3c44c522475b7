#include "sidecar/main/sidecar.h"

namespace tallygate::sidecar {
namespace {

using metrics::Labels;

double get(const std::atomic<uint64_t>& value) { return static_cast<double>(value.load(std::memory_order_relaxed)); }
double get(const proxy::Counter& value) { return static_cast<double>(value.get()); }

const char* decision_of(Reason reason) {
  switch (reason) {
    case Reason::kAdmitted:
    case Reason::kExempt:
    case Reason::kAllowedUnavailable:
      return "admit";
    case Reason::kShadow:
      return "would_deny";
    case Reason::kPreflight:
      return "answer";
    default:
      return "deny";
  }
}

void export_decisions(metrics::Scrape& scrape, const AdmissionCounters& counters,
                      const std::vector<std::string>& names) {
  for (size_t route = 0; route < AdmissionCounters::kRoutes; ++route) {
    if (names[route].empty()) continue;
    for (size_t r = 0; r < static_cast<size_t>(Reason::kCount); ++r) {
      const double value = get(counters.decisions[route][r]);
      if (value == 0) continue;
      const auto reason = static_cast<Reason>(r);
      scrape.counter("tallygate_sidecar_decisions_total", "Requests by decision, reason and route.",
                     {{"decision", decision_of(reason)}, {"reason", info(reason).code}, {"route", names[route]}},
                     value);
    }
  }
}

// Of charges whose amount comes from request or response.
void export_amounts(metrics::Scrape& scrape, const AdmissionCounters& counters,
                    const std::vector<std::string>& names) {
  std::vector<double> bounds;
  for (const int64_t hundredths : AdmissionCounters::Amounts::Ratio::kUpperBounds) {
    bounds.push_back(static_cast<double>(hundredths) / 100);
  }
  for (size_t route = 0; route < AdmissionCounters::kRoutes; ++route) {
    const AdmissionCounters::Amounts& row = counters.amounts[route];
    bool any = get(counters.cut[route]) != 0;
    for (size_t b = 0; b < row.requests.size(); ++b) {
      if (get(row.requests[b]) == 0) continue;
      any = true;
      const Labels labels{{"basis", to_string(static_cast<Basis>(b))}, {"route", names[route]}};
      scrape.counter("tallygate_sidecar_amounts_total",
                     "Charges whose amount comes from somewhere, by what it rests on: measured, or the estimate where "
                     "it was absent or unreadable.",
                     labels, get(row.requests[b]));
      scrape.counter("tallygate_sidecar_amount_units_total", "Units of these.", labels, get(row.units[b]));
    }
    if (!any || names[route].empty()) continue;
    const Labels labels{{"route", names[route]}};
    scrape.counter("tallygate_sidecar_overshoot_units_total",
                   "Units that requests came to beyond what any lease covered: booked all the same.", labels,
                   get(row.overshoot_units));
    scrape.counter("tallygate_sidecar_responses_cut_total",
                   "Responses that were ended in their middle, when quota or balance was used up.", labels,
                   get(counters.cut[route]));
    std::vector<uint64_t> counts;
    for (const auto& bucket : row.ratio.buckets) counts.push_back(bucket.load(std::memory_order_relaxed));
    scrape.histogram("tallygate_sidecar_amount_to_estimate_ratio", "What requests came to, by what was estimated.",
                     labels, bounds, counts, get(row.ratio.sum) / 100);
  }
  scrape.counter("tallygate_sidecar_response_pauses_total", "Responses that waited for units in their middle.", {},
                 get(counters.paused));
}

void export_proxy(metrics::Scrape& scrape, const proxy::Counters& c) {
  for (size_t i = 1; i < c.responses.size(); ++i) {
    scrape.counter("tallygate_sidecar_responses_total", "Responses by status class.",
                   {{"class", std::to_string(i) + "xx"}}, get(c.responses[i]));
  }
  scrape.counter("tallygate_sidecar_request_body_bytes_total", "Payload forwarded to the app.", {},
                 get(c.request_body_bytes));
  scrape.counter("tallygate_sidecar_response_body_bytes_total", "Payload forwarded to clients.", {},
                 get(c.response_body_bytes));
  scrape.gauge("tallygate_sidecar_client_connections", "Open client connections.", {}, get(c.clients_active));
  scrape.counter("tallygate_sidecar_client_connections_refused_total",
                 "Client connections answered 503: too many, of all or of one address.", {}, get(c.clients_refused));
  scrape.counter("tallygate_sidecar_client_connections_displaced_total",
                 "Idle client connections closed to make room for new ones.", {}, get(c.clients_displaced));
  scrape.counter("tallygate_sidecar_accept_failures_total",
                 "Pauses for want of descriptors or memory, with clients waiting to connect.", {},
                 get(c.accept_failures));
  scrape.gauge("tallygate_sidecar_upstream_connections", "Open connections to the app.", {}, get(c.upstreams_active));
  scrape.counter("tallygate_sidecar_upstream_connects_total", "Connections made to the app.", {},
                 get(c.upstream_connects));
  scrape.counter("tallygate_sidecar_upstream_connect_failures_total", "Connections to the app that failed.", {},
                 get(c.upstream_connect_failures));
  scrape.counter("tallygate_sidecar_upstream_retries_total", "Requests sent again on a fresh connection.", {},
                 get(c.upstream_retries));
  scrape.counter("tallygate_sidecar_upstream_resends_total",
                 "Of these, requests that the app may have seen before: charged once.", {}, get(c.upstream_resends));
  scrape.counter("tallygate_sidecar_responses_drained_total", "Responses that were read on after their client had left.",
                 {}, get(c.drained));
  scrape.counter("tallygate_sidecar_request_bodies_read_total",
                 "Request bodies that were read before their request was let through.", {}, get(c.bodies_collected));
  scrape.gauge("tallygate_sidecar_request_bodies_bytes", "What is held of such bodies just now.", {},
               get(c.collected_bytes));
  for (size_t i = 0; i < c.problems.size(); ++i) {
    const double value = get(c.problems[i]);
    if (value == 0) continue;
    scrape.counter("tallygate_sidecar_problems_total", "The proxy's own error answers.",
                   {{"reason", proxy::problem(static_cast<proxy::Reason>(i)).reason}}, value);
  }
  std::vector<double> bounds;
  std::vector<uint64_t> counts;
  for (const int64_t ns : proxy::DurationHistogram::kUpperBoundsNs) bounds.push_back(static_cast<double>(ns) / 1e9);
  for (const auto& bucket : c.duration.buckets) counts.push_back(bucket.get());
  scrape.histogram("tallygate_sidecar_request_duration_seconds", "Admitted requests, from the head to the last byte.",
                   {}, bounds, counts, get(c.duration.sum_ns) / 1e9);
}

}  // namespace

void Sidecar::export_metrics(metrics::Scrape& scrape) const {
  const AdmissionCounters& a = admission_->counters();
  export_decisions(scrape, a, admission_->route_names());
  export_amounts(scrape, a, admission_->route_names());
  scrape.counter("tallygate_sidecar_waited_total", "Requests that waited for a tenant or for units.", {},
                 get(a.waited));
  scrape.counter("tallygate_sidecar_charged_units_total", "Units charged.", {}, get(a.charged_units));
  scrape.counter("tallygate_sidecar_released_units_total",
                 "Units released because the app failed, or the request did not reach it.", {}, get(a.released_units));
  scrape.counter("tallygate_sidecar_allowed_units_total", "Units admitted without a lease.", {}, get(a.allowed_units));
  export_proxy(scrape, proxy_->counters());

  scrape.gauge("tallygate_sidecar_clock_ahead_seconds",
               "How far this machine's clock is ahead of the ledger's, which is followed.", {},
               static_cast<double>(clock_.machine_ahead_ms()) / 1000);
  const EscrowCounters& e = escrow_->counters();
  scrape.counter("tallygate_sidecar_leases_total", "Lease calls.", {}, get(e.leases));
  scrape.counter("tallygate_sidecar_leased_units_total", "Units leased.", {}, get(e.granted_units));
  scrape.counter("tallygate_sidecar_returned_units_total", "Idle units returned.", {}, get(e.returned_units));
  scrape.counter("tallygate_sidecar_lease_answers_total", "Lease calls that brought nothing.", {{"answer", "dry"}},
                 get(e.dry));
  scrape.counter("tallygate_sidecar_lease_answers_total", "Lease calls that brought nothing.", {{"answer", "wait"}},
                 get(e.wait));
  scrape.counter("tallygate_sidecar_lease_answers_total", "Lease calls that brought nothing.",
                 {{"answer", "not_registered"}}, get(e.not_registered));
  scrape.counter("tallygate_sidecar_lease_answers_total", "Lease calls that brought nothing.", {{"answer", "clock"}},
                 get(e.clock_refused));
  scrape.counter("tallygate_sidecar_lease_answers_total", "Lease calls that brought nothing.", {{"answer", "lost"}},
                 get(e.lost));
  scrape.counter("tallygate_sidecar_lease_errors_total", "Lease calls without an answer.", {}, get(e.errors));
  scrape.counter("tallygate_sidecar_epoch_changes_total", "Newer epochs heard of.", {}, get(e.epoch_changes));

  if (ledger_) {
    const LedgerCounters& l = ledger_->counters();
    scrape.counter("tallygate_sidecar_ledger_leases_total", "Lease calls to the ledger.", {}, get(l.asked));
    scrape.counter("tallygate_sidecar_ledger_leased_units_total", "Units leased from the ledger.", {},
                   get(l.granted_units));
    scrape.counter("tallygate_sidecar_ledger_returned_units_total", "Idle units returned to the ledger.", {},
                   get(l.returned_units));
    for (const auto& [answer, value] :
         {std::pair{"dry", &l.dry}, std::pair{"wait", &l.wait}, std::pair{"refused", &l.refused}}) {
      scrape.counter("tallygate_sidecar_ledger_lease_answers_total", "Lease calls to the ledger that brought nothing.",
                     {{"answer", answer}}, get(*value));
    }
    scrape.counter("tallygate_sidecar_ledger_lease_errors_total", "Calls to the ledger without a usable answer.", {},
                   get(l.errors));
    scrape.counter("tallygate_sidecar_ledger_leases_closed_total", "Leases of the ledger's that were settled for good.",
                   {}, get(l.closed));
    scrape.gauge("tallygate_sidecar_ledger_leases_unsettled",
                 "Leases of the ledger's that wait to be settled for good.", {},
                 static_cast<double>(l.unsettled.load()));
    scrape.gauge("tallygate_sidecar_ledger_leases_refused",
                 "Of these, those that the ledger refused to settle: a token or an address to mend.", {},
                 static_cast<double>(l.unsettled_refused.load()));
    scrape.gauge("tallygate_sidecar_ledger_up", "Whether the ledger is thought to answer.", {},
                 ledger_up_.load() ? 1 : 0);
  }

  const CourierCounters& c = courier_->counters();
  scrape.counter("tallygate_sidecar_records_sent_total", "Usage records that Redis took.", {}, get(c.sent));
  scrape.counter("tallygate_sidecar_records_reopened_total",
                 "Usage records that were booked, and are sent again to a ledger that was recovered from a backup.", {},
                 get(c.reopened));
  scrape.counter("tallygate_sidecar_records_resent_total", "Usage records sent again.", {}, get(c.resent));
  scrape.counter("tallygate_sidecar_records_booked_total", "Usage records behind the ledger's watermark.", {},
                 get(c.acknowledged));
  scrape.gauge("tallygate_sidecar_records_waiting", "Usage records that the ledger has not booked yet.", {},
               get(c.unacknowledged));
  scrape.gauge("tallygate_sidecar_ledger_behind", "1 while the ledger is known to have gone back to a backup.", {},
               ledger_behind_.load() ? 1 : 0);
  scrape.gauge("tallygate_sidecar_kept_bytes", "Usage on disk that the ledger has booked, kept to be sent again.", {},
               static_cast<double>(kept_bytes_.load()));
  scrape.gauge("tallygate_sidecar_redis_up", "Whether Redis is connected.", {}, redis_up_.load() ? 1 : 0);
  scrape.gauge("tallygate_sidecar_tenants", "Tenants known here.", {}, get(tenants_));
  scrape.gauge("tallygate_sidecar_redis_stalled",
               "Whether Redis is connected and grants nothing to those who need units.", {},
               redis_stalled().empty() ? 0 : 1);
  scrape.gauge("tallygate_sidecar_purses", "Buckets with units leased here.", {}, get(purses_));
  scrape.gauge("tallygate_sidecar_log_segments", "Segments of the usage log.", {}, get(segments_));
  scrape.gauge("tallygate_sidecar_requests_in_flight", "Admitted requests that have not ended.", {}, get(in_flight_));
  scrape.gauge("tallygate_sidecar_requests_waiting", "Requests that wait for a tenant or for units.", {},
               get(waiting_));
  const bool writable = log_state_.load() == LogState::kSound && !commit_failing_.load();
  scrape.gauge("tallygate_sidecar_log_writable", "Whether the data folder is in place and takes what is written.", {},
               writable ? 1 : 0);
  scrape.counter("tallygate_sidecar_log_syncs_total", "Rounds of fdatasync.", {}, static_cast<double>(syncer_.syncs()));
  scrape.counter("tallygate_sidecar_log_failures_total", "Writes or syncs of the usage log that failed.", {},
                 static_cast<double>(syncer_.failures()) + get(commit_failures_));
  scrape.counter("tallygate_sidecar_recovered_admissions_total", "Admissions booked for predecessors from their slots.",
                 {}, get(recovered_));
}

}  // namespace tallygate::sidecar
