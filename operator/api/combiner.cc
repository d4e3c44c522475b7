#include "operator/api/combiner.h"

#include <algorithm>
#include <chrono>
#include <future>

namespace tallygate::api {
namespace {

tl::unexpected<Error> not_begun() {
  return fail(Errc::kUnavailable, "no round of the ledger's operations began in time");
}

}  // namespace

Combiner::Combiner(Env& env, Pool& pool, CombinerOptions options)
    : env_(env), pool_(pool), options_(std::move(options)) {
  TG_ASSERT(options_.rounds > 0 && options_.batch_max > 0 && options_.rounds_max > 0);
}

Combiner::~Combiner() { stop(); }

void Combiner::start() {
  const std::lock_guard lock(mutex_);
  if (std::exchange(running_, true)) return;
  // One more than may lead, so that the queue is looked at in time whatever the rounds wait for.
  for (size_t i = 0; i <= options_.rounds_max; ++i) threads_.emplace_back([this] { lead_rounds(); });
}

void Combiner::stop() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    running_ = false;
    threads.swap(threads_);
  }
  changed_.notify_all();
  for (auto& thread : threads) thread.join();
  std::unique_lock lock(mutex_);
  refuse_late(INT64_MAX, lock);
}

void Combiner::call_a_thread() {
  if (!std::exchange(called_, true)) changed_.notify_one();
}

void Combiner::call_in_time(int64_t now_ms, int64_t begin_ms, int64_t until_ms) {
  if (begin_ms <= now_ms || std::min(begin_ms, until_ms) < watch_ms_) call_a_thread();
}

void Combiner::submit(std::string tenant, std::string operation, int64_t until_ms, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (running_) {
      auto& place = *tenants_.try_emplace(std::move(tenant)).first;
      Tenant& own = place.second;
      own.waiting.push_back({++arrived_, std::move(operation), until_ms, std::move(done)});
      ++waiting_;
      if (!own.busy && own.waiting.size() == 1) ready_.emplace(arrived_, &place);
      // Where its tenant is in a round, whoever leads that looks when it ends.
      const int64_t now_ms = env_.mono_ms();
      call_in_time(now_ms, own.busy ? INT64_MAX : may_begin_ms(now_ms), until_ms);
      return;
    }
  }
  done(not_begun());
}

Result<OwnRow> Combiner::run(const std::string& tenant, std::string operation, int64_t until_ms) {
  std::promise<Result<OwnRow>> promise;
  submit(tenant, std::move(operation), until_ms,
         [&promise](Result<OwnRow> result) { promise.set_value(std::move(result)); });
  return promise.get_future().get();
}

void Combiner::lead_rounds() {
  std::unique_lock lock(mutex_);
  while (running_) {
    const int64_t now_ms = env_.mono_ms();
    const int64_t until_ms = refuse_late(now_ms, lock);
    if (!running_) return;  // it may have let go of the lock
    called_ = false;
    const int64_t begin_ms = ready_.empty() ? INT64_MAX : may_begin_ms(now_ms);
    const int64_t wake_ms = std::min({begin_ms, until_ms, now_ms + options_.slow_ms});
    if (begin_ms <= now_ms) {
      lead(now_ms, lock);
    } else if (waiting_ == 0 || watch_ms_ <= wake_ms) {
      changed_.wait(lock);
    } else {
      watch_ms_ = wake_ms;  // sooner than another's, if there is one
      changed_.wait_for(lock, std::chrono::milliseconds(wake_ms - now_ms));
      if (watch_ms_ == wake_ms) watch_ms_ = INT64_MAX;
    }
  }
}

int64_t Combiner::refuse_late(int64_t now_ms, std::unique_lock<std::mutex>& lock) {
  int64_t next_ms = INT64_MAX;
  Waiters late;
  for (auto place = tenants_.begin(); place != tenants_.end();) {
    Waiters& waiting = place->second.waiting;
    const uint64_t first = waiting.empty() ? 0 : waiting.front().number;
    for (auto it = waiting.begin(); it != waiting.end();) {
      const auto waiter = it++;
      if (waiter->until_ms > now_ms) {
        next_ms = std::min(next_ms, waiter->until_ms);
      } else {
        late.splice(late.end(), waiting, waiter);
      }
    }
    const bool idle = waiting.empty() && !place->second.busy;
    if (!place->second.busy && (idle || waiting.front().number != first)) {
      ready_.erase(first);
      if (!idle) ready_.emplace(waiting.front().number, &*place);
    }
    place = idle ? tenants_.erase(place) : std::next(place);
  }
  if (late.empty()) return next_ms;
  waiting_ -= late.size();
  for (Waiter& waiter : late) waiter.result = not_begun();
  lock.unlock();
  answer(late);
  lock.lock();
  return next_ms;
}

int64_t Combiner::may_begin_ms(int64_t now_ms) const {
  if (rounds_.size() >= options_.rounds_max) return INT64_MAX;
  size_t quick = 0;
  int64_t next_ms = INT64_MAX, beside_ms = now_ms;
  for (const Round& round : rounds_) {
    if (round.slow_at_ms <= now_ms) continue;
    ++quick;
    next_ms = std::min(next_ms, round.slow_at_ms);
    beside_ms = std::max(beside_ms, round.begin_ms + options_.beside_ms);
  }
  if (quick >= options_.rounds) return next_ms;
  return ready_.size() >= options_.beside_min ? now_ms : beside_ms;
}

// Whole tenants, so that as many as can be are left for the next round. There is one that is ready.
Combiner::Round Combiner::make_round(int64_t now_ms) {
  std::erase_if(apart_until_ms_, [&](const auto& one) { return one.second <= now_ms; });
  Round round{now_ms, now_ms + options_.slow_ms};
  for (auto it = ready_.begin(); it != ready_.end() && round.batch.size() < options_.batch_max;) {
    Tenants::value_type* const place = it->second;
    auto& [name, tenant] = *place;
    const bool apart = apart_until_ms_.contains(name);
    if (apart && !round.batch.empty()) {
      ++it;
      continue;
    }
    const size_t count = std::min(tenant.waiting.size(), options_.batch_max - round.batch.size());
    waiting_ -= count;
    round.batch.splice(round.batch.end(), tenant.waiting, tenant.waiting.begin(),
                       std::next(tenant.waiting.begin(), static_cast<ptrdiff_t>(count)));
    tenant.busy = true;
    round.tenants.push_back(place);
    it = ready_.erase(it);
    if (!apart) continue;
    round.slow_at_ms = now_ms;
    break;
  }
  return round;
}

void Combiner::end_round(const Round& round) {
  for (auto* place : round.tenants) {
    Tenant& tenant = place->second;
    tenant.busy = false;
    if (!tenant.waiting.empty()) {
      ready_.emplace(tenant.waiting.front().number, place);
    } else {
      tenants_.erase(place->first);
    }
  }
}

void Combiner::lead(int64_t now_ms, std::unique_lock<std::mutex>& lock) {
  const auto round = rounds_.insert(rounds_.end(), make_round(now_ms));
  // Whoever leads looks at nothing else until the round ends.
  if (waiting_ > 0) call_in_time(now_ms, ready_.empty() ? INT64_MAX : may_begin_ms(now_ms), now_ms + options_.slow_ms);
  lock.unlock();
  std::vector<Waiter*> batch;
  for (Waiter& waiter : round->batch) batch.push_back(&waiter);
  stats_.operations.fetch_add(batch.size(), std::memory_order_relaxed);
  serve(batch);
  lock.lock();
  const int64_t end_ms = env_.mono_ms();
  if (!batch.front()->result && end_ms - now_ms >= options_.slow_ms) {
    for (const auto* place : round->tenants) apart_until_ms_[place->first] = end_ms + options_.apart_ms;
  }
  end_round(*round);
  Waiters served = std::move(round->batch);
  rounds_.erase(round);
  if (!ready_.empty()) call_a_thread();  // the next one begins while these are answered
  lock.unlock();
  answer(served);
  lock.lock();
}

void Combiner::answer(Waiters& batch) {
  for (Waiter& waiter : batch) std::exchange(waiter.done, nullptr)(std::move(waiter.result));
}

void Combiner::serve(std::span<Waiter* const> batch) {
  stats_.rounds.fetch_add(1, std::memory_order_relaxed);
  auto rows = execute(batch);
  if (!rows) {
    const Errc errc = rows.error().errc;
    const bool for_all = errc == Errc::kUnavailable || errc == Errc::kTimeout;
    for (size_t i = 0; i < batch.size(); ++i) {
      if (batch.size() == 1 || for_all) {
        batch[i]->result = tl::unexpected(rows.error());
      } else {
        stats_.alone.fetch_add(1, std::memory_order_relaxed);
        serve(batch.subspan(i, 1));
      }
    }
    return;
  }
  for (Waiter* waiter : batch) waiter->result = fail(Errc::kInternal, "the ledger answered no row for this operation");
  for (size_t row = 0; row < rows->size(); ++row) {
    const auto place = static_cast<size_t>(rows->integer(row, rows->columns() - 1));
    if (place < batch.size()) batch[place]->result = OwnRow{*rows, row};
  }
}

Result<ledger::Rows> Combiner::execute(std::span<Waiter* const> batch) {
  std::vector<const std::string*> operations;
  operations.reserve(batch.size());
  for (const Waiter* waiter : batch) operations.push_back(&waiter->operation);
  const auto* latest = *std::max_element(batch.begin(), batch.end(),
                                         [](const Waiter* a, const Waiter* b) { return a->until_ms < b->until_ms; });
  return pool_.exec(options_.statement, {ledger::row_array(operations)}, latest->until_ms);
}

}  // namespace tallygate::api
