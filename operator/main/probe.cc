#include "operator/main/probe.h"

#include "core/redis_client/advice.h"
#include "core/redis_client/client.h"
#include "core/redis_contract/keys.h"
#include "operator/escrow/fitness.h"
#include "operator/ledger/migrator.h"
#include "operator/ledger/pooler.h"
#include "operator/main/connections.h"

namespace tallygate::operator_main {
namespace {

constexpr int64_t kIntervalMs = 1'000;
constexpr int64_t kTrialMs = 5'000;   // between two trials of a Redis that was fit
constexpr int64_t kCountMs = 10'000;  // between two counts of connections that were enough

constexpr std::string_view kPolicyField = "maxmemory_policy:";

// What this program keeps in sessions of the server would be in others' hands, and nothing would say so.
Result<void> refuse_poolers(const ProbeOptions& options) {
  if (Result<void> direct = ledger::refuse_pooler(options.database_url, "--database-url"); !direct) return direct;
  if (options.api_database_url.empty()) return {};
  return ledger::refuse_pooler(options.api_database_url, "--api-database-url", "; or give --api-database-pooled");
}

Result<void> prepare_schema(ledger::Session& session, bool migrate) {
  if (!migrate) return ledger::check_schema(session);
  const auto applied = ledger::migrate(session);
  if (!applied) return tl::unexpected<Error>(applied.error());
  for (const auto& name : *applied) log::info("migration applied", {{"migration", name}});
  return {};
}

// Whether waiting may help.
bool is_away(const Error& error) { return error.errc == Errc::kUnavailable || error.errc == Errc::kTimeout; }

// It is there, and does not do what it is asked: waiting alone does not help.
bool is_refusal(const Error& error) {
  return !is_away(error) || error.message.find(" refuses: ") != std::string::npos ||
         error.message.find(" refused: ") != std::string::npos;
}

}  // namespace

Eviction eviction_of(std::string_view info, std::string* policy) {
  const size_t at = info.find(kPolicyField);
  if (at == std::string_view::npos) return Eviction::kNothing;
  info.remove_prefix(at + kPolicyField.size());
  *policy = info.substr(0, info.find('\r'));
  if (policy->starts_with("volatile")) return Eviction::kExpiring;
  return *policy == "noeviction" ? Eviction::kNothing : Eviction::kAnything;
}

WatchedService::WatchedService(const std::string& name, metrics::Registry& registry)
    : name_(name),
      gauge_(registry.gauge("tallygate_operator_service_up", "1 while the service answers.", {{"service", name}})) {
  gauge_.set(0);
}

void WatchedService::set(const Result<void>& answer) {
  const bool was_up = up_.exchange(answer.has_value());
  gauge_.set(answer ? 1 : 0);
  {
    const std::lock_guard lock(mutex_);
    error_ = answer ? "" : answer.error().message;
  }
  if (answer && (!was_up || !told_)) log::info("service answers", {{"service", name_}});
  if (!answer) {
    const char* what = is_refusal(answer.error()) ? "service cannot be used as it is; asking it again"
                                                  : "service is away; waiting for it";
    log::warn(throttle_, what, {{"service", name_}, {"error", answer.error().message}});
  }
  told_ = true;
}

std::string WatchedService::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

Probe::Probe(Env& env, ProbeOptions options, std::function<void(Result<void>)> on_schema, metrics::Registry& registry)
    : env_(env),
      options_(std::move(options)),
      on_schema_(std::move(on_schema)),
      database_("database", registry),
      redis_("redis", registry),
      may_evict_(registry.gauge("tallygate_operator_redis_may_evict",
                                "What Redis may drop where its memory is full: 0 nothing, 1 keys that expire, 2 any.")),
      database_loop_(env),
      redis_loop_(env) {}

Probe::~Probe() { stop(); }

void Probe::start() {
  database_thread_ = std::thread([this] { watch_database(); });
  redis_thread_ = std::thread([this] { watch_redis(); });
}

void Probe::stop() {
  stopping_ = true;
  database_loop_.post([] {});
  redis_loop_.post([] {});
  if (database_thread_.joinable()) database_thread_.join();
  if (redis_thread_.joinable()) redis_thread_.join();
}

void Probe::pause(EventLoop& loop) {
  if (!stopping_) loop.run_once(kIntervalMs);
}

// Whoever leads looks more closely (escrow/ledger_watch.h); a standby, or an API alone, knows by this.
Result<void> Probe::ask_database(ledger::Session& session) {
  if (auto writes = ledger::check_writable(session); !writes) {
    session.close();  // of several servers, another one may be the primary by now
    return writes;
  }
  if (env_.mono_ms() >= next_count_ms_) look_at_connections(session);
  ledger::HistoryStore store(env_, session);
  const ledger::Mark known = options_.history->known();  // before the ledger is asked: others go on meanwhile
  auto past = store.look();
  if (!past) return tl::unexpected(past.error());
  if (Result<void> same = options_.history->read(*past); !same) return same;
  if (past->behind.empty() && past->mark < known) {
    past->behind = "it was at mark " + std::to_string(known.generation) + "." + std::to_string(known.mark) +
                   " when this process last saw it, and is at " + std::to_string(past->mark.generation) + "." +
                   std::to_string(past->mark.mark);
    if (auto told = store.found_behind(past->behind); !told) return tl::unexpected(told.error());
  }
  options_.history->set_behind(past->behind);
  return {};
}

void Probe::watch_database() {
  ledger::Session session(options_.database_url);
  bool schema_told = false;
  while (!stopping_) {
    Result<void> answer = schema_told ? ask_database(session) : refuse_poolers(options_);
    if (answer && !schema_told) answer = prepare_schema(session, options_.migrate);
    if (!schema_told && (answer || !is_away(answer.error()))) {
      on_schema_(answer);
      if (!answer) return;
      schema_told = true;
    }
    if (!answer && answer.error().message.find("max_connections") != std::string::npos) {
      answer.error().message += "; this operator needs " + std::to_string(options_.connections_needed);
    }
    database_.set(answer);
    pause(database_loop_);
  }
}

void Probe::look_at_connections(ledger::Session& session) {
  const auto lack = lack_of_connections(session, options_.connections_needed);
  if (!lack) {
    log::warn("connections cannot be counted", {{"error", lack.error().message}});
    next_count_ms_ = env_.mono_ms() + kCountMs;
    return;
  }
  if (lack->empty()) {
    had_connections_ = true;
    next_count_ms_ = env_.mono_ms() + kCountMs;
  }
  const std::lock_guard lock(mutex_);
  if (connections_fault_.empty() && !lack->empty()) log::warn("PostgreSQL has too few connections", {{"error", *lack}});
  connections_fault_ = *lack;
}

std::string Probe::connections_fault() const {
  const std::lock_guard lock(mutex_);
  return connections_fault_;
}

void Probe::watch_redis() {
  redis::Client client(env_, options_.redis);
  while (!stopping_) {
    redis_.set(ask_redis(client));
    pause(redis_loop_);
  }
}

Result<void> Probe::ask_redis(redis::Client& client) {
  const auto info = client.call({"INFO", "memory"});
  if (!info) return tl::unexpected(info.error());
  if (!info->is_error()) look_at_eviction(info->text);
  hear_ledger(client);
  if (!info->is_error() && fit_ && env_.mono_ms() < next_trial_ms_) return {};
  const auto why = escrow::unfit(client, fit_ ? escrow::Trial::kQuiet : escrow::Trial::kWhole);
  if (!why) return tl::unexpected(why.error());
  if (why->empty() && (!fit_ || !subscription_fault().empty())) look_at_subscription();
  fit_ = why->empty();
  next_trial_ms_ = env_.mono_ms() + kTrialMs;
  if (!fit_) return fail(Errc::kConflict, *why);
  return {};
}

// On a connection of its own: one that has subscribed takes no other commands.
void Probe::look_at_subscription() {
  redis::Client subscriber(env_, options_.redis);
  const auto answer = subscriber.call({"SUBSCRIBE", redis_contract::want_channel()});
  if (!answer) return;
  const std::string fault = answer->is_error() ? "sidecars' requests for units are heard up to a second late: " +
                                                     redis::with_advice(answer->text)
                                               : "";
  const std::lock_guard lock(mutex_);
  if (subscription_fault_.empty() && !fault.empty()) log::warn("Redis lets nobody subscribe", {{"error", fault}});
  subscription_fault_ = fault;
}

std::string Probe::subscription_fault() const {
  const std::lock_guard lock(mutex_);
  return subscription_fault_;
}

// How far the ledger was by what an operator has told Redis, so that a process which has just started does not serve
// from a backup. What sidecars claim is for the leader to judge.
void Probe::hear_ledger(redis::Client& client) {
  const auto told = redis::Client::check(client.call({"HMGET", redis_contract::ledger_key(0), "id", "gen", "mark"}));
  if (!told || told->elements.size() != 3 || told->elements[0].is_nil()) return;
  if (told->elements[0].text != options_.history->id()) return;  // another's, or this one is not read yet
  options_.history->heard({told->elements[1].to_integer(), told->elements[2].to_integer()});
}

void Probe::look_at_eviction(std::string_view info) {
  std::string policy;
  const Eviction now = eviction_of(info, &policy);
  {
    const std::lock_guard lock(mutex_);
    policy_ = std::move(policy);
  }
  const Eviction before = eviction_.exchange(now);
  may_evict_.set(static_cast<double>(now));
  if (now != Eviction::kNothing && now != before) {
    log::warn("Redis may drop what it must keep", {{"error", eviction_fault()}});
  }
}

std::string Probe::eviction_fault() const {
  const Eviction now = eviction();
  if (now == Eviction::kNothing) return "";
  const std::lock_guard lock(mutex_);
  return "maxmemory-policy is '" + policy_ + "': where memory is full Redis may drop " +
         (now == Eviction::kAnything ? "quota that is in use" : "what is left of a minute's or a second's limit") +
         "; set it to noeviction, in its configuration too";
}

}  // namespace tallygate::operator_main
