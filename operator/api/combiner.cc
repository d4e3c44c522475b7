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
    : env_(env), pool_(pool), options_(std::move(options)), lanes_(options_.lanes) {
  TG_ASSERT(options_.lanes > 0 && options_.batch_max > 0 && options_.rounds_max > 0);
}

Combiner::~Combiner() { stop(); }

void Combiner::start() {
  for (Lane& lane : lanes_) {
    const std::lock_guard lock(lane.mutex);
    if (std::exchange(lane.running, true)) continue;
    // One more than may lead, so that the queue is looked at in time whatever the rounds wait for.
    for (size_t i = 0; i <= options_.rounds_max; ++i) lane.threads.emplace_back([this, &lane] { lead_rounds(lane); });
  }
}

void Combiner::stop() {
  for (Lane& lane : lanes_) {
    std::vector<std::thread> threads;
    {
      const std::lock_guard lock(lane.mutex);
      lane.running = false;
      threads.swap(lane.threads);
    }
    lane.changed.notify_all();
    for (auto& thread : threads) thread.join();
    Waiters left;
    {
      const std::lock_guard lock(lane.mutex);
      left.swap(lane.queue);
    }
    for (Waiter& waiter : left) waiter.result = not_begun();
    answer(left);
  }
}

void Combiner::submit(std::string tenant, std::string operation, int64_t until_ms, Done done) {
  Lane& lane = lanes_[std::hash<std::string>{}(tenant) % lanes_.size()];
  {
    const std::lock_guard lock(lane.mutex);
    if (lane.running) {
      lane.queue.push_back({std::move(tenant), std::move(operation), until_ms, std::move(done)});
      // Whoever leads looks at the queue when its round ends.
      if (lane.rounds.empty() || !lane.watched) lane.changed.notify_one();
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

void Combiner::lead_rounds(Lane& lane) {
  std::unique_lock lock(lane.mutex);
  while (lane.running) {
    const int64_t now_ms = env_.mono_ms();
    refuse_late(lane, now_ms, lock);
    int64_t next_ms = now_ms + options_.slow_ms;  // a round under way may have become slow
    auto first = lane.queue.begin();
    for (; first != lane.queue.end(); ++first) {
      const int64_t begin_ms = may_begin_ms(lane, *first, now_ms);
      if (begin_ms <= now_ms) break;
      next_ms = std::min({next_ms, begin_ms, first->until_ms});
    }
    if (first != lane.queue.end()) {
      lead(lane, first, now_ms, lock);
    } else if (lane.queue.empty() || lane.watched) {
      lane.changed.wait(lock);
    } else {
      lane.watched = true;
      lane.changed.wait_for(lock, std::chrono::milliseconds(next_ms - now_ms));
      lane.watched = false;
    }
  }
}

void Combiner::refuse_late(Lane& lane, int64_t now_ms, std::unique_lock<std::mutex>& lock) {
  Waiters late;
  for (auto it = lane.queue.begin(); it != lane.queue.end();) {
    const auto waiter = it++;
    if (waiter->until_ms <= now_ms) late.splice(late.end(), lane.queue, waiter);
  }
  if (late.empty()) return;
  lock.unlock();
  for (Waiter& waiter : late) waiter.result = not_begun();
  answer(late);
  lock.lock();
}

int64_t Combiner::may_begin_ms(const Lane& lane, const Waiter& waiter, int64_t now_ms) const {
  if (lane.rounds.size() >= options_.rounds_max) return INT64_MAX;
  int64_t begin_ms = now_ms;
  for (const Round& round : lane.rounds) {
    for (const Waiter& busy : round.batch) {
      if (busy.tenant == waiter.tenant) return INT64_MAX;
    }
    begin_ms = std::max(begin_ms, round.begin_ms + options_.slow_ms);
  }
  return begin_ms;
}

// The first with whoever may be in its round.
Combiner::Waiters Combiner::take_batch(Lane& lane, Waiters::iterator first, int64_t now_ms) {
  std::erase_if(lane.apart_until_ms, [&](const auto& one) { return one.second <= now_ms; });
  const std::string tenant = first->tenant;
  const bool alone = lane.apart_until_ms.contains(tenant);
  Waiters batch;
  for (auto it = first; it != lane.queue.end() && batch.size() < options_.batch_max;) {
    const auto waiter = it++;
    const bool fits = waiter->tenant == tenant || (!alone && !lane.apart_until_ms.contains(waiter->tenant) &&
                                                   may_begin_ms(lane, *waiter, now_ms) <= now_ms);
    if (fits) batch.splice(batch.end(), lane.queue, waiter);
  }
  return batch;
}

void Combiner::lead(Lane& lane, Waiters::iterator first, int64_t now_ms, std::unique_lock<std::mutex>& lock) {
  const auto round = lane.rounds.insert(lane.rounds.end(), Round{now_ms, take_batch(lane, first, now_ms)});
  if (!lane.queue.empty() && !lane.watched) lane.changed.notify_one();
  lock.unlock();
  std::vector<Waiter*> batch;
  for (Waiter& waiter : round->batch) batch.push_back(&waiter);
  stats_.operations.fetch_add(batch.size(), std::memory_order_relaxed);
  serve(batch);
  const bool failed = !batch.front()->result;
  answer(round->batch);
  lock.lock();
  const int64_t end_ms = env_.mono_ms();
  if (failed && end_ms - now_ms >= options_.slow_ms) {
    for (const Waiter* waiter : batch) lane.apart_until_ms[waiter->tenant] = end_ms + options_.apart_ms;
  }
  lane.rounds.erase(round);
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
  std::string operations = "[";
  for (size_t i = 0; i < batch.size(); ++i) {
    if (i > 0) operations += ',';
    operations += "{\"n\":" + std::to_string(i) + ',';
    operations.append(batch[i]->operation, 1);  // after its brace
  }
  operations += ']';
  const auto* latest = *std::max_element(batch.begin(), batch.end(),
                                         [](const Waiter* a, const Waiter* b) { return a->until_ms < b->until_ms; });
  return pool_.exec(options_.statement, {std::move(operations)}, latest->until_ms);
}

}  // namespace tallygate::api
