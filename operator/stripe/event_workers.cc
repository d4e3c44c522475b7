#include "operator/stripe/event_workers.h"

#include <algorithm>

#include "core/telemetry/log.h"
#include "operator/stripe/version.h"

namespace tallygate::stripe {
namespace {

constexpr char kListen[] = "listen tallygate_webhook_events";
constexpr int64_t kSlice_ms = 100;
constexpr int64_t kFailurePause_ms = 1'000;
constexpr int64_t kHour_ms = 3'600'000;
constexpr int64_t kDay_ns = int64_t{24} * 3600 * 1'000'000'000;
constexpr int64_t kDropLimit = 10'000;
constexpr int kNotFound = 404;

enum Column : size_t { kId, kType, kVerdict, kResult, kPath, kAttempts, kAgeMs, kTenant };

}  // namespace

EventWorkers::EventWorkers(Env& env, Client& client, EventWorkersOptions options, metrics::Registry& registry)
    : env_(env), client_(client), options_(std::move(options)) {
  const auto counter = [&](const char* result) {
    return registry.counter("tallygate_operator_webhook_done_total", "Events of Stripe by what became of them.",
                            {{"result", result}});
  };
  applied_ = counter("applied");
  ignored_ = counter("ignored");
  foreign_ = counter("foreign");
  faults_ = counter("fault");
  postponed_ = counter("postponed");
  failures_ = registry.counter("tallygate_operator_webhook_failures_total", "Turns of the workers that PostgreSQL failed.");
  fetched_ = registry.counter("tallygate_operator_webhook_objects_fetched_total", "Events whose object was asked for.");
  latency_ = registry.histogram("tallygate_operator_webhook_latency_seconds",
                                "From the moment that Stripe gives an event until what it says is in the ledger.",
                                {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86400});
  waiting_now_ = registry.gauge("tallygate_operator_webhook_waiting", "Events that wait or are worked on.");
  dead_now_ = registry.gauge("tallygate_operator_webhook_dead", "Events put aside for people.");
  oldest_ = registry.gauge("tallygate_operator_webhook_age_seconds", "Since the event that has waited longest came.");
}

EventWorkers::~EventWorkers() { stop(); }

void EventWorkers::start() {
  if (!threads_.empty()) return;
  stopping_ = false;
  for (int64_t i = 0; i < options_.workers; ++i) threads_.emplace_back([this] { run(); });
  threads_.emplace_back([this] { run_look(); });
}

void EventWorkers::stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

EventWorkers::Status EventWorkers::status() const {
  const std::lock_guard lock(mutex_);
  return {active_, completed_, dead_, waiting_, trouble_};
}

void EventWorkers::set_trouble(std::string trouble) {
  const std::lock_guard lock(mutex_);
  trouble_ = std::move(trouble);
}

void EventWorkers::pause(int64_t ms) {
  for (int64_t left = ms; left > 0 && !stopping_; left -= kSlice_ms) env_.sleep_ms(std::min(left, kSlice_ms));
}

void EventWorkers::run() {
  ledger::Session session(options_.database_url, kListen);
  while (!stopping_) {
    if (!options_.may_work()) {
      pause(options_.poll_ms);
      continue;
    }
    auto worked = work(session);
    if (worked && !*worked) worked = session.wait_notice(std::min(options_.poll_ms, kFailurePause_ms));
    if (worked) continue;
    failures_.add();
    static log::Throttle throttle(10);
    log::warn(throttle, "events of Stripe wait", {{"error", worked.error().message}});
    pause(kFailurePause_ms);
  }
}

Result<bool> EventWorkers::work(ledger::Session& session) {
  const auto rows = session.autocommit("select * from work_stripe_event($1, $2, $3)",
                                       {kApiVersion, options_.suspend_on_dispute, ledger::timestamp_text(env_.wall_ns())});
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty()) return false;
  if (rows->text(0, kVerdict) != "fetch") {
    tell_done(*rows);
    return true;
  }
  const Task task{std::string(rows->text(0, kId)), std::string(rows->text(0, kType)), std::string(rows->text(0, kPath)),
                  "", rows->integer(0, kAttempts)};
  ++active_;
  const auto done = fetch(session, task);
  --active_;
  if (!done) return tl::unexpected(done.error());
  return true;
}

// Between two transactions. A lost answer of the second is as if it had not been: a minute later the event is due again.
Result<void> EventWorkers::fetch(ledger::Session& session, const Task& task) {
  const auto reply = client_.get(task.path, client_.latest_ms());
  const std::string now = ledger::timestamp_text(env_.wall_ns());
  Result<ledger::Rows> told;
  if (reply && reply->ok()) {
    fetched_.add();
    told = session.exec("select fetched_stripe_event($1, $2, $3)", {task.id, reply->body, now});
  } else if (reply) {
    faults_.add();
    const std::string why = reply->status == kNotFound ? "Stripe does not know its object" : reply->message;
    log::warn("an event's object cannot be had", {{"event", task.id}, {"type", task.type}, {"error", why}});
    told = session.exec("select fault_stripe_event($1, $2, $3)", {task.id, why, now});
  } else {
    postponed_.add();
    const int64_t spread = std::min(options_.retry_cap_ms, options_.retry_base_ms << std::min<int64_t>(task.attempts, 20));
    const int64_t after_ms = spread / 2 + static_cast<int64_t>(env_.random_below(static_cast<uint64_t>(spread)));
    told = session.exec("select postpone_stripe_event($1, $2, $3, $4)", {task.id, reply.error().message, after_ms, now});
  }
  if (!told) return tl::unexpected(told.error());
  return {};
}

void EventWorkers::tell_done(const ledger::Rows& rows) {
  const std::string_view verdict = rows.text(0, kVerdict), result = rows.text(0, kResult);
  if (verdict == "postponed") {
    postponed_.add();
    static log::Throttle throttle(10);
    log::warn(throttle, "an event of Stripe waits: the ledger could not do it", {{"event", rows.text(0, kId)}, {"error", result}});
    return;
  }
  if (verdict != "done") {
    faults_.add();
    log::error(verdict == "dead" ? "an event of Stripe is put aside" : "an event of Stripe cannot be done",
               {{"event", rows.text(0, kId)}, {"type", rows.text(0, kType)}, {"error", result},
                {"remedy", "look at it: tallygate-operator stripe events show"}});
    return;
  }
  ++completed_;
  if (result == "ignored") return ignored_.add();
  if (result == "foreign") return foreign_.add();
  applied_.add();
  latency_.observe(static_cast<double>(std::max<int64_t>(0, rows.integer(0, kAgeMs))) / 1000);
  log::info("an event of Stripe is done", {{"event", rows.text(0, kId)},
                                           {"type", rows.text(0, kType)},
                                           {"tenant", rows.text(0, kTenant)},
                                           {"result", result}});
}

void EventWorkers::run_look() {
  ledger::Session session(options_.database_url);
  int64_t drop_ms = 0;
  while (!stopping_) {
    auto seen = look(session);
    if (seen && env_.mono_ms() >= drop_ms) {
      const auto dropped = session.exec(
          "select drop_old_stripe_events($1, $2)",
          {ledger::timestamp_text(env_.wall_ns() - options_.retention_days * kDay_ns), kDropLimit});
      if (dropped) drop_ms = env_.mono_ms() + (dropped->integer(0, 0) < kDropLimit ? kHour_ms : 0);
      if (!dropped) seen = tl::unexpected(dropped.error());
    }
    set_trouble(seen ? "" : seen.error().message);
    pause(options_.look_interval_ms);
  }
}

Result<void> EventWorkers::look(ledger::Session& session) {
  const auto rows = session.exec(
      "select o_waiting, o_active, o_dead, coalesce(extract(epoch from $1::timestamptz - o_oldest), 0)::bigint from "
      "stripe_queue()",
      {ledger::timestamp_text(env_.wall_ns())});
  if (!rows) return tl::unexpected(rows.error());
  waiting_ = rows->integer(0, 0);
  dead_ = rows->integer(0, 2);
  waiting_now_.set(static_cast<double>(rows->integer(0, 0) + rows->integer(0, 1)));
  dead_now_.set(static_cast<double>(rows->integer(0, 2)));
  oldest_.set(static_cast<double>(std::max<int64_t>(0, rows->integer(0, 3))));
  return {};
}

}  // namespace tallygate::stripe
