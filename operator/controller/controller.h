// Writes what is known of plans, tenants and policies into their statuses, tells people by Events, and lets go of
// tenants that are deleted once their last usage is in the ledger. Level-based: each round looks at everything that may
// have changed and writes what differs from what the API server has. Only the leader writes.
//
// Quiet: a condition or a state that changes is written at once, 50 a second in all; figures by steps of a percent, at
// most once a minute an object and ten a second in all; the worst state first. What does not differ is not written.
//
// A tenant gets the finalizer billing.tallygate.dev/final-usage once it is in force. When it is deleted, the source shows it
// no more, so that its requests are refused; ten seconds later, when all its usage is aggregated (five minutes at most), the
// finalizer goes. Where the source is not believed (SourceLost: the CRD is going, or most of the tenants at once) it goes at
// once, and the tenant stays in force.
//
// Threading: start() makes one thread, with a connection to the ledger of its own; observe() from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/telemetry/metrics.h"
#include "operator/controller/ledger_facts.h"
#include "operator/controller/observed.h"
#include "operator/kube/client.h"
#include "operator/source/kube_source.h"

namespace tallygate::controller {

inline constexpr char kFinalizer[] = "billing.tallygate.dev/final-usage";

struct ControllerOptions {
  std::string database_url;
  bool submits = true;  // usage goes to Stripe
  std::function<bool()> is_leader = [] { return true; };
  // What is in force by now; null: nothing yet. And why publication waits, empty: it does not.
  std::function<std::shared_ptr<const plan::Compiled>()> published;
  std::function<std::string()> publication_error;
  std::function<void(const kube::ResourceType&, const kube::Object&, kube::EventText)> tell;
};

class Controller {
 public:
  // `client` and `source` outlive it.
  Controller(Env& env, kube::Client& client, const source::KubeSource& source, ControllerOptions options,
             metrics::Registry& registry);
  ~Controller();
  void start();
  void stop();

  // The newest snapshot, and what is to be in force of it.
  void observe(const source::Snapshot& snapshot, std::shared_ptr<const plan::Compiled> compiled);

 private:
  struct Entry;
  struct Due;
  using Key = std::pair<source::Kind, kube::ObjectName>;

  void run();
  void round();
  void look();
  void ask_ledger();
  void cannot_ask(const Error& error);
  void reconcile(const Key& key, Entry& entry);
  void reconcile_ends();
  bool waits_for_usage(const Key& key, Entry& entry);
  void write(std::vector<Due> due);
  Result<void> write_status(const Key& key, Entry& entry);
  Result<void> hold(const Key& key, Entry& entry);
  Result<void> let_go(const Key& key, Entry& entry, const std::string& why);
  void report(const Key& key, Entry& entry, const Result<void>& done);

  Env& env_;
  kube::Client& client_;
  const source::KubeSource& source_;
  const ControllerOptions options_;
  LedgerFacts ledger_;
  EventLoop loop_;
  metrics::Counter writes_, failures_, ended_;
  metrics::Gauge pending_;
  std::atomic<bool> stopping_ = false;

  // Of the thread.
  Observed observed_;
  std::map<Key, Entry> entries_;
  std::array<std::shared_ptr<const kube::Reflector::Known>, 3> known_;
  std::map<std::string, TenantFacts> facts_;
  std::shared_ptr<const plan::Compiled> asked_of_;
  std::map<std::string, int64_t> ask_at_s_;  // tenants whose facts change by themselves then
  bool asked_all_ = false;
  int64_t asked_at_ms_ = 0, asked_all_at_ms_ = 0;
  std::string waits_for_;
  double news_tokens_ = 0, figure_tokens_ = 0;
  int64_t tokens_at_ms_ = 0;

  std::mutex mutex_;  // guards what follows
  source::Snapshot newest_;
  std::vector<InForce> offered_;  // oldest first; the first may be in force

  std::thread thread_;
};

}  // namespace tallygate::controller
