#include "operator/api/pool.h"

#include <algorithm>
#include <chrono>

namespace tallygate::api {
namespace {

constexpr int64_t kBackoffMs = 5;

// As the API's role, so that row-level security holds even where a statement forgets its tenant.
std::string setup_of(int64_t deadline_ms) {
  return "set statement_timeout = " + std::to_string(deadline_ms) +
         "; set lock_timeout = " + std::to_string(deadline_ms) +
         "; set idle_in_transaction_session_timeout = " + std::to_string(2 * deadline_ms) + "; set role tallygate_api";
}

}  // namespace

Pool::Pool(Env& env, PoolOptions options) : env_(env), options_(std::move(options)) {
  TG_ASSERT(options_.connections_max > 0 && options_.attempts_max > 0);
}

std::unique_ptr<ledger::Session> Pool::acquire(int64_t until_ms) {
  std::unique_lock lock(mutex_);
  const auto wait = std::chrono::milliseconds(std::max<int64_t>(0, until_ms - env_.mono_ms()));
  const auto ready = [this] { return !free_.empty() || made_ < options_.connections_max; };
  if (!freed_.wait_for(lock, wait, ready)) return nullptr;
  if (free_.empty()) {
    ++made_;
    return std::make_unique<ledger::Session>(options_.database_url, setup_of(options_.deadline_ms));
  }
  auto session = std::move(free_.back());
  free_.pop_back();
  return session;
}

void Pool::release(std::unique_ptr<ledger::Session> session) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(session));
  }
  freed_.notify_one();
}

Result<void> Pool::run(const std::function<Result<void>(ledger::Transaction&)>& body) {
  return repeat([&](ledger::Session& session) { return session.transact(body); });
}

Result<ledger::Rows> Pool::exec(const std::string& sql, const ledger::Params& params) {
  ledger::Rows rows;
  const auto done = repeat([&](ledger::Session& session) -> Result<void> {
    auto got = session.autocommit(sql, params);
    if (!got) return tl::unexpected(got.error());
    rows = std::move(*got);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  return rows;
}

Result<void> Pool::repeat(const std::function<Result<void>(ledger::Session&)>& attempt) {
  const int64_t until_ms = env_.mono_ms() + options_.deadline_ms;
  auto session = acquire(until_ms);
  if (!session) {
    stats_.exhausted.fetch_add(1, std::memory_order_relaxed);
    return fail(Errc::kUnavailable, "no connection to PostgreSQL became free in time");
  }
  Result<void> result;
  for (int attempts = 1;; ++attempts) {
    result = attempt(*session);
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
  release(std::move(session));
  return result;
}

}  // namespace tallygate::api
