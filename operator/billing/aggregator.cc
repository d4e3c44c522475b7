#include "operator/billing/aggregator.h"

#include <algorithm>

#include "core/telemetry/log.h"
#include "operator/ledger/fault.h"

namespace tallygate::billing {
namespace {

constexpr int64_t kMinuteMs = 60'000;
constexpr int64_t kRetryMs = 1'000;
constexpr int64_t kStandbyMs = 200;  // how often a standby asks whether it leads

}  // namespace

int64_t aggregate_before_s(const AggregatorOptions& options, int64_t now_ms) {
  if (options.interval_ms < kMinuteMs) return now_ms / 1000;
  return (now_ms - options.lateness_ms) / kMinuteMs * 60;
}

Aggregator::Aggregator(Env& env, std::string database_url, AggregatorOptions options, std::function<bool()> is_leader,
                       metrics::Registry& registry)
    : env_(env),
      options_(options),
      is_leader_(std::move(is_leader)),
      session_(std::move(database_url)),
      loop_(env),
      standing_(env),
      records_(registry.counter("tallygate_operator_aggregated_records_total", "Usage records aggregated.")),
      aggregates_(
          registry.counter("tallygate_operator_aggregates_total", "Aggregates made, further revisions included.")),
      too_large_(
          registry.counter("tallygate_operator_usage_too_large_records_total",
                           "Usage records of a minute whose sum is too large to count: kept, flagged, not billed.")),
      failures_(registry.counter("tallygate_operator_aggregation_failures_total", "Aggregation runs that failed.")),
      seconds_(registry.histogram("tallygate_operator_aggregation_seconds", "Time of one aggregation run.",
                                  {0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60})),
      lag_(registry.gauge(
          "tallygate_operator_aggregation_lag_seconds",
          "Age of the oldest usage record that is not aggregated, those of unknown tenants included.")) {}

Aggregator::~Aggregator() { stop(); }

void Aggregator::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Aggregator::stop() {
  stopping_ = true;
  loop_.post([] {});
  if (thread_.joinable()) thread_.join();
}

Result<AggregateRun> Aggregator::run_once() {
  AggregateRun total;
  const std::string before = ledger::timestamp_text(aggregate_before_s(options_, env_.wall_ms()) * 1'000'000'000);
  while (!stopping_) {
    const auto rows =
        session_.exec("select o_records, o_aggregates, o_too_large, o_of from aggregate_usage($1, $2, $3)",
                      {ledger::timestamp_text(env_.wall_ns()), before, options_.batch_records});
    if (!rows) return tl::unexpected<Error>(rows.error());
    const int64_t records = rows->integer(0, 0);
    if (records > 0) ledger::fault_point("aggregator.after_commit");
    total.records += records;
    total.aggregates += rows->integer(0, 1);
    records_.add(static_cast<double>(records));
    aggregates_.add(static_cast<double>(rows->integer(0, 1)));
    const int64_t too_large = rows->integer(0, 2);
    if (too_large > 0) {
      too_large_.add(static_cast<double>(too_large));
      log::error("usage of one minute is too large to be counted: it is flagged, and in no bill",
                 {{"records", too_large}, {"of", rows->text(0, 3)}});
    }
    if (records + too_large < options_.batch_records) break;
  }
  return total;
}

bool Aggregator::run_and_report() {
  const int64_t begin_ns = env_.mono_ns();
  const auto done = run_once();
  if (!done) {
    failures_.add();
    standing_.failed(done.error().message);
    static log::Throttle throttle(10);
    log::warn(throttle, "aggregation failed", {{"error", done.error().message}});
    return false;
  }
  seconds_.observe(static_cast<double>(env_.mono_ns() - begin_ns) / 1e9);
  standing_.succeeded();
  if (done->records > 0) {
    log::debug("usage aggregated", {{"records", done->records}, {"aggregates", done->aggregates}});
  }
  observe_lag();
  return true;
}

void Aggregator::observe_lag() {
  const auto rows = session_.exec(
      "select coalesce(extract(epoch from min(second)), 0)::bigint from usage_records where aggregate_id is null"
      " and flag is distinct from 'too-large'");
  if (!rows) return;
  const int64_t oldest_s = rows->integer(0, 0);
  lag_.set(oldest_s == 0 ? 0 : static_cast<double>(std::max<int64_t>(0, env_.wall_s() - oldest_s)));
}

void Aggregator::run() {
  int64_t next_ms = env_.mono_ms();
  while (!stopping_) {
    if (!is_leader_()) {
      standing_.rests();
      loop_.run_once(kStandbyMs);
      continue;
    }
    const int64_t now_ms = env_.mono_ms();
    if (now_ms >= next_ms) {
      next_ms = now_ms + (run_and_report() ? options_.interval_ms : std::min(kRetryMs, options_.interval_ms));
    }
    loop_.run_once(std::clamp<int64_t>(next_ms - env_.mono_ms(), 10, 500));
  }
}

}  // namespace tallygate::billing
