#include "operator/main/operator.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "core/telemetry/log.h"
#include "operator/billing/stripe_api.h"
#include "operator/billing/stripe_watch.h"
#include "operator/ledger/fault.h"
#include "operator/main/signals.h"
#include "operator/source/folder_source.h"
#include "operator/source/kube_source.h"

namespace tallygate::operator_main {
namespace {

constexpr int kExitFailure = 1;
// Every part ends within its call's time-out; past this the kernel ends the process.
constexpr unsigned kStopDeadlineS = 40;
constexpr int64_t kWebhookGraceMs = 5'000;
constexpr char kFieldManager[] = "tallygate-operator";
constexpr char kEventController[] = "billing.tallygate.dev/operator";

std::string without_slash(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  return text;
}

// Tenants that the policies of every namespace may bill.
std::vector<std::string> lent_to_all(const plan::Compiled& compiled) {
  std::vector<std::string> lent;
  for (const auto& tenant : compiled.tenants) {
    const auto& allowed = tenant.allowed_namespaces;
    if (std::find(allowed.begin(), allowed.end(), "*") != allowed.end()) lent.push_back(tenant.id.str());
  }
  return lent;
}

}  // namespace

Operator::Operator(Env& env, const RunSettings& settings)
    : clock_(env),
      env_(clock_),
      settings_(settings),
      database_url_(settings.database.url.text),
      loop_(env),
      health_(env) {
  // The probe's answer comes on its own thread.
  parts_.probe = std::make_unique<Probe>(
      env_,
      ProbeOptions{database_url_, settings_.redis,
                   settings_.api.listen && !settings_.api.database_pooled ? settings_.api.database_url.text : "",
                   settings_.migrate, parts_.history},
      [this](const Result<void>& answer) { loop_.post([this, answer] { schema_checked(answer); }); }, registry_);
  parts_.leadership = std::make_unique<ledger::Leadership>(clock_, database_url_);
  build_kube();
  if (settings_.stripe == Stripe::kEnabled) build_payments();
  if (settings_.has(Role::kPipeline)) build_pipeline();
  if (settings_.has(Role::kController)) build_controller();
  if (settings_.has(Role::kController) || settings_.api.listen) build_feed();
  if (settings_.admission.listen && parts_.kube) {
    parts_.admission = std::make_unique<admission::Admission>(env_, *parts_.kube, settings_.admission, registry_);
  }
  if (!settings_.sidecar_namespaces.empty() && parts_.kube) build_credentials();
  declare_health(health_, parts_, clock_, settings_);
  collectors_.push_back(collect_parts(registry_, parts_, clock_));
  collectors_.push_back(metrics::collect_process(registry_, "operator"));
}

Operator::~Operator() = default;

bool Operator::is_leader() const { return parts_.leadership->is_leader(); }

// What counts on all booked usage being here: it would submit to Stripe, or write off, what is on its way.
bool Operator::may_count() const { return is_leader() && parts_.history->in_order() && !parts_.history->filling(); }

// Events are worked on by every operator that could have taken them, whoever leads.
void Operator::build_payments() {
  parts_.http = make_http_client();
  if (settings_.payments.webhook_secrets.empty()) return;
  stripe::ClientOptions client;
  client.api_base = without_slash(settings_.stripe_api_base.text);
  client.api_key = settings_.stripe_api_key;
  client.timeout_ms = settings_.stripe_timeout_ms;
  parts_.stripe = std::make_unique<stripe::Client>(env_, *parts_.http, std::move(client), registry_);
  parts_.payments = std::make_unique<stripe::Payments>(settings_.payments, stripe::is_live_key(settings_.stripe_api_key),
                                                       *parts_.stripe, registry_);
  stripe::EventWorkersOptions workers;
  workers.database_url = database_url_;
  workers.workers = settings_.payments.webhook_workers;
  workers.suspend_on_dispute = settings_.payments.suspend_on_dispute;
  workers.may_work = [this] { return parts_.history->in_order(); };
  parts_.events_of_stripe = std::make_unique<stripe::EventWorkers>(env_, *parts_.stripe, std::move(workers), registry_);
  stripe::SweepOptions sweep;
  sweep.database_url = database_url_;
  sweep.interval_ms = settings_.payments.sweep_interval_ms;
  sweep.may_work = [this] { return parts_.history->in_order(); };
  parts_.sweep = std::make_unique<stripe::Sweep>(env_, *parts_.stripe, std::move(sweep), registry_);
}

void Operator::build_pipeline() {
  const auto leads = [this] { return is_leader(); };
  const auto counts = [this] { return may_count(); };
  escrow::EpochKeeperOptions keeper;
  keeper.database_url = database_url_;
  keeper.redis = settings_.redis;
  keeper.history = parts_.history;
  keeper.is_leader = leads;
  parts_.keeper = std::make_unique<escrow::EpochKeeper>(env_, keeper);
  parts_.history->expect_gaps();

  escrow::FunderOptions funder;
  funder.database_url = database_url_;
  funder.redis = settings_.redis;
  funder.float_units = settings_.float_units;
  funder.is_leader = leads;
  parts_.funder = std::make_unique<escrow::Funder>(env_, funder, *parts_.keeper);

  pump::PumpOptions pump;
  pump.database_url = database_url_;
  pump.redis = settings_.redis;
  pump.history = parts_.history;
  pump.is_leader = [this] { return is_leader() && parts_.history->in_order() && parts_.history->is_compared(); };
  parts_.pump = std::make_unique<pump::Pump>(env_, pump);

  billing::AggregatorOptions aggregator;
  aggregator.interval_ms = settings_.aggregate_interval_ms;
  aggregator.lateness_ms = settings_.aggregate_lateness_ms;
  parts_.aggregator = std::make_unique<billing::Aggregator>(env_, database_url_, aggregator, counts, registry_);

  parts_.housekeeper =
      std::make_unique<jobs::Housekeeper>(env_, database_url_, jobs::HousekeeperOptions{}, counts, registry_);

  insight::BillingMetricsOptions insight;
  insight.tenants = settings_.tenant_metrics;
  insight.interval_ms = settings_.metrics_interval_ms;
  parts_.billing_metrics =
      std::make_unique<insight::BillingMetrics>(env_, database_url_, insight, leads, registry_);

  if (settings_.stripe == Stripe::kDisabled) return;
  billing::SubmitterOptions submitter;
  submitter.interval_ms = settings_.submit_interval_ms;
  submitter.concurrency = settings_.stripe_concurrency;
  submitter.calls_per_second = settings_.stripe_calls_per_second;
  billing::StripeOptions stripe{without_slash(settings_.stripe_api_base.text), settings_.stripe_api_key,
                                settings_.stripe_version, settings_.stripe_timeout_ms};
  auto watch = std::make_unique<billing::StripeWatch>(env_, *parts_.http, stripe);
  parts_.submitter = std::make_unique<billing::Submitter>(env_, database_url_, submitter,
                                                          billing::stripe_sender(*parts_.http, std::move(stripe)),
                                                          counts, registry_, std::move(watch));
}

void Operator::build_controller() {
  publish::PublisherOptions options;
  options.database_url = database_url_;
  options.redis = settings_.redis;
  options.key_file = settings_.publication_key_file;
  options.api_key_pepper = settings_.api_key_pepper;
  options.api_key_plain_hashes = settings_.api_key_plain_hashes;
  // Where epochs are kept too, Redis is known to serve this ledger before anything is published there.
  // And what the predecessor accepted is known: nothing older goes in force.
  options.is_leader = [this] {
    return is_leader() && parts_.feed->has_taken(parts_.leadership->term()) &&
           (!parts_.keeper || parts_.history->redis_is_ours());
  };
  if (parts_.funder) {
    options.on_tenant_changed = [this](const TenantId& tenant) { parts_.funder->kick(tenant.str()); };
  }
  parts_.publisher = std::make_unique<publish::Publisher>(env_, std::move(options), registry_);
}

void Operator::build_feed() {
  parts_.accepted_loaded = std::make_unique<source::AcceptedStore>(database_url_);
  parts_.accepted_kept = std::make_unique<source::AcceptedStore>(database_url_);
  const auto offer = [this](std::shared_ptr<const plan::Compiled> compiled, const source::Snapshot& snapshot,
                            int64_t noticed_ns) {
    if (parts_.api) parts_.api->offer(compiled);
    if (parts_.credentials) parts_.credentials->lend(lent_to_all(*compiled));
    if (!parts_.publisher) return;
    // What goes in force is kept first: a restart knows it, whatever the source shows then.
    const auto keep = [this, accepted = snapshot.accepted, cluster = snapshot.cluster](int64_t reign) {
      return parts_.accepted_kept->keep(accepted->resources, cluster, reign, env_.wall_ns());
    };
    parts_.publisher->offer(std::move(compiled), noticed_ns, keep);
  };
  const auto observe = [this](const source::Snapshot& snapshot, std::shared_ptr<const plan::Compiled> compiled) {
    if (parts_.controller) parts_.controller->observe(snapshot, std::move(compiled));
  };
  auto source = build_source();
  if (!source) return;
  parts_.feed = std::make_unique<ManifestFeed>(
      env_, loop_, *parts_.leadership, std::move(source), [this] { return parts_.accepted_loaded->load(); }, settings_.acceptance, offer,
      observe, registry_);
}

// The one client of the API server, for whoever needs it; kube_failure_ says why there is none.
void Operator::build_kube() {
  const bool from_cluster = settings_.source.tag == "kubernetes";
  if (!from_cluster && !settings_.admission.listen && settings_.sidecar_namespaces.empty()) return;
  const std::string& kubeconfig = from_cluster && !settings_.source.value.empty() ? settings_.source.value : settings_.kubeconfig;
  auto config = kubeconfig.empty() ? kube::in_cluster() : kube::from_kubeconfig(kubeconfig);
  auto client = config.and_then(
      [&](kube::Config& c) { return kube::Client::create(env_, std::move(c), kFieldManager, registry_); });
  if (client) {
    parts_.kube = std::move(*client);
  } else {
    kube_failure_ = client.error().message;
  }
}

std::unique_ptr<source::Source> Operator::build_source() {
  if (settings_.source.tag == "dir") {
    return std::make_unique<source::FolderSource>(loop_, source::FolderSourceOptions{.path = settings_.source.value});
  }
  if (!parts_.kube) return nullptr;
  auto source = std::make_unique<source::KubeSource>(env_, loop_, *parts_.kube, settings_.secret_namespaces, registry_);
  if (parts_.publisher) build_status(*source);
  return source;
}

void Operator::build_status(const source::KubeSource& source) {
  controller::ControllerOptions options;
  options.database_url = database_url_;
  options.submits = settings_.stripe == Stripe::kEnabled;
  options.is_leader = [this] { return is_leader(); };
  options.published = [this] { return parts_.publisher->status().published; };
  options.publication_error = [this] { return parts_.publisher->status().error; };
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  parts_.events = std::make_unique<kube::EventRecorder>(env_, *parts_.kube, kEventController, host, registry_);
  options.tell = [this](const kube::ResourceType& type, const kube::Object& object, kube::EventText text) {
    parts_.events->record(type, object, std::move(text));
  };
  parts_.controller = std::make_unique<controller::Controller>(env_, *parts_.kube, source, std::move(options), registry_);
}

bool Operator::build_api() {
  if (!settings_.api.listen) return true;
  const std::string& own = settings_.api.database_url.text;
  auto made = api::ApiServer::create(env_, own.empty() ? database_url_ : own, settings_.redis, settings_.api, registry_,
                                     parts_.history, parts_.payments.get(), own.empty() ? "" : database_url_);
  if (made) {
    parts_.api = std::move(*made);
    return true;
  }
  log::error("the API's settings cannot be used", {{"error", made.error().message}});
  return false;
}

void Operator::build_credentials() {
  credentials::CredentialsOptions options;
  options.namespaces = settings_.sidecar_namespaces;
  options.secret_name = settings_.admission.injector.credentials;
  options.redis = settings_.redis;
  if (settings_.sidecar_redis_url) options.sidecar_redis_url = settings_.sidecar_redis_url->text;
  options.is_leader = [this] { return is_leader(); };
  options.api_key_pepper = settings_.api_key_pepper;
  options.publication_keys = [keys = std::make_shared<publish::PublicationKeys>(
                                  env_, database_url_, settings_.publication_key_file)]() -> Result<std::string> {
    const auto now = keys->load();
    if (!now) return tl::unexpected(now.error());
    return now->public_pem();
  };
  parts_.credentials = std::make_unique<credentials::Credentials>(env_, *parts_.kube, std::move(options), registry_);
}

void Operator::warn_of_transports() const {
  if (settings_.redis.is_plain_off_this_machine()) log::warn("Redis is spoken to in plain text");
  for (const std::string& url : {database_url_, settings_.api.database_url.text}) {
    const std::string warning = url.empty() ? "" : ledger::transport_warning(url);
    if (!warning.empty()) log::warn(warning);
  }
}

int Operator::run() {
  if (!kube_failure_.empty()) {
    log::error("the API server cannot be used", {{"error", kube_failure_}});
    return config::kExitUsage;
  }
  if (!build_api()) return config::kExitUsage;
  SignalWatch signals(loop_, {SIGTERM, SIGINT}, [this](int number) {
    log::info("stopping", {{"signal", number}});
    if (parts_.api) parts_.api->announce_stop();  // readiness goes first
    loop_.stop();
  });
  auto admin = telemetry::AdminServer::start(settings_.telemetry, registry_, health_, env_);
  if (!admin) {
    log::error("the admin port cannot be opened", {{"error", admin.error().message}});
    return kExitFailure;
  }
  admin_ = std::move(*admin);
  log::info("listening", {{"admin", admin_->address()}, {"version", TALLYGATE_VERSION}});
  if (!ledger::armed_faults().empty()) log::warn("faults are armed", {{"faults", ledger::armed_faults()}});
  warn_of_transports();
  if (settings_.stripe == Stripe::kDisabled) log::warn("submission to Stripe is disabled; usage is kept");
  if (parts_.admission) parts_.admission->start();  // waits for neither the ledger nor Redis
  parts_.probe->start();
  loop_.run();
  ::alarm(kStopDeadlineS);
  stop_parts();
  log::info("stopped");
  return exit_code_;
}

void Operator::schema_checked(const Result<void>& answer) {
  if (answer) {
    start_parts();
    return;
  }
  log::error("the operator cannot work with this database", {{"error", answer.error().message}});
  exit_code_ = kExitFailure;
  loop_.stop();
}

void Operator::start_parts() {
  started_ = true;
  if (parts_.feed) {
    if (auto fed = parts_.feed->start(); !fed) {
      log::error("manifests cannot be watched", {{"error", fed.error().message}});
      exit_code_ = kExitFailure;
      loop_.stop();
    }
  }
  parts_.leadership->start();
  if (parts_.keeper) parts_.keeper->start();
  if (parts_.funder) parts_.funder->start();
  if (parts_.pump) parts_.pump->start();
  if (parts_.aggregator) parts_.aggregator->start();
  if (parts_.housekeeper) parts_.housekeeper->start();
  if (parts_.billing_metrics) parts_.billing_metrics->start();
  if (parts_.submitter) parts_.submitter->start();
  if (parts_.events_of_stripe) parts_.events_of_stripe->start();
  if (parts_.sweep) parts_.sweep->start();
  if (parts_.credentials) parts_.credentials->start();
  if (parts_.publisher) parts_.publisher->start();
  if (parts_.events) parts_.events->start();
  if (parts_.controller) parts_.controller->start();
  if (!parts_.api) return;
  if (auto listens = parts_.api->start(); !listens) {
    log::error("the API cannot listen", {{"error", listens.error().message}});
    exit_code_ = kExitFailure;
    loop_.stop();
  }
}

void Operator::stop_parts() {
  if (parts_.api) parts_.api->stop();
  if (parts_.feed) parts_.feed->stop();
  if (parts_.stripe) parts_.stripe->stop();
  if (started_) {
    if (parts_.sweep) parts_.sweep->stop();
    if (parts_.events_of_stripe) parts_.events_of_stripe->stop();
    if (parts_.controller) parts_.controller->stop();
    if (parts_.events) parts_.events->stop();
    if (parts_.publisher) parts_.publisher->stop();
    if (parts_.credentials) parts_.credentials->stop();
    if (parts_.submitter) parts_.submitter->stop();
    if (parts_.billing_metrics) parts_.billing_metrics->stop();
    if (parts_.housekeeper) parts_.housekeeper->stop();
    if (parts_.aggregator) parts_.aggregator->stop();
    if (parts_.pump) parts_.pump->stop();
    if (parts_.funder) parts_.funder->stop();
    if (parts_.keeper) parts_.keeper->stop();
    parts_.leadership->stop();
  }
  parts_.probe->stop();
  if (parts_.admission) parts_.admission->stop(kWebhookGraceMs);  // late: API servers call it as long as the pod is there
  admin_->stop();
}

}  // namespace tallygate::operator_main
