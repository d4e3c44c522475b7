#include "operator/api/pool.h"

#include <algorithm>
#include <chrono>

#include "operator/api/seal.h"
#include "operator/ledger/pooler.h"

namespace tallygate::api {
namespace {

constexpr int64_t kBackoffMs = 5;
constexpr int64_t kCheckAfterMs = 900;
constexpr int64_t kNoMoreMs = 1'000;  // after a connection was refused while others are there
constexpr std::string_view kReadOnly = "PostgreSQL 25006";
constexpr const char* kGoneBack = "the ledger has gone back to a backup and is not recovered yet";

// As the API's role, so that row-level security holds even where a statement forgets its tenant. Every statement finds its
// rows by an index: a plan that was made while a table was small would else scan it, and be kept while the table grows.
std::string setup_of(const PoolOptions& options) {
  const std::string set = options.pooled ? "set local " : "set ";
  const auto ms = [&](const char* name, int64_t value) { return set + name + " = " + std::to_string(value) + "; "; };
  return ms("statement_timeout", options.deadline_ms) + ms("lock_timeout", options.deadline_ms) +
         ms("idle_in_transaction_session_timeout", 2 * options.deadline_ms) + set + "enable_seqscan = off; " + set +
         "role tallygate_api";
}

}  // namespace

Pool::Pool(Env& env, PoolOptions options) : env_(env), options_(std::move(options)) {
  TG_ASSERT(options_.connections_max > 0 && options_.attempts_max > 0);
}

std::unique_ptr<ledger::Session> Pool::make_session() {
  using Through = ledger::Session::Through;
  auto session = std::make_unique<ledger::Session>(options_.database_url, setup_of(options_),
                                                   options_.pooled ? Through::kPooler : Through::kServer);
  session->on_connect([this](ledger::Transaction& transaction) { return look_at_ledger(transaction); });
  return session;
}

Result<void> Pool::look_at_ledger(ledger::Transaction& transaction) {
  if (options_.history != nullptr) {
    const ledger::Mark known = options_.history->known();  // before it is asked: it goes on meanwhile
    const auto past = ledger::HistoryStore::look(transaction);
    if (!past) return tl::unexpected(past.error());
    if (!past->behind.empty() || past->mark < known) return fail(Errc::kUnavailable, kGoneBack);
  }
  const auto key = transaction.exec("select sealing_key()");
  if (!key) return tl::unexpected(key.error());
  auto seal = std::make_shared<const Seal>(std::string(key->text(0, 0)));
  const std::lock_guard lock(mutex_);
  seal_ = std::move(seal);
  return {};
}

std::shared_ptr<const Seal> Pool::seal() const {
  const std::lock_guard lock(mutex_);
  return seal_;
}

bool Pool::may_make() const {
  return made_ < options_.connections_max && (open_ == 0 || env_.mono_ms() >= no_more_until_ms_);
}

void Pool::hand_out() {
  const size_t tenant_max = std::max<size_t>(1, options_.connections_max * 3 / 4);
  for (auto it = waiting_.begin(); it != waiting_.end() && (!free_.empty() || may_make());) {
    Waiter& waiter = **it;
    const auto used = in_use_.find(waiter.tenant);
    if (!waiter.tenant.empty() && used != in_use_.end() && used->second >= tenant_max) {
      ++it;
      continue;
    }
    if (free_.empty()) {
      ++made_;
      waiter.session = make_session();
    } else {
      waiter.session = std::move(free_.back());
      free_.pop_back();
    }
    ++in_use_[waiter.tenant];
    waiter.ready.notify_one();
    it = waiting_.erase(it);
  }
}

std::unique_ptr<ledger::Session> Pool::acquire(int64_t until_ms, const std::string& tenant) {
  Waiter self{tenant, nullptr, {}};
  std::unique_lock lock(mutex_);
  waiting_.push_back(&self);
  hand_out();
  const auto wait = std::chrono::milliseconds(std::max<int64_t>(0, until_ms - env_.mono_ms()));
  if (!self.ready.wait_for(lock, wait, [&] { return self.session != nullptr; })) waiting_.remove(&self);
  return std::move(self.session);
}

void Pool::release(std::unique_ptr<ledger::Session> session, const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  if (session->connected()) {
    free_.push_back(std::move(session));
  } else {
    --made_;
  }
  if (const auto used = in_use_.find(tenant); --used->second == 0) in_use_.erase(used);
  hand_out();
}

Result<void> Pool::counted(ledger::Session& session, const std::function<Result<void>(ledger::Session&)>& fn) {
  const bool before = session.connected();
  Result<void> result = fn(session);
  const bool after = session.connected();
  if (before != after) {
    const std::lock_guard lock(mutex_);
    open_ += after ? 1 : size_t(-1);
  }
  return result;
}

bool Pool::leave_to_others(SessionPtr& session, const std::string& tenant) {
  {
    const std::lock_guard lock(mutex_);
    if (open_ == 0) return false;
    no_more_until_ms_ = env_.mono_ms() + kNoMoreMs;
  }
  release(std::move(session), tenant);
  return true;
}

Result<void> Pool::run(const std::function<Result<void>(ledger::Transaction&)>& body, int64_t until_ms,
                       const std::string& tenant) {
  return repeat([&](ledger::Session& session) { return session.transact(body); }, until_ms, tenant);
}

Result<ledger::Rows> Pool::exec(const std::string& sql, const ledger::Params& params, int64_t until_ms) {
  ledger::Rows rows;
  const auto attempt = [&](ledger::Session& session) -> Result<void> {
    auto got = session.autocommit(sql, params);
    if (!got) return tl::unexpected(got.error());
    rows = std::move(*got);
    return {};
  };
  if (const auto done = repeat(attempt, until_ms, ""); !done) return tl::unexpected(done.error());
  return rows;
}

void Pool::set_trouble(std::string trouble) {
  const std::lock_guard lock(mutex_);
  trouble_ = std::move(trouble);
}

// A request may fail because of a lock that another one holds: that is no trouble. One that writes may find out that
// nothing can be written; one that reads does not.
void Pool::ended(const Result<void>& result) {
  const std::lock_guard lock(mutex_);
  if (!result && result.error().message.starts_with(kReadOnly)) trouble_ = result.error().message;
  if (result && !trouble_.starts_with(kReadOnly)) trouble_.clear();
}

void Pool::check() {
  {
    const std::lock_guard lock(mutex_);
    if (trouble_.empty() && env_.mono_ms() - checked_ms_ < kCheckAfterMs) return;
    checked_ms_ = env_.mono_ms();
  }
  const auto answer = repeat(&ledger::refuse_read_only, latest_ms(), "");
  set_trouble(answer ? "" : answer.error().message);
}

std::string Pool::trouble() const {
  if (options_.history != nullptr && options_.history->is_behind()) return kGoneBack;
  const std::lock_guard lock(mutex_);
  return trouble_;
}

Result<void> Pool::repeat(const std::function<Result<void>(ledger::Session&)>& attempt, int64_t until_ms,
                          const std::string& tenant) {
  if (options_.history != nullptr && options_.history->is_behind()) return fail(Errc::kUnavailable, kGoneBack);
  SessionPtr session;
  Result<void> result;
  for (int attempts = 1;; ++attempts) {
    if (!session && !(session = acquire(until_ms, tenant))) {
      stats_.exhausted.fetch_add(1, std::memory_order_relaxed);
      return fail(Errc::kUnavailable, "no connection to PostgreSQL became free in time");
    }
    result = counted(*session, [](ledger::Session& one) { return one.open(); });
    if (!result && leave_to_others(session, tenant)) {
      --attempts;  // bounded: each takes a session that could not connect away, and then waits for one that is there
      continue;
    }
    if (result) result = counted(*session, attempt);
    if (result) break;
    const Errc errc = result.error().errc;
    if (errc == Errc::kTimeout) stats_.in_doubt.fetch_add(1, std::memory_order_relaxed);
    const bool repeatable = errc == Errc::kUnavailable || errc == Errc::kTimeout;
    const int64_t pause_ms =
        kBackoffMs * attempts + static_cast<int64_t>(env_.random_below(static_cast<uint64_t>(kBackoffMs * attempts)));
    if (!repeatable || attempts == options_.attempts_max || env_.mono_ms() + pause_ms >= until_ms) break;
    if (errc == Errc::kUnavailable) stats_.rollbacks.fetch_add(1, std::memory_order_relaxed);
    env_.sleep_ms(pause_ms);
  }
  release(std::move(session), tenant);
  ended(result);
  return result;
}

}  // namespace tallygate::api
