#include "operator/main/manifest_feed.h"

#include "core/telemetry/log.h"

namespace tallygate::operator_main {
namespace {

constexpr int64_t kTickMs = 100;  // a take-over waits for one
constexpr int64_t kAskAgainMs = 1'000;
constexpr int64_t kClockStep_s = 1;     // less is no step back
constexpr size_t kFaultLinesMax = 200;  // a reload; the rest is counted

void tell_one(log::Level level, std::string_view message, const manifest::Fault& fault) {
  log::write(level, message,
             {{"file", fault.file},
              {"line", fault.line},
              {"object", fault.object},
              {"field", fault.field},
              {"reason", manifest::to_string(fault.reason)},
              {"message", fault.message},
              {"fix", fault.fix}});
}

// Tells those that were not told before; remembers all of them.
void tell_new(log::Level level, std::string_view message, const manifest::Faults& all, std::set<manifest::Fault>& told,
              bool forget_gone) {
  std::set<manifest::Fault> now(all.begin(), all.end());
  size_t lines = 0, left_out = 0;
  for (const auto& fault : now) {
    if (told.contains(fault)) continue;
    if (lines++ < kFaultLinesMax) {
      tell_one(level, message, fault);
    } else {
      ++left_out;
    }
  }
  if (left_out > 0) log::write(level, "further manifest faults", {{"count", left_out}});
  if (forget_gone) told.clear();
  told.merge(now);
}

}  // namespace

ManifestFeed::ManifestFeed(Env& env, EventLoop& loop, const ledger::Leadership& leadership,
                           std::unique_ptr<source::Source> source, LoadBaseline load_baseline,
                           source::AcceptanceOptions options, Offer offer,
                           Observe observe, metrics::Registry& registry)
    : env_(env),
      loop_(loop),
      leadership_(leadership),
      source_(std::move(source)),
      load_baseline_(std::move(load_baseline)),
      options_(options),
      offer_(std::move(offer)),
      observe_(std::move(observe)),
      reloads_(registry.counter("tallygate_operator_manifest_reloads_total", "Times the manifests were read anew.")),
      compile_failures_(registry.counter("tallygate_operator_compile_failures_total", "Compilations that failed.")),
      faults_(registry.gauge("tallygate_operator_manifest_faults", "Faults in the manifests; what was good stays.")),
      warnings_(registry.gauge("tallygate_operator_manifest_warnings",
                               "Features that manifests use and this version does not put in force.")),
      objects_(registry.gauge("tallygate_operator_manifest_objects", "Accepted plans, tenants and policies.")),
      lost_(registry.gauge("tallygate_operator_manifest_source_lost",
                           "1 while too much is missing in the source to be believed: nothing is changed.")) {
  last_look_.blank = true;
}

Result<void> ManifestFeed::start() {
  timer_ = loop_.after_ms(kTickMs, [this] { tick(); });
  return begin();
}

// What is in force comes first: it stays so, whatever the source shows, and while it shows nothing.
Result<void> ManifestFeed::begin() {
  auto baseline = load_baseline_();
  if (!baseline) {
    ask_due_ms_ = env_.mono_ms() + kAskAgainMs;
    set_failure("the ledger does not say what was last accepted: " + baseline.error().message);
    return {};
  }
  set_failure("");
  acceptance_.emplace(std::move(*baseline), options_);
  const auto& resources = acceptance_->now().accepted->resources;
  const size_t objects = resources.plans.size() + resources.tenants.size() + resources.policies.size();
  if (objects > 0) log::info("what was last accepted is known from the ledger", {{"objects", objects}});
  auto started = source_->start([this](const source::Look& look) { take(look); });
  if (!started) acceptance_.reset();  // tried again
  if (started && acceptance_->now().number == 0 && objects > 0) {  // no look yet
    compile(env_.mono_ns());
    observe_(acceptance_->now(), compiled_);
  }
  return started;
}

void ManifestFeed::stop() {
  source_->stop();
  if (timer_ != 0) loop_.cancel(timer_);
  timer_ = 0;
}

ManifestFeed::State ManifestFeed::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void ManifestFeed::take(const source::Look& look) {
  const int64_t noticed_ns = env_.mono_ns();
  const bool first = compiled_ == nullptr && !look.blank;
  const auto snapshot = acceptance_->take(look);
  if (snapshot.news) {
    reloads_.add();
    tell(snapshot);
  }
  if (first || snapshot.resources_changed) compile(noticed_ns);
  observe_(snapshot, compiled_);
  if (&look != &last_look_) last_look_ = look;
}

void ManifestFeed::tell(const source::Snapshot& snapshot) {
  const manifest::Accepted& accepted = *snapshot.accepted;
  tell_new(log::Level::kError, "manifest fault", accepted.faults, told_faults_, true);
  tell_new(log::Level::kWarn, "manifest warning", accepted.warnings, told_warnings_, false);
  if (snapshot.lost != told_lost_) {
    if (snapshot.lost.empty()) {
      log::info("the source of the manifests is back");
    } else {
      log::error("the source of the manifests is not believed", {{"reason", snapshot.lost}});
    }
    told_lost_ = snapshot.lost;
  }
  const auto& resources = accepted.resources;
  faults_.set(static_cast<double>(accepted.faults.size()));
  warnings_.set(static_cast<double>(accepted.warnings.size()));
  objects_.set(static_cast<double>(resources.plans.size() + resources.tenants.size() + resources.policies.size()));
  lost_.set(snapshot.lost.empty() ? 0 : 1);
  const std::lock_guard lock(mutex_);
  state_.faults = accepted.faults.size();
  state_.first_fault = accepted.faults.empty() ? "" : manifest::to_string(accepted.faults.front());
  state_.lost = snapshot.lost;
  state_.trouble = snapshot.trouble;
}

void ManifestFeed::compile(int64_t noticed_ns) {
  compiled_at_s_ = env_.wall_s();
  const source::Snapshot& snapshot = acceptance_->now();
  auto compiled = plan::compile(snapshot.accepted->resources, compiled_at_s_);
  if (!compiled) {
    compile_failures_.add();
    recompile_at_s_ = compiled_at_s_;  // the next tick tries again
    log::error("manifests cannot be compiled; the last state stays", {{"error", compiled.error().message}});
    set_failure(compiled.error().message);
    compiled_.reset();
    return;
  }
  recompile_at_s_ = compiled->recompile_at_s;
  set_failure("");
  compiled_ = std::make_shared<const plan::Compiled>(std::move(*compiled));
  offer_(compiled_, snapshot, noticed_ns);
}

void ManifestFeed::set_failure(const std::string& failure) {
  const std::lock_guard lock(mutex_);
  state_.failure = failure;
}

// Windows are known for some time ahead only, and from when they were compiled on: the clock may since have been put
// right.
void ManifestFeed::tick() {
  timer_ = loop_.after_ms(kTickMs, [this] { tick(); });
  if (env_.mono_ms() < ask_due_ms_) return;
  if (!acceptance_) {
    if (auto begun = begin(); !begun) {
      ask_due_ms_ = env_.mono_ms() + kAskAgainMs;
      set_failure(begun.error().message);
    }
    return;
  }
  look_who_leads();
  const int64_t now_s = env_.wall_s();
  const bool due = now_s >= recompile_at_s_ || now_s < compiled_at_s_ - kClockStep_s;
  if (recompile_at_s_ > 0 && due) {
    compile(env_.mono_ns());
    observe_(acceptance_->now(), compiled_);
  }
}

void ManifestFeed::look_who_leads() {
  if (leadership_.is_standby()) stood_by_ = true;
  if (!leadership_.is_leader()) return;
  const int64_t term = leadership_.term();
  const bool took_over = stood_by_ || (term_ != 0 && term != term_);
  if (took_over) {
    auto baseline = load_baseline_();
    if (!baseline) {
      ask_due_ms_ = env_.mono_ms() + kAskAgainMs;
      return;
    }
    acceptance_.emplace(std::move(*baseline), source::AcceptanceOptions{.adopt_cluster = options_.adopt_cluster});
    // Whatever this process would have put in force before, it is made anew of what the predecessor accepted.
    compiled_.reset();
    take(last_look_);
    const auto& resources = acceptance_->now().accepted->resources;
    if (!compiled_ && !resources.tenants.empty()) {  // nothing was seen of the source yet
      compile(env_.mono_ns());
      observe_(acceptance_->now(), compiled_);
    }
  }
  stood_by_ = false;
  term_ = term;
}

}  // namespace tallygate::operator_main
