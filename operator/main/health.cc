#include <algorithm>
#include <cstdlib>

#include "operator/main/operator.h"

namespace tallygate::operator_main {
namespace {

using telemetry::ServiceHealth;
using telemetry::ServiceState;

constexpr int64_t kAllShards = redis_contract::kShards;

ServiceHealth health_of(const WatchedService& service) {
  if (service.up()) return {};
  return {ServiceState::kDown, service.error()};
}

// So long nothing may be booked before this instance is not ready; one that has booked nothing yet is not ready at once.
constexpr int64_t kUnbookedMax_ms = 60'000;

void add(std::string& troubles, const std::string& trouble) {
  if (trouble.empty()) return;
  if (!troubles.empty()) troubles += "; ";
  troubles += trouble;
}

std::string told(const char* what, const std::optional<Standing::Trouble>& trouble) {
  if (!trouble) return "";
  return std::string(what) + " since " + std::to_string(trouble->for_ms / 1000) + " s: " + trouble->why;
}

std::string epochs_trouble(const escrow::EpochKeeper& keeper) {
  if (const auto trouble = keeper.standing().trouble()) return told("epochs cannot be kept", trouble);
  return keeper.counters().shards_ready.load() < kAllShards ? "epochs: not all shards are ready" : "";
}

std::string submission_trouble(const billing::Submitter& submitter) {
  std::string troubles = told("nothing can be submitted", submitter.trouble());
  const auto status = submitter.status();
  if (!status.blocked.empty()) add(troubles, "Stripe: " + status.blocked);
  if (status.backlog.dead > 0) {
    add(troubles, "Stripe: " + std::to_string(status.backlog.dead) + " meter events are put aside");
  }
  if (!status.doubtful.empty()) add(troubles, "Stripe: " + status.doubtful);
  return troubles;
}

// What keeps the background from doing its work; empty: nothing.
std::string background_trouble(const Parts& parts) {
  if (parts.leadership->is_standby()) return "";
  if (!parts.leadership->is_leader()) return "who leads is not known: the ledger does not answer";
  if (!parts.history->in_order()) return "";  // told as the ledger's
  std::string troubles;
  if (parts.publisher) {
    if (const auto status = parts.publisher->status(); !status.error.empty()) troubles = "publication: " + status.error;
  }
  if (parts.keeper) add(troubles, epochs_trouble(*parts.keeper));
  if (parts.funder) add(troubles, told("buckets are not funded", parts.funder->standing().trouble()));
  if (parts.pump) add(troubles, told("usage is not booked", parts.pump->standing().trouble()));
  if (parts.aggregator) add(troubles, told("usage is not aggregated", parts.aggregator->standing().trouble()));
  if (parts.submitter) add(troubles, submission_trouble(*parts.submitter));
  if (parts.housekeeper) add(troubles, told("a periodic job fails", parts.housekeeper->trouble()));
  return troubles;
}

ServiceHealth background_health(const Parts& parts) {
  std::string trouble = background_trouble(parts);
  if (!trouble.empty()) return {ServiceState::kDegraded, std::move(trouble)};
  return {ServiceState::kOk, parts.leadership->is_leader() ? "leader" : "standby"};
}

std::string redis_clock_fault(int64_t behind_ms) {
  if (std::abs(behind_ms) <= kClockBound_ms) return "";
  return "its clock is " + std::to_string(std::abs(behind_ms) / 1000) + " s " +
         (behind_ms > 0 ? "behind" : "ahead of") + " the ledger's, which is followed; have NTP keep it";
}

ServiceHealth clock_health(LedgerClock& clock) {
  std::string fault = clock.machine_fault();
  if (fault.empty()) return {};
  return {ServiceState::kDegraded, std::move(fault)};
}

ServiceHealth manifest_health(const ManifestFeed& feed) {
  const auto state = feed.state();
  for (const auto* trouble : {&state.lost, &state.failure, &state.trouble}) {
    if (!trouble->empty()) return {ServiceState::kDegraded, *trouble};
  }
  if (state.faults == 0) return {};
  return {ServiceState::kDegraded, std::to_string(state.faults) + " faults; the first: " + state.first_fault};
}

ServiceHealth ledger_health(const ledger::History& history) {
  if (!history.in_order()) return {ServiceState::kDown, history.trouble() + "; see `tallygate-operator ledger status`"};
  if (history.open_gaps() > 0) {
    return {ServiceState::kDegraded, "booked records of " + std::to_string(history.open_gaps()) +
                                         " sidecars are missing since it was recovered; they are awaited"};
  }
  return {};
}

// Of Stripe's events; those of providers are done when they are answered.
ServiceHealth webhook_health(const Parts& parts) {
  if (!parts.events_of_stripe) return {ServiceState::kOk, "none: Stripe's events are not taken", {}};
  const auto status = parts.events_of_stripe->status();
  const telemetry::QueueMetrics queue{status.active, status.completed, status.dead, status.waiting};
  if (!status.trouble.empty()) return {ServiceState::kDegraded, status.trouble, queue};
  if (status.dead > 0) {
    return {ServiceState::kDegraded,
            std::to_string(status.dead) + " events are put aside; see `tallygate-operator stripe events list --status dead`",
            queue};
  }
  return {ServiceState::kOk, "", queue};
}

std::optional<std::string> unless(bool ready, std::string reason) {
  if (ready) return std::nullopt;
  return reason;
}

void declare_readiness(telemetry::Health& health, const Parts& parts) {
  health.add_readiness("database",
                       [&] { return unless(parts.probe->database().up(), parts.probe->database().error()); });
  health.add_readiness("connections", [&] {
    const auto fault = parts.probe->connections_fault();
    return unless(fault.empty() || parts.probe->had_connections(), fault);
  });
  health.add_readiness("redis", [&] { return unless(parts.probe->redis().up(), parts.probe->redis().error()); });
  health.add_readiness("redisEviction", [&]() -> std::optional<std::string> {
    return unless(parts.probe->eviction() != Eviction::kAnything, parts.probe->eviction_fault());
  });
  health.add_readiness("ledger", [&] {
    return unless(parts.history->in_order(),
                  parts.history->foreign()
                      ? "this Redis serves another ledger"
                      : "the ledger has gone back: it was restored from an older backup, or lost commits");
  });
  if (parts.publisher) {
    // A standby is ready: it takes over within seconds.
    health.add_readiness("publication", [&]() -> std::optional<std::string> {
      if (parts.leadership->is_standby() || parts.publisher->status().version > 0) return std::nullopt;
      const auto error = parts.publisher->status().error;
      return error.empty() ? "nothing is published yet" : error;
    });
  }
  if (parts.feed) {
    health.add_readiness("manifests", [&]() -> std::optional<std::string> {
      const auto lost = parts.feed->state().lost;
      return unless(lost.empty(), lost);
    });
  }
  if (parts.keeper) {
    health.add_readiness("epochs", [&] {
      const bool ready = parts.leadership->is_standby() || parts.keeper->counters().shards_ready.load() == kAllShards;
      const auto trouble = parts.keeper->standing().trouble();
      return unless(ready, "not every shard has an open epoch" + (trouble ? ": " + trouble->why : ""));
    });
  }
  if (parts.pump) {
    health.add_readiness("booking", [&] {
      const Standing& pump = parts.pump->standing();
      return unless(!pump.fails_for_good(kUnbookedMax_ms), told("usage is not booked", pump.trouble()));
    });
  }
}

}  // namespace

void declare_health(telemetry::Health& health, const Parts& parts, LedgerClock& clock, const RunSettings& settings) {
  health.add_service("database", [&]() -> ServiceHealth {
    if (!parts.probe->database().up()) return health_of(parts.probe->database());
    std::string fault = parts.probe->connections_fault();
    if (fault.empty()) return {};
    return {ServiceState::kDegraded, std::move(fault)};
  });
  health.add_service("redis", [&]() -> ServiceHealth {
    if (!parts.probe->redis().up()) return health_of(parts.probe->redis());
    std::string fault = parts.probe->eviction_fault();
    if (fault.empty()) fault = parts.probe->subscription_fault();
    if (fault.empty() && parts.keeper) fault = redis_clock_fault(parts.keeper->counters().redis_behind_ms.load());
    if (fault.empty()) return {};
    return {ServiceState::kDegraded, std::move(fault)};
  });
  health.add_service("backgroundJobs", [&] { return background_health(parts); });
  health.add_service("clock", [&] { return clock_health(clock); });
  health.add_service("ledger", [&] { return ledger_health(*parts.history); });
  health.add_service("webhookQueue", [&] { return webhook_health(parts); });
  if (settings.api.listen) {
    health.add_service("api", [&] {
      return parts.api ? parts.api->health() : ServiceHealth{ServiceState::kDown, "it is not built yet"};
    });
  }
  if (!settings.sidecar_namespaces.empty()) {
    health.add_service("sidecarCredentials", [&]() -> ServiceHealth {
      if (!parts.credentials) return {ServiceState::kDown, "it is not built yet"};
      return parts.credentials->health();
    });
  }
  if (settings.admission.listen) {
    health.add_service("admission", [&]() -> ServiceHealth {
      if (!parts.admission) return {ServiceState::kDown, "it is not built yet"};
      std::string trouble = parts.admission->trouble();
      if (trouble.empty()) return {};
      return {parts.admission->listens() ? ServiceState::kDegraded : ServiceState::kDown, std::move(trouble)};
    });
    health.add_readiness("admission", [&] {
      return unless(parts.admission && parts.admission->listens(), "the webhook has no certificate yet");
    });
  }
  if (parts.feed) health.add_service("manifests", [&] { return manifest_health(*parts.feed); });
  declare_readiness(health, parts);
  if (settings.api.listen) {
    health.add_readiness("api", [&]() -> std::optional<std::string> {
      return parts.api ? parts.api->not_ready() : "it is not built yet";
    });
  }
  // Of the outbox to Stripe: the only queue of this version.
  health.set_queue_metrics([&] {
    telemetry::QueueMetrics queue;
    if (!parts.submitter) return queue;
    const auto status = parts.submitter->status();
    queue.active = status.in_flight;
    queue.completed = status.delivered;
    queue.failed = status.backlog.dead;
    queue.waiting = std::max<int64_t>(0, status.backlog.waiting - status.in_flight);
    return queue;
  });
}

}  // namespace tallygate::operator_main
