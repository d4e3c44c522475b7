#include "operator/publish/publisher.h"

#include <algorithm>
#include <set>

#include "core/telemetry/log.h"

namespace tallygate::publish {
namespace {

constexpr size_t kGenerationBytes = 8;
constexpr int64_t kStandbyMs = 50;  // how often a standby asks whether it leads
// Of what a Redis that nobody has signed says of its version no more is believed: versions can be counted to the end.
constexpr int64_t kVersionsAheadMax = 1'000'000;

int64_t removals(const Holding& held) {
  return std::count_if(held.begin(), held.end(),
                       [](const auto& entry) { return entry.second.state == Held::State::kRemoved; });
}

// The versions of these tenants once this publication is out: a new one only where the document changes.
std::vector<int64_t> versions_of(const std::vector<size_t>& tenants, const plan::Compiled& compiled,
                                 const Holding& held, const Changes& changes, int64_t version) {
  const std::set<std::string_view> written(changes.written.begin(), changes.written.end());
  std::vector<int64_t> versions;
  for (const size_t index : tenants) {
    const std::string name = "T" + compiled.tenants[index].id.str();
    const auto it = held.find(name);
    const bool keeps = !written.contains(name) && it != held.end();
    versions.push_back(keeps ? it->second.version : version);
  }
  return versions;
}

}  // namespace

struct Publisher::Metrics {
  explicit Metrics(metrics::Registry& r)
      : publications(r.counter("tallygate_operator_publications_total", "Publications to Redis.")),
        failures(r.counter("tallygate_operator_publication_failures_total", "Attempts to publish that failed.")),
        heals(
            r.counter("tallygate_operator_publication_heals_total", "Times a lost publication was found and redone.")),
        written(r.counter("tallygate_operator_published_documents_total", "Documents and identities by what was done.",
                          {{"change", "written"}})),
        removed(r.counter("tallygate_operator_published_documents_total", "Documents and identities by what was done.",
                          {{"change", "removed"}})),
        version(r.gauge("tallygate_operator_publication_version", "Version of the last publication.")),
        pending(r.gauge("tallygate_operator_publication_pending", "1 while the newest snapshot is not published.")),
        seconds(r.histogram("tallygate_operator_publication_seconds", "From noticing a change to its publication.",
                            {0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60})) {}
  metrics::Counter publications, failures, heals, written, removed;
  metrics::Gauge version, pending;
  metrics::Histogram seconds;
};

Publisher::Publisher(Env& env, PublisherOptions options, metrics::Registry& registry)
    : env_(env),
      options_(std::move(options)),
      ledger_(env, options_.database_url),
      redis_(env, options_.redis),
      keys_source_(env, options_.database_url, options_.key_file),
      loop_(env),
      metrics_(std::make_unique<Metrics>(registry)) {}

Publisher::~Publisher() { stop(); }

void Publisher::start() {
  if (thread_.joinable()) return;
  stopping_ = false;
  thread_ = std::thread([this] { run(); });
}

void Publisher::stop() {
  stopping_ = true;
  loop_.post([] {});
  if (thread_.joinable()) thread_.join();
}

void Publisher::offer(std::shared_ptr<const plan::Compiled> compiled, int64_t noticed_ns, Before before) {
  {
    const std::lock_guard lock(mutex_);
    offered_ = {std::move(compiled), noticed_ns, std::move(before)};
    status_.in_sync = false;
  }
  loop_.post([] {});
}

Publisher::Status Publisher::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

Publisher::Snapshot Publisher::newest() const {
  const std::lock_guard lock(mutex_);
  return offered_;
}

void Publisher::run() {
  int64_t retry_ms = options_.retry_min_ms;
  while (!stopping_) {
    const auto done = run_once();
    int64_t wait_ms = was_leader_ ? options_.check_interval_ms : std::min(kStandbyMs, options_.check_interval_ms);
    if (done) {
      retry_ms = options_.retry_min_ms;
    } else {
      metrics_->failures.add();
      static log::Throttle throttle(5);
      log::warn(throttle, "not published yet", {{"error", done.error().message}});
      wait_ms = retry_ms / 2 + static_cast<int64_t>(env_.random_below(static_cast<uint64_t>(retry_ms / 2) + 1));
      retry_ms = std::min(options_.retry_max_ms, retry_ms * 2);
    }
    metrics_->pending.set(status().in_sync ? 0 : 1);
    const bool more = done && was_leader_ && newest().compiled != published_;
    if (!more) loop_.run_once(wait_ms);
  }
}

Result<void> Publisher::run_once() {
  if (!options_.is_leader()) {
    was_leader_ = false;
    return {};
  }
  if (!was_leader_) {
    // Another may have published in the meantime.
    known_ = false;
    published_.reset();
    suspensions_.reset();
    ledger_.forget();
    keys_due_ms_ = 0;
    was_leader_ = true;
  }
  const Snapshot snapshot = newest();
  if (!snapshot.compiled) return {};
  auto done = look_at_keys();
  if (done) done = look_at_suspensions();
  if (done) done = look_at_redis();
  if (done) done = publish(snapshot);
  const std::lock_guard lock(mutex_);
  status_.error = done ? "" : done.error().message;
  status_.version = done ? meta_.version : status_.version;
  status_.in_sync = done && offered_.compiled == snapshot.compiled;
  if (done) status_.published = snapshot.compiled;
  return done;
}

// Makes sure that keys_ are those of the moment, or the last that were seen where they cannot be read.
Result<void> Publisher::look_at_keys() {
  if (keys_ && env_.mono_ms() < keys_due_ms_) return {};
  auto found = keys_source_.load();
  if (!found && !keys_) return tl::unexpected<Error>(found.error());
  keys_due_ms_ = env_.mono_ms() + options_.keys_interval_ms;
  if (!found) {
    static log::Throttle throttle(30);
    log::warn(throttle, "the publication's key cannot be read; the last one goes on signing",
              {{"error", found.error().message}});
    return {};
  }
  const bool another = !keys_ || !(keys_->signer.public_key() == found->signer.public_key());
  if (another) {
    log::info("the publication is signed", {{"key", found->signer.public_key().id()}, {"of_file", !options_.key_file.empty()}});
    known_ = false;  // what the one before it signed is signed anew
    published_.reset();
  }
  keys_ = std::move(*found);
  return {};
}

// Makes sure that suspensions_ are the ledger's, or the last that were seen where it is away.
Result<void> Publisher::look_at_suspensions() {
  auto found = ledger_.suspensions();
  if (!found && suspensions_) return {};
  if (!found) return tl::unexpected<Error>(found.error());
  if (suspensions_ == *found) return {};
  const Suspensions before = suspensions_.value_or(Suspensions{}), now = std::move(*found);
  for (const auto* one : {&before, &now}) {
    for (const auto& [tenant, reason] : *one) {
      if (before.contains(tenant) == now.contains(tenant)) continue;
      // What is in the ledger was validated when it came in.
      if (auto id = TenantId::parse(tenant)) resuspended_.push_back(std::move(*id));
    }
  }
  if (suspensions_) log::info("the ledger's suspensions have changed", {{"suspended", now.size()}});
  suspensions_ = now;
  suspensions_changed_ns_ = env_.mono_ns();
  published_.reset();
  return {};
}

// Makes sure that held_ and meta_ are what Redis holds.
Result<void> Publisher::look_at_redis() {
  if (known_) {
    const auto intact = redis_.intact(meta_, index_size_);
    if (!intact) return tl::unexpected<Error>(intact.error());
    if (*intact) return {};
    known_ = false;
    healing_ = true;
    published_.reset();
    metrics_->heals.add();
    log::warn("the publication in Redis was lost or changed; publishing anew", {{"version", meta_.version}});
  }
  looked_anew_ns_ = env_.mono_ns();
  const auto last = ledger_.last();
  if (!last) return tl::unexpected<Error>(last.error());
  auto found = redis_.meta();
  if (!found) return tl::unexpected<Error>(found.error());
  const bool ours = found->is_signed_by(keys_->signer);
  if (!ours && found->version > last->version + kVersionsAheadMax) found = Meta{};
  const bool same_generation = !found->generation.empty() && found->generation == last->generation;
  // The same meta with an index that is not: part of it was lost.
  const bool lost_part = same_generation && found->generation == meta_.generation && found->version == meta_.version;
  new_generation_ = !same_generation || lost_part;
  const bool complete = !new_generation_ && found->version == last->version && ours;
  auto loaded = redis_.load(complete, keys_->signer);
  if (!loaded) return tl::unexpected<Error>(loaded.error());
  held_ = std::move(loaded->held);
  index_size_ = loaded->index_size;
  meta_ = *found;
  known_ = true;
  return {};
}

Result<void> Publisher::publish(const Snapshot& snapshot) {
  if (published_ == snapshot.compiled && !new_generation_) return {};
  if (snapshot.before) {
    if (auto done = snapshot.before(ledger_.reign()); !done) {
      if (done.error().errc == Errc::kConflict) was_leader_ = false;
      return done;
    }
  }
  const auto shown = with_suspensions(
      with_pepper(snapshot.compiled, options_.api_key_pepper, options_.api_key_plain_hashes), *suspensions_);
  desired_ = desired_of(*shown, desired_source_.get(), &desired_);
  desired_source_ = shown;
  if (removals(held_) > static_cast<int64_t>(options_.removals_remembered_max)) new_generation_ = true;
  if (new_generation_) {
    for (auto& [name, held] : held_) held.state = Held::State::kUnknown;
  }
  const Changes changes = difference(held_, desired_);
  const auto terms = ledger_.changes(*snapshot.compiled);
  if (!terms) return tl::unexpected<Error>(terms.error());
  if (auto done = publish_changes(snapshot, changes, *terms); !done) return done;
  published_ = snapshot.compiled;
  healing_ = false;
  for (const size_t index : terms->written) options_.on_tenant_changed(snapshot.compiled->tenants[index].id);
  for (const auto& id : terms->removed) options_.on_tenant_changed(id);
  for (const auto& id : resuspended_) options_.on_tenant_changed(id);
  resuspended_.clear();
  return {};
}

Result<void> Publisher::publish_changes(const Snapshot& snapshot, const Changes& changes,
                                        const LedgerPublication::TermChanges& terms) {
  const bool to_redis = new_generation_ || !changes.empty();
  if (!to_redis && terms.written.empty() && terms.removed.empty()) return {};
  Meta next = meta_;
  if (to_redis) {
    if (new_generation_) next.generation = env_.random_hex(kGenerationBytes);
    const auto version = ledger_.begin(meta_.version, next.generation);
    if (!version) return tl::unexpected<Error>(version.error());
    next.version = *version;
    next.sign(keys_->signer, ledger_.ledger_generation());
  }
  const auto versions = versions_of(terms.written, *snapshot.compiled, held_, changes, next.version);
  if (auto done = ledger_.apply(terms, snapshot.compiled, versions); !done) {
    if (done.error().errc == Errc::kConflict) was_leader_ = false;  // should it lead again, it begins anew
    return done;
  }
  if (to_redis) {
    const Signing signing{keys_->signer, ledger_.ledger_generation()};
    if (auto done = redis_.apply(changes, *desired_source_, desired_, next, new_generation_, signing); !done) {
      if (done.error().errc == Errc::kConflict) meta_ = next;  // it is out, with holes: the next look finds them
      known_ = known_ && done.error().errc != Errc::kConflict;
      distrust(changes);
      return done;
    }
    if (new_generation_) std::erase_if(held_, [&](const auto& entry) { return !desired_.contains(entry.first); });
    remember(changes, desired_, next.version);
    index_size_ = held_.size();
    meta_ = next;
    new_generation_ = false;
  }
  report(snapshot, changes, terms);
  return {};
}

void Publisher::remember(const Changes& changes, const Desired& desired, int64_t version) {
  for (const auto& name : changes.written) {
    held_[name] = {Held::State::kPresent, desired.at(name).content, version};
  }
  for (const auto& name : changes.removed) {
    if (const auto it = held_.find(name); it != held_.end()) it->second.state = Held::State::kRemoved;
  }
}

// An attempt failed in the middle: nobody knows what of this is in Redis.
void Publisher::distrust(const Changes& changes) {
  for (const auto& name : changes.written) held_[name].state = Held::State::kUnknown;
  for (const auto& name : changes.removed) held_[name].state = Held::State::kUnknown;
}

void Publisher::report(const Snapshot& snapshot, const Changes& changes, const LedgerPublication::TermChanges& terms) {
  // Healing an old snapshot is not late by that snapshot's age.
  const int64_t latency_ns =
      env_.mono_ns() - std::max({snapshot.noticed_ns, suspensions_changed_ns_, healing_ ? looked_anew_ns_ : 0});
  metrics_->publications.add();
  metrics_->written.add(static_cast<double>(changes.written.size()));
  metrics_->removed.add(static_cast<double>(changes.removed.size()));
  metrics_->version.set(static_cast<double>(meta_.version));
  metrics_->seconds.observe(static_cast<double>(latency_ns) / 1e9);
  log::info("published", {{"version", meta_.version},
                          {"generation", meta_.generation},
                          {"tenants", snapshot.compiled->tenants.size()},
                          {"policies", snapshot.compiled->policies.size()},
                          {"identities", snapshot.compiled->identities.size()},
                          {"written", changes.written.size()},
                          {"removed", changes.removed.size()},
                          {"terms", terms.written.size() + terms.removed.size()},
                          {"latency_ms", latency_ns / 1'000'000}});
}

}  // namespace tallygate::publish
