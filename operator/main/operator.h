// The operator's parts, wired: built in the constructor, started by run() once the ledger's schema is there, stopped in
// reverse order.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/ledger_clock.h"
#include "core/telemetry/admin_server.h"
#include "core/telemetry/health.h"
#include "core/telemetry/metrics.h"
#include "operator/admission/admission.h"
#include "operator/api/api_server.h"
#include "operator/billing/aggregator.h"
#include "operator/billing/submitter.h"
#include "operator/controller/controller.h"
#include "operator/credentials/credentials.h"
#include "operator/escrow/epoch_keeper.h"
#include "operator/escrow/funder.h"
#include "operator/http_client/http_client.h"
#include "operator/insight/billing_metrics.h"
#include "operator/jobs/housekeeper.h"
#include "operator/kube/client.h"
#include "operator/kube/events.h"
#include "operator/ledger/history.h"
#include "operator/ledger/leadership.h"
#include "operator/main/manifest_feed.h"
#include "operator/main/probe.h"
#include "operator/main/settings.h"
#include "operator/publish/publisher.h"
#include "operator/pump/pump.h"
#include "operator/source/accepted_store.h"
#include "operator/stripe/client.h"
#include "operator/stripe/event_workers.h"
#include "operator/stripe/payments.h"
#include "operator/stripe/sweep.h"

namespace tallygate::operator_main {

// What health and metrics look at. A part that this process's roles leave out is null.
struct Parts {
  std::shared_ptr<ledger::History> history = std::make_shared<ledger::History>();
  std::unique_ptr<Probe> probe;
  std::unique_ptr<ledger::Leadership> leadership;
  // where Stripe is enabled
  std::unique_ptr<HttpClient> http;
  std::unique_ptr<stripe::Client> stripe;
  std::unique_ptr<stripe::EventWorkers> events_of_stripe;
  std::unique_ptr<stripe::Sweep> sweep;
  std::unique_ptr<stripe::Payments> payments;
  // pipeline
  std::unique_ptr<escrow::EpochKeeper> keeper;
  std::unique_ptr<escrow::Funder> funder;
  std::unique_ptr<pump::Pump> pump;
  std::unique_ptr<billing::Aggregator> aggregator;
  std::unique_ptr<jobs::Housekeeper> housekeeper;
  std::unique_ptr<insight::BillingMetrics> billing_metrics;
  std::unique_ptr<billing::Submitter> submitter;
  // controller
  std::unique_ptr<source::AcceptedStore> accepted_loaded, accepted_kept;  // a connection for the loop, one for the publisher
  std::unique_ptr<publish::Publisher> publisher;
  // where the source is a cluster, or --webhook or --sidecar-namespaces is given
  std::unique_ptr<kube::Client> kube;
  std::unique_ptr<ManifestFeed> feed;
  // where the source is a cluster
  std::unique_ptr<kube::EventRecorder> events;
  std::unique_ptr<controller::Controller> controller;
  // where --api is given
  std::unique_ptr<api::ApiServer> api;
  // where --webhook is given
  std::unique_ptr<admission::Admission> admission;
  // where --sidecar-namespaces is
  std::unique_ptr<credentials::Credentials> credentials;
};
void declare_health(telemetry::Health& health, const Parts& parts, LedgerClock& clock, const RunSettings& settings);
[[nodiscard]] std::shared_ptr<metrics::Registry::Collector> collect_parts(metrics::Registry& registry,
                                                                          const Parts& parts, LedgerClock& clock);

class Operator {
 public:
  // `env` outlives it.
  Operator(Env& env, const RunSettings& settings);
  ~Operator();
  // Until SIGTERM or SIGINT; returns the exit code.
  int run();

 private:
  void build_payments();
  void build_pipeline();
  void build_controller();
  void build_feed();
  void build_kube();
  std::unique_ptr<source::Source> build_source();
  void build_status(const source::KubeSource& source);
  bool build_api();
  void build_credentials();
  void warn_of_transports() const;
  bool is_leader() const;
  bool may_count() const;
  void schema_checked(const Result<void>& answer);
  void start_parts();
  void stop_parts();

  LedgerClock clock_;
  Env& env_;  // with the ledger's time
  const RunSettings& settings_;
  const std::string database_url_;
  EventLoop loop_;
  metrics::Registry registry_;
  telemetry::Health health_;
  Parts parts_;
  std::string kube_failure_;  // why there is no client of the API server where there should be one
  std::vector<std::shared_ptr<metrics::Registry::Collector>> collectors_;
  std::unique_ptr<telemetry::AdminServer> admin_;
  bool started_ = false;
  int exit_code_ = 0;
};

}  // namespace tallygate::operator_main
