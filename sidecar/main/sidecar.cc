#include "sidecar/main/sidecar.h"

#include "core/telemetry/log.h"
#include "sidecar/log/kept.h"
#include "sidecar/main/refusal_log.h"

namespace tallygate::sidecar {
namespace {

constexpr int64_t kCommitMs = 1000;
constexpr int64_t kWatchMs = 100;
constexpr int64_t kRemindS = 10;
constexpr int64_t kExamineEveryNs = 500'000'000;
constexpr int64_t kForgetEveryNs = 60'000'000'000;
constexpr int64_t kForgetAfterS = 3600;  // totals of a window serve to return its units: of no use once it is over
constexpr const char* kAsideRemedy = "look at what is left in it, and move it away";

}  // namespace

Sidecar::Sidecar(EventLoop& loop, LedgerClock& clock, Settings settings)
    : loop_(loop), clock_(clock), settings_(std::move(settings)) {}

Result<std::unique_ptr<Sidecar>> Sidecar::create(EventLoop& loop, LedgerClock& clock, Settings settings) {
  std::unique_ptr<Sidecar> s(new Sidecar(loop, clock, std::move(settings)));
  // Before anything is left behind on the disk.
  const std::string listen = config::to_string(s->settings_.listen);
  if (auto found = proxy::look_up(listen); !found) return tl::unexpected(found.error());
  if (auto opened = s->folder_.open(s->settings_.data_dir); !opened) return tl::unexpected(opened.error());
  const std::string boot_id = kernel_boot_id();
  if (auto recovered = s->recover(boot_id); !recovered) return tl::unexpected(recovered.error());
  const std::string incarnation = s->settings_.pod + "." + clock.random_hex(6);
  auto made = UsageLog::create(s->folder_.incarnation_folder(incarnation), {incarnation, boot_id, s->settings_.pod},
                               log_limits(s->settings_));
  if (!made) return tl::unexpected(made.error());
  s->log_ = std::move(*made);

  auto endpoint = redis_endpoint(s->settings_);
  if (!endpoint) return tl::unexpected(endpoint.error());
  s->redis_ = std::make_unique<redis::Connection>(loop, *endpoint);
  s->notices_ = std::make_unique<redis::Connection>(loop, *endpoint);
  s->redis_login_ = std::make_unique<RedisLogin>(s->settings_.redis_url_path, *endpoint);
  if (s->settings_.ledger_url) {
    s->ledger_client_ = std::make_unique<LedgerClient>(loop, ledger_endpoint(s->settings_));
    s->ledger_ = std::make_unique<LedgerLeases>(loop, *s->ledger_client_, s->log_->folder(), incarnation);
  }
  s->escrow_ = std::make_unique<Escrow>(loop, *s->redis_, *s->log_, EscrowOptions{}, s->ledger_.get());
  s->courier_ = std::make_unique<Courier>(loop, *s->redis_, *s->escrow_);
  s->handover_ = std::make_unique<Handover>(loop, *s->redis_, *s->escrow_, *s->courier_, s->ledger_.get());
  s->handover_->keep_booked(s->settings_.keep_booked_ms > 0);
  s->memory_ = std::make_unique<LedgerMemory>(s->folder_.path());
  s->escrow_->know(s->memory_->mark());
  s->claims_ = std::make_unique<Claims>(*s->redis_, *s->escrow_, *s->log_, *s->handover_, s->folder_);
  s->trust_ = std::make_unique<Trust>(loop, s->settings_.publication_key_file);
  s->directory_ =
      std::make_unique<Directory>(loop, *s->redis_, *s->notices_, *s->trust_, s->settings_.policy_id(),
                                              s->settings_.api_key_pepper);
  s->admission_ =
      std::make_unique<Admission>(loop, *s->directory_, *s->escrow_, *s->log_, s->spent_before_,
                                  s->settings_.policy.space, AdmissionOptions{s->settings_.admission_wait_ms});
  proxy::Options options = s->settings_.proxy;
  options.listen = listen;
  options.upstream = s->settings_.upstream;
  options.gate_response_headers = {"ratelimit",         "ratelimit-policy",
                                   "x-ratelimit-limit", "x-ratelimit-remaining",
                                   "x-ratelimit-reset", "x-tallygate-cap-state"};
  options.on_refusal = [&loop, refusals = std::make_shared<RefusalLog>()](const proxy::Refusal& refusal) {
    refusals->note(refusal, loop.now_ns());
  };
  auto proxy = proxy::Proxy::create(loop, std::move(options), *s->admission_);
  if (!proxy) return tl::unexpected(proxy.error());
  s->proxy_ = std::move(*proxy);
  s->app_known_.store(proxy::parse_address(s->settings_.upstream).has_value());
  if (!s->app_known_.load()) {
    s->resolver_ = std::make_unique<UpstreamResolver>(
        s->settings_.upstream, [p = s->proxy_.get()] { return p->counters().upstream_connect_failures.get(); });
  }
  return s;
}

Sidecar::~Sidecar() {
  loop_.cancel(commit_timer_);
  loop_.cancel(watch_timer_);
  loop_.cancel(drain_timer_);
  syncer_.stop();
}

Result<void> Sidecar::recover(const std::string& boot_id) {
  for (const std::string& folder : folder_.incarnations()) {
    auto found = Predecessor::recover(folder, boot_id);
    if (!found && found.error().errc == Errc::kNotFound) {
      DataFolder::remove(folder);  // its head was never finished: nothing was admitted through it
      continue;
    }
    if (!found) return tl::unexpected(found.error());
    Predecessor& p = **found;
    recovered_.fetch_add(p.recovered_admissions());
    log::info("predecessor recovered", {{"incarnation", p.incarnation()},
                                        {"records", p.outbox().size()},
                                        {"admissions_without_record", p.recovered_admissions()},
                                        {"torn", p.torn()},
                                        {"damage", p.damage()}});
    if (p.unread()) {
      log::error("a predecessor's usage cannot be read: its folder is set aside as aside-inc-…, and not billed",
                 {{"folder", folder}, {"damage", p.damage()}, {"remedy", kAsideRemedy}});
      DataFolder::set_aside(folder);
      continue;
    }
    for (const auto& [key, units] : p.spent()) {
      if (key.first == 0) spent_before_[key] += units;
    }
    predecessors_.push_back(std::move(*found));
  }
  aside_.store(folder_.aside().size());
  return {};
}

Result<void> Sidecar::start() {
  courier_->add_live(&log_->outbox(), log_->folder(), [this] { log_->trim(); });
  escrow_->on_behind([this](int shard) { claims_->tell(shard); });
  admission_->on_resume([this](proxy::Ticket ticket) { proxy_->resume(ticket); });
  admission_->on_logged([this] { courier_->kick(); });
  if (ledger_) {
    ledger_->on_version([this](const std::string& tenant) { return directory_->version_of(tenant); });
    ledger_->on_answer([this](const std::string& tenant, const LeaseAnswer& answer) {
      directory_->confirm(tenant, answer.suspended, answer.tenant);
    });
  }
  escrow_->on_time([this](int64_t ledger_ns, int64_t sent_ns, int64_t received_ns) {
    clock_.heard(ledger_ns, sent_ns, received_ns);
  });
  directory_->on_fault([](const std::string& what) { log::error("published document refused", {{"error", what}}); });
  redis_->on_change([this](bool up) {
    redis_up_.store(up);
    if (up)
      log::info("Redis connected", {{"redis", settings_.redis_url.redacted()}});
    else
      log::warn("Redis lost; going on with the leases held, then the ledger's, then onUnavailable",
                {{"error", redis_->last_error()}, {"ledger", ledger_ != nullptr}});
    if (!up) return;
    directory_->refresh();
    courier_->kick();
  });
  handover_->on_outdated([this](const Predecessor& predecessor) { condemn(predecessor); });
  for (auto& predecessor : predecessors_) {
    if (predecessor->torn() && !predecessor->is_copy()) {
      for (const auto& [shard, queue] : predecessor->outbox().shards()) {
        if (auto told = log_->report_torn(shard, predecessor->incarnation()); !told) return told;
      }
    }
    handover_->take(std::move(predecessor));
  }
  predecessors_.clear();
  syncer_.start();
  redis_->start();
  escrow_->start();
  escrow_->epoch(0);  // heard of each second also by those that serve nobody: they too remember how far the ledger is
  courier_->start();
  directory_->start();
  if (resolver_) find_app();
  watch();
  commit_timer_ = loop_.after_ms(kCommitMs, [this] { commit(); });
  // Nobody is let in before it is known what to ask of them and which time it is, and what predecessors left unspent is
  // there again; but not for ever, lest a Redis that is away look like a process that hangs.
  const int64_t until_ms = loop_.env().mono_ms() + settings_.admission_wait_ms;
  while ((directory_->policy() == nullptr || handover_->returning() > 0 || !app_known_.load() || !clock_.known()) &&
         loop_.env().mono_ms() < until_ms) {
    loop_.run_once(5);
  }
  return proxy_->start();
}

// Its folder is an older copy of itself: the ledger has booked more of it than its log knows of.
void Sidecar::condemn(const Predecessor& predecessor) {
  log::error(
      "a predecessor's log is older than what the ledger has booked of it: an older copy was put in its place. What it "
      "had leased stays on hold until its windows end",
      {{"incarnation", predecessor.incarnation()}, {"folder", predecessor.folder()}});
  for (const auto& [shard, queue] : predecessor.outbox().shards()) {
    if (auto told = log_->report_torn(shard, predecessor.incarnation()); !told) {
      log::error("the ledger cannot be told of a torn log", {{"error", told.error().message}});
      return;
    }
  }
}

void Sidecar::find_app() {
  resolver_->start(
      [this](const proxy::Address& address) {
        loop_.post([this, address] {
          proxy_->set_upstream(address);
          app_known_.store(true);
          log::info("app found", {{"upstream", settings_.upstream}, {"address", proxy::to_string(address.get())}});
        });
      },
      [this](const Error& error) {
        static log::Throttle throttle(kRemindS);
        log::warn(throttle, "the app's address cannot be looked up",
                  {{"upstream", settings_.upstream},
                   {"error", error.message},
                   {"in_use", app_known_.load() ? "the last one known" : "none"}});
      });
}

// Each second: records of what was settled, out to the courier, and down to the disk.
void Sidecar::commit() {
  commit_timer_ = loop_.after_ms(kCommitMs, [this] { commit(); });
  remember_ledger();
  const bool pending = log_->settled_pending();
  const auto committed = log_->commit_batch();
  commit_failing_.store(!committed, std::memory_order_relaxed);
  if (!committed) {
    commit_failures_.fetch_add(1, std::memory_order_relaxed);
    static log::Throttle throttle(10);
    log::error(throttle, "usage cannot be written; kept and tried again", {{"error", committed.error().message}});
    return;
  }
  if (loop_.now_ns() - forgot_ns_ > kForgetEveryNs) {
    forgot_ns_ = loop_.now_ns();
    log_->forget_ended(clock_.wall_s() - kForgetAfterS);
    aside_.store(folder_.aside().size());
    kept_bytes_.store(
        sweep_kept(folder_.path(), {settings_.keep_booked_ms / 1000, settings_.keep_booked_bytes}, clock_.wall_s()));
  }
  if (!pending && log_->in_flight() == 0) return;
  courier_->kick();
  syncer_.submit(log_->duplicate_descriptors());
}

// What is admitted must survive a kill: a folder that no successor would find takes nothing more. Put back (a mount, a
// rename) it goes on; otherwise a restart is needed, for which a liveness probe sees /health.
void Sidecar::examine_log() {
  examined_ns_ = loop_.now_ns();
  const auto sound = log_->examine(folder_.check());
  const LogState state = sound                                   ? LogState::kSound
                         : sound.error().errc == Errc::kConflict ? LogState::kGone
                                                                 : LogState::kFull;
  const LogState before = log_state_.exchange(state);
  if (sound) {
    if (before != state) log::info("the data folder can be written again");
    return;
  }
  static log::Throttle gone(10), full(10);
  if (state == LogState::kGone) {
    log::error(gone, "the data folder was deleted or replaced: nothing more is admitted",
               {{"error", sound.error().message},
                {"remedy", "put it back, or restart this process: at its end it sends what it still knows"}});
  } else {
    log::error(full, "the data folder takes no more: not ready", {{"error", sound.error().message}});
  }
}

void Sidecar::put_away(const std::string& folder) const {
  if (settings_.keep_booked_ms > 0)
    DataFolder::keep(folder);
  else
    DataFolder::remove(folder);
}

// Each second: how far the ledger is. A generation that is new here may lack what finished incarnations had booked.
void Sidecar::remember_ledger() {
  const LedgerMark& ledger = escrow_->ledger();
  // Of another ledger's recoveries this folder's records are none of its business.
  const bool same = memory_->mark().id.empty() || memory_->mark().id == ledger.id;
  note(memory_->remember(ledger, same ? memory_->resent() : ledger.generation));
  if (ledger.generation <= std::max(memory_->resent(), resending_)) return;
  resending_ = ledger.generation;
  handover_->resend(folder_.kept(), [this, generation = ledger.generation] {
    note(memory_->remember(escrow_->ledger(), std::max(memory_->resent(), generation)));
  });
}

// It is tried again each second; others remember the ledger's mark too.
void Sidecar::note(const Result<void>& remembered) {
  memory_failing_.store(!remembered);
  if (remembered) return;
  static log::Throttle throttle(kRemindS);
  log::error(throttle, "how far the ledger is cannot be remembered: a restart would not know it",
             {{"error", remembered.error().message}});
}

void Sidecar::watch() {
  watch_timer_ = loop_.after_ms(kWatchMs, [this] { watch(); });
  if (loop_.now_ns() - examined_ns_ > kExamineEveryNs) examine_log();
  if (const auto login = redis_login_->look(loop_.now_ns())) {
    redis_->set_login(login->user, login->password);
    notices_->set_login(login->user, login->password);
    log::info("Redis' user or password has changed: the next connection uses it", {{"redis", login->display()}});
  }
  if (directory_->policy() != nullptr && !policy_known_.exchange(true)) {
    log::info("policy in force", {{"policy", settings_.policy_id()}, {"version", directory_->policy()->version}});
  }
  if (!policy_known_.load() && proxy_->port() != 0) {
    static log::Throttle throttle(kRemindS);
    log::warn(throttle, "requests are refused: there is no policy",
              {{"missing", no_policy()}, {"redis", settings_.redis_url.redacted()}});
  }
  if (ledger_) {
    ledger_up_.store(ledger_->answers(), std::memory_order_relaxed);
    if (!ledger_->answers() && !redis_up_.load()) {
      static log::Throttle throttle(10);
      log::warn(throttle, "nothing can be leased: Redis is away, and the ledger does not answer",
                {{"error", ledger_->last_error()}});
    }
  }
  {
    const std::lock_guard lock(stalled_mutex_);
    redis_stalled_ = escrow_->stalled();
    redis_error_ = redis_->connected() ? "" : redis_->last_error();
  }
  if (const std::string fault = clock_.machine_fault(); !fault.empty()) {
    static log::Throttle throttle(60);
    log::warn(throttle, "a clock is wrong", {{"error", fault}});
  }
  ledger_behind_.store(escrow_->ledger_behind(), std::memory_order_relaxed);
  if (escrow_->ledger_behind()) {
    static log::Throttle throttle(10);
    log::warn(throttle,
              "the ledger has gone back to a backup; going on with the leases held, then onUnavailable, until it is "
              "recovered");
  }
  tenants_.store(directory_->tenants(), std::memory_order_relaxed);
  purses_.store(escrow_->purses(), std::memory_order_relaxed);
  segments_.store(log_->segments(), std::memory_order_relaxed);
  in_flight_.store(log_->in_flight(), std::memory_order_relaxed);
  waiting_.store(admission_->waiting(), std::memory_order_relaxed);
}

void Sidecar::wind_down() {
  if (is_draining_.exchange(true)) return;
  log::info("the pod ends: not ready any more, connections are closed as they are answered");
  proxy_->wind_down();
}

void Sidecar::drain(std::function<void()> done) {
  if (done_) return begin_drain();
  is_draining_.store(true);
  done_ = std::move(done);
  if (settings_.drain_delay_ms == 0) return begin_drain();
  log::info("not ready any more; still accepting, until balancers know", {{"delay_ms", settings_.drain_delay_ms}});
  drain_timer_ = loop_.after_ms(settings_.drain_delay_ms, [this] { begin_drain(); });
}

void Sidecar::begin_drain() {
  if (draining_) return;
  draining_ = true;
  loop_.cancel(drain_timer_);
  log::info("draining", {{"in_flight", log_->in_flight()}});
  proxy_->drain([this] { drained(); });
}

void Sidecar::drained() {
  escrow_->stop_leasing();
  loop_.cancel(commit_timer_);
  await_ledger(loop_.env().mono_ns() + settings_.settle_ms * 1'000'000);
}

void Sidecar::give_back() {
  giving_back_ = true;
  std::vector<int> shards;
  for (const auto& [shard, queue] : log_->outbox().shards()) shards.push_back(shard);
  const std::set<LeaseNote> notes = ledger_ ? ledger_->notes() : std::set<LeaseNote>();
  handover_->give_back(log_->incarnation(), {log_->spent(), log_->forgotten_until_s()}, notes, std::move(shards),
                       [this] { returned_ = true; });
}

// A drain waits for the watermark within its grace (rule 10); after that the folder keeps what is left.
void Sidecar::await_ledger(int64_t until_ns) {
  if (!giving_back_) {
    commit();
    loop_.cancel(commit_timer_);
    // What is in no record yet is not among spent() either: given back, it would be spent twice.
    if (!log_->settled_pending() && log_->in_flight() == 0) give_back();
  }
  const bool booked = log_->outbox().empty() && handover_->pending() == 0 && returned_ && !log_->settled_pending();
  if (booked || loop_.now_ns() >= until_ns) {
    const size_t left = log_->outbox().size();
    if (booked && log_->in_flight() == 0) {
      log_->finish();
      put_away(log_->folder());
      log::info("drained; everything is booked");
    } else {
      log::warn(log_state_.load() == LogState::kGone ? "drained; the rest is lost with the data folder"
                                                     : "drained; the rest stays in the data folder for the next start",
                {{"records", left}});
    }
    return finish();
  }
  loop_.after_ms(20, [this, until_ns] {
    courier_->kick();
    await_ledger(until_ns);
  });
}

void Sidecar::finish() {
  if (auto done = std::exchange(done_, nullptr)) done();
}

// What has to be done before there is a policy.
std::string Sidecar::no_policy() const {
  if (!redis_up_.load()) {
    return "Redis cannot be used" + redis_error() + ", so the policy " + settings_.policy_id() + " is not known";
  }
  return "the operator has not published a policy " + settings_.policy_id() +
         " in this Redis: apply one of that name, or look whether the operator runs and uses the same Redis";
}

// ": why"; empty while there is nothing to tell.
std::string Sidecar::redis_error() const {
  const std::lock_guard lock(stalled_mutex_);
  return redis_error_.empty() ? "" : ": " + redis_error_;
}

std::string Sidecar::redis_stalled() const {
  const std::lock_guard lock(stalled_mutex_);
  return redis_stalled_;
}

void Sidecar::declare(telemetry::Health& health) {
  health.add_service("redis", [this]() -> telemetry::ServiceHealth {
    if (const std::string why = redis_stalled(); redis_up_.load() && !why.empty()) {
      return {telemetry::ServiceState::kDegraded,
              "connected, but grants nothing: " + why +
                  (ledger_up_.load() ? "; leasing from the ledger"
                                     : "; going on with the leases held, then onUnavailable")};
    }
    if (redis_up_.load()) return {};
    return {
        telemetry::ServiceState::kDegraded,
        "away" + redis_error() +
            (ledger_up_.load() ? "; leasing from the ledger" : "; going on with the leases held, then onUnavailable")};
  });
  if (ledger_) {
    health.add_service("ledger", [this]() -> telemetry::ServiceHealth {
      const int64_t refused = ledger_->counters().unsettled_refused.load();
      if (refused == 0) return {};
      return {telemetry::ServiceState::kDegraded,
              "refuses to settle " + std::to_string(refused) + " leases: see the log"};
    });
  }
  health.add_service("policy", [this]() -> telemetry::ServiceHealth {
    if (policy_known_.load()) return {};
    return {telemetry::ServiceState::kDegraded, no_policy()};
  });
  health.add_service("publication", [this]() -> telemetry::ServiceHealth {
    if (!trust_->verifies()) return {telemetry::ServiceState::kOk, "believed as Redis has it: no --publication-key-file"};
    std::string trouble = trust_->trouble();
    if (trouble.empty()) return {};
    return {telemetry::ServiceState::kDegraded, std::move(trouble)};
  });
  health.add_service("ledgerHistory", [this]() -> telemetry::ServiceHealth {
    if (!ledger_behind_.load()) return {};
    return {telemetry::ServiceState::kDegraded,
            "the ledger has gone back to a backup; going on with the leases held, then onUnavailable"};
  });
  health.add_service("usageLog", [this]() -> telemetry::ServiceHealth {
    switch (log_state_.load()) {
      case LogState::kGone:
        return {telemetry::ServiceState::kDown, "the data folder was deleted or replaced: put it back, or restart"};
      case LogState::kFull:
        return {telemetry::ServiceState::kDegraded, "the data folder takes no more: its disk is full, or fails"};
      case LogState::kSound:
        break;
    }
    if (commit_failing_.load() || memory_failing_.load()) {
      return {telemetry::ServiceState::kDegraded, "writing to the data folder fails"};
    }
    if (syncer_.failures() > 0) return {telemetry::ServiceState::kDegraded, "syncing the data folder has failed"};
    if (aside_.load() == 0) return {};
    return {telemetry::ServiceState::kDegraded,
            std::to_string(aside_.load()) + " folders aside-inc-… hold usage that could not be read: " + kAsideRemedy};
  });
  health.add_readiness("usageLog", [this]() -> std::optional<std::string> {
    if (log_state_.load() == LogState::kGone) return "the data folder was deleted or replaced";
    if (log_state_.load() == LogState::kFull || commit_failing_.load()) return "the data folder takes no more";
    return std::nullopt;
  });
  health.add_service("clock", [this]() -> telemetry::ServiceHealth {
    std::string fault = clock_.machine_fault();
    if (fault.empty()) return {};
    return {telemetry::ServiceState::kDegraded, std::move(fault)};
  });
  health.add_readiness("policy", [this]() -> std::optional<std::string> {
    if (policy_known_.load()) return std::nullopt;
    return no_policy();
  });
  health.add_readiness("app", [this]() -> std::optional<std::string> {
    if (app_known_.load()) return std::nullopt;
    return "the app's address, " + settings_.upstream + ", cannot be looked up";
  });
  health.add_readiness("draining", [this]() -> std::optional<std::string> {
    if (!is_draining_.load()) return std::nullopt;
    return "the process is about to stop";
  });
}

}  // namespace tallygate::sidecar
