#include "operator/api/combiner.h"

#include <algorithm>
#include <chrono>
#include <functional>

namespace tallygate::api {

Combiner::Combiner(Env& env, Pool& pool, CombinerOptions options)
    : env_(env), pool_(pool), options_(std::move(options)), lanes_(options_.lanes) {
  TG_ASSERT(options_.lanes > 0 && options_.batch_max > 0);
}

Result<OwnRow> Combiner::run(const std::string& tenant, std::string operation, int64_t until_ms) {
  Lane& lane = lanes_[std::hash<std::string>{}(tenant) % lanes_.size()];
  Waiter self{tenant, std::move(operation), until_ms, {}, Waiter::State::kQueued, {}};
  std::unique_lock lock(lane.mutex);
  lane.queue.push_back(&self);
  while (self.state != Waiter::State::kDone) {
    const int64_t now_ms = env_.mono_ms();
    const int64_t lead_ms = may_lead_ms(lane, self, now_ms);
    if (self.state == Waiter::State::kTaken) {
      self.changed.wait(lock);  // its round ends within the pool's deadline
    } else if (lead_ms <= now_ms) {
      lead(lane, self, lock);
    } else if (now_ms < until_ms) {
      // Looks again in time: a round under way may have become slow.
      const int64_t wake_ms = std::min({lead_ms, until_ms, now_ms + options_.slow_ms});
      self.changed.wait_for(lock, std::chrono::milliseconds(wake_ms - now_ms));
    } else {
      std::erase(lane.queue, &self);
      return fail(Errc::kUnavailable, "no round of the ledger's operations began in time");
    }
  }
  return std::move(self.result);
}

int64_t Combiner::may_lead_ms(const Lane& lane, const Waiter& waiter, int64_t now_ms) const {
  if (lane.rounds.size() >= options_.rounds_max) return INT64_MAX;
  int64_t lead_ms = now_ms;
  for (const Round& round : lane.rounds) {
    for (const Waiter* busy : round.batch) {
      if (busy->tenant == waiter.tenant) return INT64_MAX;
    }
    lead_ms = std::max(lead_ms, round.begin_ms + options_.slow_ms);
  }
  return lead_ms;
}

// The first with whoever came before it and may be in its round; the first perhaps not, where there are too many.
std::vector<Combiner::Waiter*> Combiner::take_batch(Lane& lane, Waiter& first) {
  const int64_t now_ms = env_.mono_ms();
  std::erase_if(lane.apart_until_ms, [&](const auto& one) { return one.second <= now_ms; });
  const bool alone = lane.apart_until_ms.contains(first.tenant);
  std::vector<Waiter*> batch;
  std::erase_if(lane.queue, [&](Waiter* waiter) {
    const bool fits = waiter->tenant == first.tenant || (!alone && !lane.apart_until_ms.contains(waiter->tenant) &&
                                                         may_lead_ms(lane, *waiter, now_ms) <= now_ms);
    if (!fits || batch.size() == options_.batch_max) return false;
    batch.push_back(waiter);
    return true;
  });
  for (Waiter* waiter : batch) waiter->state = Waiter::State::kTaken;
  return batch;
}

void Combiner::keep_apart(Lane& lane, const std::vector<Waiter*>& batch, int64_t now_ms) {
  for (const Waiter* waiter : batch) lane.apart_until_ms[waiter->tenant] = now_ms + options_.apart_ms;
}

void Combiner::lead(Lane& lane, Waiter& first, std::unique_lock<std::mutex>& lock) {
  const auto round = lane.rounds.insert(lane.rounds.end(), Round{env_.mono_ms(), take_batch(lane, first)});
  lock.unlock();
  serve(round->batch);
  lock.lock();
  const int64_t now_ms = env_.mono_ms();
  const bool slow = now_ms - round->begin_ms >= options_.slow_ms;
  if (slow && !round->batch.front()->result) keep_apart(lane, round->batch, now_ms);
  for (Waiter* waiter : round->batch) {
    waiter->state = Waiter::State::kDone;
    waiter->changed.notify_one();
  }
  lane.rounds.erase(round);
  const auto next = std::find_if(lane.queue.begin(), lane.queue.end(),
                                 [&](const Waiter* waiter) { return may_lead_ms(lane, *waiter, now_ms) <= now_ms; });
  if (next != lane.queue.end()) (*next)->changed.notify_one();  // to lead the next round
}

void Combiner::serve(std::span<Waiter* const> batch) {
  stats_.rounds.fetch_add(1, std::memory_order_relaxed);
  stats_.operations.fetch_add(batch.size(), std::memory_order_relaxed);
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
