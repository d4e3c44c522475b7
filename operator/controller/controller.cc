#include "operator/controller/controller.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/telemetry/log.h"

namespace tallygate::controller {
namespace {

using Json = nlohmann::json;

constexpr int64_t kRound_ms = 200;
constexpr int64_t kRest = 3;  // times as long as a round took, before the next
constexpr int64_t kPending_ms = 1'000;  // what is published by then was never told to be pending
constexpr size_t kOfferedMax = 16;
constexpr int64_t kAsk_ms = 1'000;
constexpr int64_t kAskAll_ms = 600'000;
constexpr size_t kAskedAtOnce = 500;
constexpr int64_t kFigures_ms = 60'000;  // of one object
constexpr double kFiguresPerSecond = 10, kNewsPerSecond = 50, kNewsBurst = 100;
constexpr int64_t kRetryMin_ms = 1'000, kRetryMax_ms = 60'000;
constexpr int64_t kLastRecords_ms = 10'000;  // sidecars form records each second, and send them at once
constexpr int64_t kLastUsageMax_ms = 300'000;
constexpr char kNotBelieved[] = "the source is not believed: the tenant stays in force";

std::vector<std::string> finalizers_of(std::string_view object_json) {
  std::vector<std::string> names;
  const Json object = Json::parse(object_json, nullptr, false);
  if (!object.is_object()) return names;
  const auto list = object.value(Json::json_pointer("/metadata/finalizers"), Json::array());
  for (const auto& item : list) {
    if (item.is_string()) names.push_back(item.get<std::string>());
  }
  return names;
}

}  // namespace

struct Controller::Entry {
  kube::ObjectPtr object;
  Status written;  // as the API server has it
  std::vector<std::string> finalizers;
  bool seen = false, stale = true;
  Status desired;
  bool judged = false;
  Difference difference = Difference::kNone;
  int64_t pending_at_ms = 0;  // since when it is accepted and not yet in force; 0: it is not
  int64_t figures_at_ms = 0, not_before_ms = 0, retry_ms = kRetryMin_ms;
  // Of a tenant that is being deleted.
  int64_t gone_at_ms = 0;
  std::string let_go_why;

  bool holds() const { return std::find(finalizers.begin(), finalizers.end(), kFinalizer) != finalizers.end(); }
};

struct Controller::Due {
  Key key;
  int rank;  // the least first
  bool operator<(const Due& o) const { return std::tie(rank, key) < std::tie(o.rank, o.key); }
};

Controller::Controller(Env& env, kube::Client& client, const source::KubeSource& source, ControllerOptions options,
                       metrics::Registry& registry)
    : env_(env),
      client_(client),
      source_(source),
      options_(std::move(options)),
      ledger_(options_.database_url),
      loop_(env),
      writes_(registry.counter("tallygate_operator_status_writes_total", "Statuses written to the API server.")),
      failures_(registry.counter("tallygate_operator_status_write_failures_total", "Writes that failed; they are repeated.")),
      ended_(registry.counter("tallygate_operator_tenants_ended_total", "Deleted tenants that were let go.")),
      pending_(registry.gauge("tallygate_operator_status_writes_pending", "Objects whose status is to be written.")) {}

Controller::~Controller() { stop(); }

void Controller::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Controller::stop() {
  stopping_ = true;
  loop_.post([] {});
  if (thread_.joinable()) thread_.join();
}

void Controller::observe(const source::Snapshot& snapshot, std::shared_ptr<const plan::Compiled> compiled) {
  {
    const std::lock_guard lock(mutex_);
    newest_ = snapshot;
    // The same compiled set stands for the newest versions of what it was made of.
    if (compiled && !offered_.empty() && offered_.back().compiled == compiled) {
      offered_.back().accepted = snapshot.accepted;
    } else if (compiled) {
      offered_.push_back({snapshot.accepted, std::move(compiled)});
      // The first may be in force; of those that publication has passed over none ever will be.
      if (offered_.size() > kOfferedMax) offered_.erase(offered_.begin() + 1);
    }
  }
}

void Controller::run() {
  while (!stopping_) {
    const int64_t began_ms = env_.mono_ms();
    if (options_.is_leader()) {
      round();
    } else {
      // Another writes meanwhile, and asks the ledger.
      entries_.clear();
      facts_.clear();
      asked_all_ = false;
    }
    const int64_t took_ms = env_.mono_ms() - began_ms;
    loop_.run_once(std::max(kRound_ms, took_ms * kRest));
  }
}

void Controller::round() {
  look();
  ask_ledger();
  reconcile_ends();
  std::vector<Due> due;
  const int64_t now_ms = env_.mono_ms();
  for (auto& [key, entry] : entries_) {
    if (entry.object->deleting) {
      if (!entry.let_go_why.empty() && now_ms >= entry.not_before_ms) due.push_back({key, 0});
      continue;
    }
    if (entry.stale) reconcile(key, entry);
    if (!entry.judged || now_ms < entry.not_before_ms) continue;
    if (entry.pending_at_ms != 0 && now_ms < entry.pending_at_ms + kPending_ms) continue;
    const bool in_force = entry.desired.condition(kProgrammed)->status == Truth::kTrue;
    const int worst = entry.desired.state ? 4 - static_cast<int>(*entry.desired.state) : 5;
    if (entry.difference == Difference::kNews) {
      due.push_back({key, in_force ? 10 + worst : 1});
    } else if (key.first == source::Kind::kTenant && in_force && !entry.holds()) {
      due.push_back({key, 20});
    } else if (entry.difference == Difference::kFigures && now_ms >= entry.figures_at_ms) {
      due.push_back({key, 30 + worst});
    }
  }
  pending_.set(static_cast<double>(due.size()));
  write(std::move(due));
}

// Takes in what has changed: objects, the newest snapshot, what is in force.
void Controller::look() {
  source::Snapshot newest;
  InForce in_force;
  const auto published = options_.published();
  {
    const std::lock_guard lock(mutex_);
    newest = newest_;
    const auto found = std::find_if(offered_.begin(), offered_.end(), [&](const auto& o) { return o.compiled == published; });
    if (published && found != offered_.end()) {
      offered_.erase(offered_.begin(), found);
      in_force = offered_.front();
    } else {
      in_force = observed_.in_force();
    }
  }
  const std::string waits_for = options_.publication_error();
  const bool all_stale = newest.accepted != observed_.newest().accepted || !(in_force == observed_.in_force()) || waits_for != waits_for_;
  if (all_stale) {
    observed_ = Observed(std::move(newest), std::move(in_force));
    waits_for_ = waits_for;
  }
  bool any = all_stale;
  for (const auto kind : source::kKinds) {
    auto known = source_.known(kind);
    any = any || known != known_[static_cast<size_t>(kind)];
    known_[static_cast<size_t>(kind)] = std::move(known);
  }
  if (!any && !entries_.empty()) return;
  for (auto& [key, entry] : entries_) entry.seen = false;
  for (const auto kind : source::kKinds) {
    for (const auto& [name, object] : *known_[static_cast<size_t>(kind)]) {
      Entry& entry = entries_[{kind, name}];
      entry.seen = true;
      entry.stale = entry.stale || all_stale || entry.object != object;
      if (entry.object == object) continue;
      if (!entry.object || entry.object->uid != object->uid) entry = {};
      entry.seen = true;
      entry.object = object;
      entry.written = read_status(object->json);
      entry.finalizers = finalizers_of(object->json);
    }
  }
  std::erase_if(entries_, [](const auto& e) { return !e.second.seen; });
}

// Of all tenants in force at first and now and then, else of those with something new.
void Controller::ask_ledger() {
  const auto& compiled = observed_.in_force().compiled;
  const int64_t now_ms = env_.mono_ms(), now_s = env_.wall_s();
  if (!compiled || now_ms < asked_at_ms_ + kAsk_ms) return;
  asked_at_ms_ = now_ms;
  auto changed = ledger_.changed(now_ms);
  if (!changed) return cannot_ask(changed.error());
  if (compiled != asked_of_) {  // other limits, currencies, tenants: what was asked before says little
    asked_of_ = compiled;
    ask_at_s_.clear();
    std::erase_if(facts_, [&](const auto& fact) { return observed_.tenant(fact.first) == nullptr; });
  }
  std::vector<size_t> places;
  if (!asked_all_ || now_ms >= asked_all_at_ms_ + kAskAll_ms) {
    for (size_t i = 0; i < compiled->tenants.size(); ++i) places.push_back(i);
    asked_all_at_ms_ = now_ms;
  } else {
    for (const auto& id : *changed) {
      if (const size_t* place = observed_.tenant(id)) places.push_back(*place);
    }
    for (size_t i = 0; i < compiled->tenants.size(); ++i) {
      const auto found = ask_at_s_.find(compiled->tenants[i].id.str());
      if (found == ask_at_s_.end() || found->second <= now_s) places.push_back(i);
    }
  }
  asked_all_ = true;
  std::map<std::string, std::string> suspended;
  if (!places.empty()) {
    auto found = ledger_.suspended();
    if (!found) return cannot_ask(found.error());
    suspended = std::move(*found);
  }
  for (size_t from = 0; from < places.size(); from += kAskedAtOnce) {
    std::vector<LedgerFacts::Ask> asks;
    std::set<std::string> turned;
    for (size_t i = from; i < std::min(places.size(), from + kAskedAtOnce); ++i) {
      const auto& tenant = compiled->tenants[places[i]];
      LedgerFacts::Ask ask{tenant.id.str(), compiled->billing[places[i]].currency, {}};
      int64_t again_s = now_s + kAskAll_ms / 1'000;
      for (const auto& limit : tenant.limits) {
        const auto window = window_of(limit, now_s);
        if (!window) continue;
        ask.buckets.push_back(window->bucket);
        again_s = std::min(again_s, window->end_s);
      }
      // A window that is over shows another end, also where nothing was used.
      int64_t& ask_at_s = ask_at_s_[ask.tenant];
      if (ask_at_s <= now_s) turned.insert(ask.tenant);
      ask_at_s = again_s;
      asks.push_back(std::move(ask));
    }
    auto facts = ledger_.read(asks, suspended);
    if (!facts) return cannot_ask(facts.error());
    for (auto& [tenant, now] : *facts) {
      const std::string::size_type slash = tenant.find('/');
      const auto entry = entries_.find({source::Kind::kTenant, {tenant.substr(0, slash), tenant.substr(slash + 1)}});
      TenantFacts& known = facts_[tenant];
      if (entry != entries_.end() && (turned.contains(tenant) || !(known == now))) entry->second.stale = true;
      known = std::move(now);
    }
  }
}

void Controller::cannot_ask(const Error& error) {
  asked_all_ = false;
  ask_at_s_.clear();
  static log::Throttle throttle(1);
  log::warn(throttle, "the ledger cannot be asked for statuses", {{"error", error.message}});
}

void Controller::reconcile(const Key& key, Entry& entry) {
  entry.stale = false;
  const std::string& kind = source::type_of(key.first).kind;
  View view = observed_.view(kind + " " + key.second.str(), entry.object->generation);
  view.waits_for = waits_for_;
  auto status = judge(view);
  entry.judged = status.has_value();
  if (!status) return;
  if (key.first == source::Kind::kPlan) status->tenants = observed_.tenants_on(key.second.name);
  if (key.first == source::Kind::kPolicy) status->conflicts = observed_.conflicts(kind + " " + key.second.str());
  const size_t* place = key.first == source::Kind::kTenant ? observed_.tenant(key.second.str()) : nullptr;
  if (place != nullptr) {
    const auto& compiled = *observed_.in_force().compiled;
    const auto facts = facts_.find(key.second.str());
    if (facts == facts_.end()) {  // what was written of it stays until the ledger is asked
      status->state = entry.written.state;
      status->usage = entry.written.usage;
      status->balance = entry.written.balance;
      for (const auto& c : entry.written.conditions) {
        if (c.type == kBalanceHealthy || c.type == kBillingSynced || c.type == kPaymentCurrent) status->conditions.push_back(c);
      }
    }
    add_tenant(*status, compiled.tenants[*place], compiled.billing[*place], facts == facts_.end() ? nullptr : &facts->second,
               options_.submits, env_.wall_s());
  }
  set_times(*status, entry.written, env_.wall_s());
  const bool pending = status->condition(kProgrammed)->reason == kPending;
  entry.pending_at_ms = !pending ? 0 : entry.pending_at_ms != 0 ? entry.pending_at_ms : env_.mono_ms();
  entry.desired = std::move(*status);
  entry.difference = compare(entry.desired, entry.written);
}

// A tenant that is being deleted, and waits for us.
// Many may be deleted at once: the ledger is asked of all that wait for it together.
void Controller::reconcile_ends() {
  std::map<std::string, Entry*> waiting;
  for (auto& [key, entry] : entries_) {
    if (!entry.object->deleting || !waits_for_usage(key, entry)) continue;
    waiting[key.second.str()] = &entry;
    if (waiting.size() == kAskedAtOnce) break;
  }
  if (waiting.empty()) return;
  std::vector<std::string> names;
  for (const auto& [name, entry] : waiting) names.push_back(name);
  const auto settled = ledger_.settled(names);
  const int64_t now_ms = env_.mono_ms();
  for (auto& [name, entry] : waiting) {
    if (settled && settled->contains(name)) {
      entry->let_go_why = "requests are refused, and the last usage is in the ledger";
    } else if (settled && now_ms >= entry->gone_at_ms + kLastUsageMax_ms) {
      entry->let_go_why = "requests are refused; usage that is not aggregated yet is billed later";
    } else {
      entry->not_before_ms = now_ms + kAsk_ms;
    }
  }
}

// Whether the ledger is to be asked if the last usage of a deleted tenant has come. Says why it is let go where that needs no asking.
bool Controller::waits_for_usage(const Key& key, Entry& entry) {
  if (!entry.holds()) {
    entry.let_go_why.clear();
    return false;
  }
  if (!observed_.newest().lost.empty()) {
    entry.let_go_why = kNotBelieved;
    return false;
  }
  if (!observed_.in_force().compiled || observed_.tenant(key.second.str()) != nullptr) {
    entry.gone_at_ms = 0;
    entry.let_go_why.clear();
    return false;
  }
  const int64_t now_ms = env_.mono_ms();
  if (entry.let_go_why == kNotBelieved) entry.let_go_why.clear();  // and is now
  if (entry.gone_at_ms == 0) entry.gone_at_ms = now_ms;
  return entry.let_go_why.empty() && now_ms >= entry.gone_at_ms + kLastRecords_ms && now_ms >= entry.not_before_ms;
}

void Controller::write(std::vector<Due> due) {
  const int64_t began_ms = env_.mono_ms();
  const double passed_s = tokens_at_ms_ == 0 ? 1 : static_cast<double>(began_ms - tokens_at_ms_) / 1'000;
  tokens_at_ms_ = began_ms;
  news_tokens_ = std::min(kNewsBurst, news_tokens_ + passed_s * kNewsPerSecond);
  figure_tokens_ = std::min(kFiguresPerSecond, figure_tokens_ + passed_s * kFiguresPerSecond);
  std::sort(due.begin(), due.end());
  for (const auto& [key, rank] : due) {
    double& tokens = rank >= 30 ? figure_tokens_ : news_tokens_;
    if (tokens < 1) continue;
    if (stopping_ || !options_.is_leader()) return;
    tokens -= 1;
    Entry& entry = entries_.at(key);
    if (rank == 0) {
      report(key, entry, let_go(key, entry, entry.let_go_why));
    } else if (rank == 20) {
      report(key, entry, hold(key, entry));
    } else {
      report(key, entry, write_status(key, entry));
    }
  }
}

Result<void> Controller::write_status(const Key& key, Entry& entry) {
  const auto& type = source::type_of(key.first);
  const auto done = client_.apply(
      type, key.second, to_json(entry.desired, type.kind, key.second.name_space, key.second.name, entry.object->uid),
      {.subresource = "status"});
  if (!done) return tl::unexpected<Error>(done.error());
  writes_.add();
  for (auto& text : events(entry.written, entry.desired)) options_.tell(type, *entry.object, std::move(text));
  if (entry.difference == Difference::kFigures) entry.figures_at_ms = env_.mono_ms() + kFigures_ms;
  entry.written = entry.desired;
  entry.difference = Difference::kNone;
  return {};
}

Result<void> Controller::hold(const Key& key, Entry& entry) {
  const auto& type = source::type_of(key.first);
  const Json body = {{"apiVersion", type.group + "/" + type.version},
                     {"kind", type.kind},
                     {"metadata",
                      {{"name", key.second.name},
                       {"namespace", key.second.name_space},
                       {"uid", entry.object->uid},
                       {"finalizers", {kFinalizer}}}}};
  const auto done = client_.apply(type, key.second, body.dump(), {});
  if (!done) return tl::unexpected<Error>(done.error());
  entry.finalizers.push_back(kFinalizer);
  return {};
}

Result<void> Controller::let_go(const Key& key, Entry& entry, const std::string& why) {
  const auto& type = source::type_of(key.first);
  if (auto noted = ledger_.note_end(key.second.str(), entry.object->uid, why, env_.wall_ns()); !noted) return noted;
  Json others = Json::array();
  for (const auto& name : entry.finalizers) {
    if (name != kFinalizer) others.push_back(name);
  }
  const Json body = {{"metadata", {{"resourceVersion", entry.object->resource_version}, {"finalizers", others}}}};
  const auto done = client_.merge_patch(type, key.second, body.dump());
  if (!done) return tl::unexpected<Error>(done.error());
  std::erase(entry.finalizers, kFinalizer);
  options_.tell(type, *entry.object, {kube::EventText::Type::kNormal, "Ended", "Delete", why});
  log::info("a deleted tenant is let go", {{"tenant", key.second.str()}, {"reason", why}});
  ended_.add();
  return {};
}

void Controller::report(const Key& key, Entry& entry, const Result<void>& done) {
  if (done) {
    entry.retry_ms = kRetryMin_ms;
    return;
  }
  failures_.add();
  entry.not_before_ms = env_.mono_ms() + entry.retry_ms;
  entry.retry_ms = std::min(kRetryMax_ms, entry.retry_ms * 2);
  // It has changed meanwhile, or is gone: the watch tells.
  if (done.error().errc == Errc::kConflict || done.error().errc == Errc::kNotFound) return;
  static log::Throttle throttle(2);
  log::warn(throttle, "a status cannot be written",
            {{"object", source::type_of(key.first).kind + " " + key.second.str()}, {"error", done.error().message}});
}

}  // namespace tallygate::controller
