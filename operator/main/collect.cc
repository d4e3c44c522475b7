#include <algorithm>

#include "operator/main/operator.h"

namespace tallygate::operator_main {
namespace {

using Counter = std::atomic<int64_t>;

void counter(metrics::Scrape& scrape, const char* name, const char* help, const Counter& value) {
  scrape.counter(name, help, {}, static_cast<double>(value.load(std::memory_order_relaxed)));
}

void collect_keeper(metrics::Scrape& scrape, const escrow::EpochKeeperCounters& c) {
  counter(scrape, "tallygate_operator_epochs_opened_total", "Epochs opened.", c.epochs_opened);
  counter(scrape, "tallygate_operator_incarnations_registered_total", "Sidecar incarnations registered.", c.registered);
  counter(scrape, "tallygate_operator_epoch_failures_total", "Turns that PostgreSQL or Redis failed.", c.failures);
  counter(scrape, "tallygate_operator_lost_buckets_total", "Buckets of which Redis knew too little.", c.lost_buckets);
  scrape.gauge("tallygate_operator_redis_clock_ahead_seconds",
               "How far Redis' clock is ahead of the ledger's, which its scripts follow.", {},
               -static_cast<double>(c.redis_behind_ms.load(std::memory_order_relaxed)) / 1000);
  scrape.counter("tallygate_operator_incarnations_gone_total",
                 "Sidecars' incarnations that were not heard of for an hour: what they held of wallets came back.", {},
                 static_cast<double>(c.gone.load(std::memory_order_relaxed)));
  scrape.gauge("tallygate_operator_shards_ready", "Shards whose epoch in Redis is the ledger's; 64 is healthy.", {},
               static_cast<double>(c.shards_ready.load(std::memory_order_relaxed)));
}

void collect_funder(metrics::Scrape& scrape, const escrow::FunderCounters& c) {
  counter(scrape, "tallygate_operator_funded_units_total", "Units handed to Redis.", c.funded_units);
  counter(scrape, "tallygate_operator_funded_buckets_total", "Buckets answered.", c.funded_calls);
  counter(scrape, "tallygate_operator_dry_answers_total", "Buckets told that the ledger has nothing left.",
          c.dry_answers);
  counter(scrape, "tallygate_operator_recalls_total", "Float taken back from one bucket of a wallet to fund another.",
          c.recalls);
  counter(scrape, "tallygate_operator_funding_dropped_total", "Requests past the queue's bound.", c.dropped);
  counter(scrape, "tallygate_operator_funding_failures_total", "Turns that PostgreSQL or Redis failed.", c.failures);
}

void collect_pump(metrics::Scrape& scrape, const pump::PumpCounters& c) {
  counter(scrape, "tallygate_operator_usage_records_total", "Usage records booked.", c.records_booked);
  counter(scrape, "tallygate_operator_usage_records_read_total", "Usage records read, repetitions included.",
          c.records_read);
  counter(scrape, "tallygate_operator_usage_batches_total", "Transactions of the pump.", c.batches);
  counter(scrape, "tallygate_operator_usage_poison_total", "Stream entries put aside.", c.poison);
  counter(scrape, "tallygate_operator_usage_failures_total", "Turns that PostgreSQL or Redis failed.", c.failures);
  scrape.gauge("tallygate_operator_usage_lag_seconds", "Age of the oldest entry of the last batch.", {},
               static_cast<double>(c.lag_ms.load(std::memory_order_relaxed)) / 1000);
}

void collect_history(metrics::Scrape& scrape, const ledger::History& history) {
  scrape.gauge("tallygate_operator_ledger_behind",
               "1 while the ledger knows less than it did: restored from a backup and not recovered yet.", {},
               history.is_behind() ? 1 : 0);
  scrape.gauge("tallygate_operator_redis_foreign", "1 while Redis is found to serve another ledger.", {},
               history.foreign() ? 1 : 0);
  scrape.counter("tallygate_operator_ledger_claims_refused_total",
                 "What sidecars said of another ledger, or of more than this one can have told.", {},
                 static_cast<double>(history.refused_claims()));
  scrape.gauge("tallygate_operator_ledger_generation", "How often the ledger was recovered.", {},
               static_cast<double>(history.known().generation));
  scrape.gauge("tallygate_operator_usage_gaps", "Sidecars of which booked records are missing since a recovery.", {},
               static_cast<double>(history.open_gaps()));
  scrape.counter("tallygate_operator_usage_records_given_up_total",
                 "Records that nobody could send again after a recovery.", {},
                 static_cast<double>(history.lost_records()));
}

// How long each part has failed at what it is for.
void collect_failing(metrics::Scrape& scrape, const Parts& parts) {
  const auto failing = [&](const char* part, const std::optional<Standing::Trouble>& trouble) {
    scrape.gauge("tallygate_operator_failing_seconds",
                 "How long a part of the background has failed at what it does; 0: it does it, or stands by.",
                 {{"part", part}}, trouble ? std::max(0.001, static_cast<double>(trouble->for_ms) / 1000) : 0);
  };
  if (parts.keeper) failing("epochs", parts.keeper->standing().trouble());
  if (parts.funder) failing("funding", parts.funder->standing().trouble());
  if (parts.pump) failing("booking", parts.pump->standing().trouble());
  if (parts.aggregator) failing("aggregation", parts.aggregator->standing().trouble());
  if (parts.submitter) failing("submission", parts.submitter->trouble());
  if (parts.housekeeper) failing("jobs", parts.housekeeper->trouble());
}

}  // namespace

std::shared_ptr<metrics::Registry::Collector> collect_parts(metrics::Registry& registry, const Parts& parts,
                                                            LedgerClock& clock) {
  return registry.collect([&parts, &clock](metrics::Scrape& scrape) {
    scrape.gauge("tallygate_operator_leader", "1 while this instance is the active one.", {},
                 parts.leadership->is_leader() ? 1 : 0);
    scrape.gauge("tallygate_operator_leader_term", "The last reign of this instance; 0: it has not led.", {},
                 static_cast<double>(parts.leadership->term()));
    scrape.gauge("tallygate_operator_clock_ahead_seconds",
                 "How far this machine's clock is ahead of the ledger's, which is followed.", {},
                 static_cast<double>(clock.machine_ahead_ms()) / 1000);
    collect_history(scrape, *parts.history);
    collect_failing(scrape, parts);
    if (parts.keeper) collect_keeper(scrape, parts.keeper->counters());
    if (parts.funder) collect_funder(scrape, parts.funder->counters());
    if (parts.pump) collect_pump(scrape, parts.pump->counters());
  });
}

}  // namespace tallygate::operator_main
