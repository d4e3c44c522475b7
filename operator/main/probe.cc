#include "operator/main/probe.h"

#include "core/redis_client/client.h"
#include "operator/ledger/migrator.h"

namespace tallygate::operator_main {
namespace {

constexpr int64_t kIntervalMs = 1'000;

Result<void> prepare_schema(ledger::Session& session, bool migrate) {
  if (!migrate) return ledger::check_schema(session);
  const auto applied = ledger::migrate(session);
  if (!applied) return tl::unexpected<Error>(applied.error());
  for (const auto& name : *applied) log::info("migration applied", {{"migration", name}});
  return {};
}

// Whether waiting may help.
bool is_away(const Error& error) { return error.errc == Errc::kUnavailable || error.errc == Errc::kTimeout; }

}  // namespace

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
    log::warn(throttle_, "service is away; waiting for it", {{"service", name_}, {"error", answer.error().message}});
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

void Probe::watch_database() {
  ledger::Session session(options_.database_url);
  bool schema_told = false;
  while (!stopping_) {
    Result<void> answer =
        schema_told ? session.exec("select 1").map([](const auto&) {}) : prepare_schema(session, options_.migrate);
    if (!schema_told && (answer || !is_away(answer.error()))) {
      on_schema_(answer);
      if (!answer) return;
      schema_told = true;
    }
    database_.set(answer);
    pause(database_loop_);
  }
}

void Probe::watch_redis() {
  redis::Client client(env_, options_.redis);
  while (!stopping_) {
    redis_.set(redis::Client::check(client.call({"PING"})).map([](const auto&) {}));
    pause(redis_loop_);
  }
}

}  // namespace tallygate::operator_main
