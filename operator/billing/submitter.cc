#include "operator/billing/submitter.h"

#include <algorithm>
#include <cmath>

#include "core/telemetry/log.h"
#include "operator/billing/submitter_metrics.h"
#include "operator/ledger/fault.h"

namespace tallygate::billing {
namespace {

constexpr int64_t kPollMs = 500;          // how often due rows are looked for
constexpr int64_t kBacklogMs = 2'000;     // how often the outbox is counted
constexpr int64_t kEnqueueLimit = 5'000;  // aggregates in one transaction
constexpr size_t kQueueLow = 64;          // below this more rows are claimed
constexpr int64_t kLookBackMs = 10'000;
constexpr size_t kLookBackLimit = 4;
constexpr int64_t kDoubtKeptMs = 900'000;

std::string key_of(const MeterEvent& event) { return event.customer + "|" + event.event_name; }

}  // namespace

std::string refuse_to_send(const Submission& submission, int64_t now_s) {
  if (now_s - submission.event.timestamp_s > kMaxEventAgeS) return "older than the 35 days that Stripe accepts";
  if (submission.unknown_since_s > 0 && now_s - submission.unknown_since_s > kIdentifierKeptS) {
    return "the outcome of an attempt has not been known for a day, after which a repetition might count twice";
  }
  return "";
}

Submitter::Submitter(Env& env, std::string database_url, SubmitterOptions options, SendEvent send,
                     std::function<bool()> is_leader, metrics::Registry& registry, std::unique_ptr<EventWatch> watch)
    : env_(env),
      options_(options),
      send_(std::move(send)),
      is_leader_(std::move(is_leader)),
      watch_(std::move(watch)),
      session_(std::move(database_url)),
      outbox_(env, session_),
      loop_(env),
      metrics_(std::make_unique<Metrics>(registry)),
      rate_(env, options.calls_per_second, std::max<int64_t>(1, options.calls_per_second / 10)) {}

Submitter::~Submitter() { stop(); }

void Submitter::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  senders_stop_ = false;
  for (int64_t i = 0; i < options_.concurrency; ++i) senders_.emplace_back([this] { send_loop(); });
  thread_ = std::thread([this] { run(); });
}

void Submitter::stop() {
  stopping_ = true;
  loop_.post([] {});
  if (thread_.joinable()) thread_.join();
}

Submitter::Status Submitter::status() const {
  const std::lock_guard lock(mutex_);
  Status status = status_;
  status.in_flight = static_cast<int64_t>(busy_keys_.size());
  return status;
}

std::optional<Standing::Trouble> Submitter::trouble() const {
  for (const Standing* step : {&taking_over_, &enqueueing_, &claiming_, &recording_}) {
    if (auto trouble = step->trouble()) return trouble;
  }
  return std::nullopt;
}

// --- the owner of the connection

void Submitter::run() {
  while (!stopping_) {
    const bool leads = lead();
    if (leads) {
      enqueue_due();
      claim_due();
    }
    record_finished();
    observe_backlog();
    if (leads) look_back();
    // Whoever finishes a call wakes this thread.
    const bool may_claim = leads && room() && unrecorded_.empty() && env_.mono_ms() >= blocked_until_ms_;
    loop_.run_once(may_claim ? std::clamp<int64_t>(next_claim_ms_ - env_.mono_ms(), 1, kPollMs) : kPollMs);
  }
  {
    const std::lock_guard lock(mutex_);
    senders_stop_ = true;
  }
  work_.notify_all();
  for (auto& sender : senders_) sender.join();
  senders_.clear();
  give_back_queued();
  record_finished();
}

// Whether we are the one to work. A new leader first takes over what its predecessor, or this process before a crash,
// had claimed and left.
bool Submitter::lead() {
  if (!is_leader_()) {
    taken_over_ = false;
    for (Standing* step : {&taking_over_, &enqueueing_, &claiming_, &recording_}) step->rests();
    return false;
  }
  if (taken_over_) return true;
  {
    const std::lock_guard lock(mutex_);
    // After a short loss of the lead: what is still ours is recorded first.
    if (!queue_.empty() || !busy_keys_.empty() || !finished_.empty() || !unrecorded_.empty()) return false;
  }
  const auto rows = outbox_.take_over();
  rows ? taking_over_.succeeded() : taking_over_.failed(rows.error().message);
  if (!rows) return false;
  if (*rows > 0) log::info("submissions taken over from a predecessor", {{"events", *rows}});
  taken_over_ = true;
  return true;
}

void Submitter::enqueue_due() {
  if (env_.mono_ms() < next_enqueue_ms_) return;
  next_enqueue_ms_ = env_.mono_ms() + options_.interval_ms;
  for (bool more = true; more && !stopping_;) {
    const auto enqueued = outbox_.enqueue(kEnqueueLimit);
    const auto released = enqueued ? outbox_.release_held(kEnqueueLimit) : Result<int64_t>(0);
    const auto corrected = enqueued && released ? outbox_.release_corrections(kEnqueueLimit) : Result<int64_t>(0);
    if (!enqueued || !released || !corrected) {
      metrics_->failures.add();
      static log::Throttle throttle(10);
      const auto& error = !enqueued ? enqueued.error() : !released ? released.error() : corrected.error();
      enqueueing_.failed(error.message);
      log::warn(throttle, "submissions not enqueued", {{"error", error.message}});
      next_enqueue_ms_ = env_.mono_ms() + std::min<int64_t>(options_.interval_ms, 1'000);
      return;
    }
    enqueueing_.succeeded();
    metrics_->enqueued.add(static_cast<double>(enqueued->taken));
    metrics_->held.add(static_cast<double>(enqueued->held));
    if (enqueued->held > 0) {
      static log::Throttle throttle(60);
      log::warn(throttle, "usage cannot be submitted yet: see the held rows of meter_submissions",
                {{"events", enqueued->held}});
    }
    more = enqueued->taken == kEnqueueLimit;
    if (enqueued->taken > 0 || *released > 0 || *corrected > 0) next_claim_ms_ = 0;
  }
}

bool Submitter::room() const {
  const std::lock_guard lock(mutex_);
  return queue_.size() < kQueueLow;
}

void Submitter::claim_due() {
  const int64_t now_ms = env_.mono_ms();
  // What could not be recorded yet must not be claimed again and again in the meantime.
  if (now_ms < next_claim_ms_ || now_ms < blocked_until_ms_ || !unrecorded_.empty() || !room()) return;
  auto claimed = outbox_.claim(options_.claim_limit, options_.claim_per_key, options_.claim_lease_ms);
  claimed ? claiming_.succeeded() : claiming_.failed(claimed.error().message);
  if (!claimed) {
    metrics_->failures.add();
    static log::Throttle throttle(10);
    log::warn(throttle, "submissions not claimed", {{"error", claimed.error().message}});
    next_claim_ms_ = now_ms + kPollMs;
    return;
  }
  next_claim_ms_ = claimed->empty() ? now_ms + kPollMs : 0;
  {
    const std::lock_guard lock(mutex_);
    if (now_ms >= blocked_until_ms_) status_.blocked.clear();
    for (auto& submission : *claimed) queue_.push_back(std::move(submission));
  }
  metrics_->blocked.set(0);
  work_.notify_all();
}

Outcome Submitter::outcome_of(const Finished& finished) {
  Outcome outcome;
  const Submission& submission = finished.submission;
  outcome.id = submission.id;
  if (!finished.refused.empty()) {
    outcome.state = Outcome::State::kDead;
    outcome.error = finished.refused;
    outcome.sent = false;
    return outcome;
  }
  if (!finished.held.empty()) {
    outcome.state = Outcome::State::kHeld;
    outcome.error = finished.held;
    outcome.sent = false;
    outcome.next_attempt_ms = env_.wall_ms();
    return outcome;
  }
  const Decision& decision = finished.decision;
  outcome.error = decision.detail;
  outcome.outcome_unknown = decision.outcome_unknown;
  switch (decision.verdict) {
    case Verdict::kDelivered:
      outcome.state = Outcome::State::kDelivered;
      break;
    case Verdict::kDead:
      outcome.state = Outcome::State::kDead;
      break;
    case Verdict::kRetry:
      outcome.next_attempt_ms =
          env_.wall_ms() + backoff_ms(env_, options_.backoff, submission.attempts - 1, decision.retry_after_ms);
      break;
    case Verdict::kBlocked:
      outcome.next_attempt_ms = env_.wall_ms() + options_.blocked_pause_ms;
      break;
  }
  return outcome;
}

void Submitter::record_finished() {
  std::vector<Finished> finished;
  {
    const std::lock_guard lock(mutex_);
    finished.swap(finished_);
  }
  for (const auto& one : finished) {
    unrecorded_.push_back(outcome_of(one));
    tell(one, unrecorded_.back());
  }
  if (env_.mono_ms() < blocked_until_ms_) give_back_queued();
  if (unrecorded_.empty()) return;
  const auto delivered = outbox_.record(unrecorded_);
  delivered ? recording_.succeeded() : recording_.failed(delivered.error().message);
  if (!delivered) {
    metrics_->failures.add();
    static log::Throttle throttle(10);
    log::warn(throttle, "submissions not recorded; they are kept and recorded later",
              {{"events", static_cast<int64_t>(unrecorded_.size())}, {"error", delivered.error().message}});
    return;
  }
  unrecorded_.clear();
  const std::lock_guard lock(mutex_);
  status_.delivered += *delivered;
}

// Metrics and log of one outcome; a refusal of everything starts the pause.
void Submitter::tell(const Finished& finished, const Outcome& outcome) {
  const MeterEvent& event = finished.submission.event;
  if (outcome.state == Outcome::State::kDead) {
    metrics_->dead.add();
    log::error("meter event put aside", {{"tenant", finished.submission.tenant},
                                         {"meter", event.event_name},
                                         {"identifier", event.identifier},
                                         {"units", event.value},
                                         {"error", outcome.error}});
  }
  if (outcome.state == Outcome::State::kDelivered) {
    const auto& units = event.value < 0 ? metrics_->taken_off_units : metrics_->delivered_units;
    units.add(std::abs(static_cast<double>(event.value)));
  }
  if (!finished.held.empty()) {
    static log::Throttle throttle(10);
    log::warn(throttle, "usage is held: Stripe would take it and bill it to nobody",
              {{"tenant", finished.submission.tenant}, {"meter", event.event_name}, {"error", finished.held}});
    doubt("usage of " + finished.submission.tenant + " is held: " + finished.held);
    return;
  }
  if (!finished.refused.empty() || finished.decision.verdict != Verdict::kBlocked) return;
  blocked_until_ms_ = env_.mono_ms() + options_.blocked_pause_ms;
  metrics_->blocked.set(1);
  static log::Throttle throttle(10);
  log::error(throttle, "Stripe refuses us: nothing is submitted for a while", {{"error", finished.decision.detail}});
  const std::lock_guard lock(mutex_);
  status_.blocked = finished.decision.detail;
}

void Submitter::give_back_queued() {
  std::deque<Submission> queued;
  {
    const std::lock_guard lock(mutex_);
    queued.swap(queue_);
  }
  const int64_t pause_ms = std::max<int64_t>(0, blocked_until_ms_ - env_.mono_ms());
  for (const auto& submission : queued) {
    Outcome outcome;
    outcome.id = submission.id;
    outcome.sent = false;
    outcome.next_attempt_ms = env_.wall_ms() + pause_ms;
    unrecorded_.push_back(std::move(outcome));
  }
}

void Submitter::observe_backlog() {
  if (env_.mono_ms() < next_backlog_ms_) return;
  next_backlog_ms_ = env_.mono_ms() + kBacklogMs;
  const auto backlog = outbox_.backlog();
  if (!backlog) return;
  metrics_->waiting.set(static_cast<double>(backlog->waiting));
  metrics_->held_now.set(static_cast<double>(backlog->held));
  metrics_->dead_now.set(static_cast<double>(backlog->dead));
  const int64_t age_s = backlog->oldest_event_s == 0 ? 0 : env_.wall_s() - backlog->oldest_event_s;
  metrics_->age.set(static_cast<double>(std::max<int64_t>(0, age_s)));
  const std::lock_guard lock(mutex_);
  status_.backlog = *backlog;
}

// What was taken since Stripe was last asked whether it counts. Told as an error: nobody else says it.
void Submitter::look_back() {
  if (!watch_ || env_.mono_ms() < next_look_back_ms_) return;
  next_look_back_ms_ = env_.mono_ms() + kLookBackMs;
  for (std::string& what : watch_->look_back(kLookBackLimit)) {
    log::error("Stripe may not bill what it has taken: compare the meter's summaries with the ledger",
               {{"error", what}});
    doubt(std::move(what));
  }
  const std::lock_guard lock(mutex_);
  if (env_.mono_ms() - doubted_ms_ > kDoubtKeptMs) status_.doubtful.clear();
}

void Submitter::doubt(std::string what) {
  const std::lock_guard lock(mutex_);
  doubted_ms_ = env_.mono_ms();
  status_.doubtful = std::move(what);
}

// --- the senders

void Submitter::send_loop() {
  Submission submission;
  while (take(submission)) {
    Finished finished;
    finished.refused = refuse_to_send(submission, env_.wall_s());
    if (finished.refused.empty() && watch_) finished.held = watch_->look(submission.event);
    if (finished.refused.empty() && finished.held.empty()) {
      pace();
      ledger::fault_point("submitter.before_call");
      const int64_t begin_ns = env_.mono_ns();
      const Answer answer = send_(submission.event, submission.attempts);
      ledger::fault_point("submitter.after_call");
      metrics_->call_seconds.observe(static_cast<double>(env_.mono_ns() - begin_ns) / 1e9);
      finished.decision = classify(answer, submission.event.identifier);
      metrics_->result(finished.decision.result).add();
      if (watch_ && finished.decision.verdict == Verdict::kDelivered) watch_->taken(submission.event);
    } else if (!finished.refused.empty()) {
      metrics_->result("expired").add();
    }
    finished.submission = std::move(submission);
    finish(std::move(finished));
  }
}

// The first queued event whose customer and meter no other thread is busy with.
bool Submitter::take(Submission& out) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (senders_stop_) return false;
    const auto free = std::find_if(queue_.begin(), queue_.end(),
                                   [&](const auto& s) { return !busy_keys_.contains(key_of(s.event)); });
    if (free != queue_.end()) {
      out = std::move(*free);
      queue_.erase(free);
      busy_keys_.insert(key_of(out.event));
      return true;
    }
    work_.wait(lock);
  }
}

void Submitter::pace() {
  for (;;) {
    int64_t wait_ms = 0;
    {
      const std::lock_guard lock(mutex_);
      wait_ms = rate_.take();
    }
    if (wait_ms == 0) return;
    env_.sleep_ms(wait_ms);
  }
}

void Submitter::finish(Finished finished) {
  {
    const std::lock_guard lock(mutex_);
    busy_keys_.erase(key_of(finished.submission.event));
    finished_.push_back(std::move(finished));
  }
  work_.notify_all();
  loop_.post([] {});
}

}  // namespace tallygate::billing
