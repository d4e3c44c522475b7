#include "operator/jobs/housekeeper.h"

#include <algorithm>

#include "core/telemetry/log.h"

namespace tallygate::jobs {
namespace {

constexpr int64_t kRetryMs = 5'000;
constexpr int64_t kDayNs = int64_t{24} * 3600 * 1'000'000'000;
constexpr size_t kDifferencesLogged = 20;
constexpr const char* kJobs[] = {"expire", "settle", "write off", "audit", "retain", "drop quotes", "trim leases"};

}  // namespace

Housekeeper::Housekeeper(Env& env, std::string database_url, HousekeeperOptions options,
                         std::function<bool()> is_leader, metrics::Registry& registry)
    : env_(env), options_(options), is_leader_(std::move(is_leader)), session_(std::move(database_url)), loop_(env) {
  for (const char* job : kJobs) standings_.try_emplace(job, env);
  expired_ = registry.counter("tallygate_operator_reservations_expired_total", "Holds freed because they expired.");
  settled_ = registry.counter("tallygate_operator_unpaid_calls_settled_total", "Providers' calls charged after all.");
  unpaid_ = registry.gauge("tallygate_operator_unpaid_calls", "Providers' calls that took place and could not be charged yet.");
  written_off_ = registry.counter("tallygate_operator_floats_written_off_total",
                                  "Wallets' floats of ended epochs whose rest nobody reported: their money is free again.");
  dropped_ = registry.counter("tallygate_operator_usage_partitions_dropped_total", "Partitions past their retention.");
  quotes_dropped_ = registry.counter("tallygate_operator_quotes_dropped_total", "Old quotes that nothing was charged at.");
  leases_trimmed_ = registry.counter("tallygate_operator_ledger_lease_notes_dropped_total",
                                     "Notes of ledger leases of past epochs of which nothing was left.");
  failures_ = registry.counter("tallygate_operator_job_failures_total", "Runs of periodic jobs that failed.");
  audits_ = registry.counter("tallygate_operator_ledger_audits_total", "Audits of the ledger that ran to the end.");
  differences_ = registry.gauge("tallygate_operator_ledger_differences", "Differences that the last audit found; 0 or an alert.");
}

Housekeeper::~Housekeeper() { stop(); }

void Housekeeper::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Housekeeper::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  loop_.post([] {});
  thread_.join();
}

Result<int64_t> Housekeeper::expire() {
  int64_t total = 0;
  while (true) {
    const auto rows = session_.exec("select count(*) from cleanup_expired_reservations($1, $2)",
                                    {ledger::timestamp_text(env_.wall_ns()), options_.expiry_batch});
    if (!rows) return tl::unexpected<Error>(rows.error());
    const int64_t freed = rows->integer(0, 0);
    total += freed;
    expired_.add(static_cast<double>(freed));
    if (freed < options_.expiry_batch || stopping_) return total;
  }
}

Result<int64_t> Housekeeper::settle() {
  const auto rows = session_.exec("select count(*) from settle_unpaid_calls($1, $2)",
                                  {ledger::timestamp_text(env_.wall_ns()), options_.settle_batch});
  if (!rows) return tl::unexpected<Error>(rows.error());
  settled_.add(static_cast<double>(rows->integer(0, 0)));
  const auto left = session_.exec("select count(*) from provider_calls where status = 'unpaid'");
  if (!left) return tl::unexpected<Error>(left.error());
  unpaid_.set(static_cast<double>(left->integer(0, 0)));
  return rows->integer(0, 0);
}

Result<int64_t> Housekeeper::write_off() {
  const int64_t now_ns = env_.wall_ns();
  const auto rows = session_.exec(
      "select tenant, bucket, epoch, units, currency, amount_micros from write_off_floats($1, $2, $3)",
      {ledger::timestamp_text(now_ns - options_.write_off_after_ms * 1'000'000), options_.write_off_batch,
       ledger::timestamp_text(now_ns)});
  if (!rows) return tl::unexpected<Error>(rows.error());
  written_off_.add(static_cast<double>(rows->size()));
  for (size_t i = 0; i < rows->size(); ++i) {
    log::warn("float of an ended epoch is written off: its money is free again", {{"tenant", rows->text(i, 0)},
                                                                                  {"bucket", rows->text(i, 1)},
                                                                                  {"epoch", rows->text(i, 2)},
                                                                                  {"units", rows->text(i, 3)},
                                                                                  {"currency", rows->text(i, 4)},
                                                                                  {"amount_micros", rows->text(i, 5)}});
  }
  return static_cast<int64_t>(rows->size());
}

Result<int64_t> Housekeeper::retain() {
  const auto rows = session_.exec("select drop_old_usage_partitions($1)",
                                  {ledger::timestamp_text(env_.wall_ns() - options_.retention_days * kDayNs)});
  if (!rows) return tl::unexpected<Error>(rows.error());
  dropped_.add(static_cast<double>(rows->integer(0, 0)));
  return rows->integer(0, 0);
}

Result<int64_t> Housekeeper::drop_quotes() {
  int64_t total = 0;
  while (true) {
    const auto rows = session_.exec("select * from drop_unused_quotes($1, $2, $3, $4)",
                                    {ledger::timestamp_text(env_.wall_ns() - options_.quote_retention_days * kDayNs),
                                     quotes_seen_at_, quotes_seen_id_, options_.trim_batch});
    if (!rows) return tl::unexpected<Error>(rows.error());
    enum Column : size_t { kSeen, kDropped, kExpiresAt, kId };
    total += rows->integer(0, kDropped);
    quotes_dropped_.add(static_cast<double>(rows->integer(0, kDropped)));
    if (rows->integer(0, kSeen) == 0) return total;
    quotes_seen_at_ = rows->text(0, kExpiresAt);
    quotes_seen_id_ = rows->text(0, kId);
    if (rows->integer(0, kSeen) < options_.trim_batch || stopping_) return total;
  }
}

Result<int64_t> Housekeeper::trim_leases() {
  int64_t total = 0;
  while (true) {
    const auto rows = session_.exec("select trim_ledger_leases($1)", {options_.trim_batch});
    if (!rows) return tl::unexpected<Error>(rows.error());
    const int64_t trimmed = rows->integer(0, 0);
    total += trimmed;
    leases_trimmed_.add(static_cast<double>(trimmed));
    if (trimmed < options_.trim_batch || stopping_) return total;
  }
}

// A difference is told of and counted, never mended here: what is right is for a person to say.
Result<int64_t> Housekeeper::audit() {
  const auto rows = session_.exec(
      "select check_name, coalesce(tenant, ''), coalesce(commodity, ''), expected::text, actual::text, detail from ledger_audit()");
  if (!rows) return tl::unexpected<Error>(rows.error());
  differences_.set(static_cast<double>(rows->size()));
  audits_.add();
  for (size_t i = 0; i < std::min(rows->size(), kDifferencesLogged); ++i) {
    log::error("ledger difference", {{"check", rows->text(i, 0)},
                                     {"tenant", rows->text(i, 1)},
                                     {"commodity", rows->text(i, 2)},
                                     {"expected", rows->text(i, 3)},
                                     {"actual", rows->text(i, 4)},
                                     {"detail", rows->text(i, 5)}});
  }
  return static_cast<int64_t>(rows->size());
}

std::optional<Standing::Trouble> Housekeeper::trouble() const {
  for (const auto& [job, standing] : standings_) {
    auto trouble = standing.trouble();
    if (!trouble) continue;
    trouble->why.insert(0, "\"" + job + "\": ");
    return trouble;
  }
  return std::nullopt;
}

void Housekeeper::attempt(Job& job) {
  const auto done = (this->*job.run)();
  job.next_ms = env_.mono_ms() + (done ? job.interval_ms : std::min(kRetryMs, job.interval_ms));
  Standing& standing = standings_.at(job.name);
  done ? standing.succeeded() : standing.failed(done.error().message);
  if (done) return;
  failures_.add();
  static log::Throttle throttle(10);
  log::warn(throttle, "periodic job failed", {{"job", job.name}, {"error", done.error().message}});
}

void Housekeeper::run() {
  Job jobs[] = {{kJobs[0], options_.expiry_interval_ms, &Housekeeper::expire},
                {kJobs[1], options_.settle_interval_ms, &Housekeeper::settle},
                {kJobs[2], options_.write_off_interval_ms, &Housekeeper::write_off},
                {kJobs[3], options_.audit_interval_ms, &Housekeeper::audit},
                {kJobs[4], options_.retention_interval_ms, &Housekeeper::retain},
                {kJobs[5], options_.retention_interval_ms, &Housekeeper::drop_quotes},
                {kJobs[6], options_.retention_interval_ms, &Housekeeper::trim_leases}};
  while (!stopping_) {
    for (Job& job : jobs) {
      if (!stopping_ && is_leader_() && env_.mono_ms() >= job.next_ms) attempt(job);
    }
    loop_.run_once(500);
  }
}

}  // namespace tallygate::jobs
