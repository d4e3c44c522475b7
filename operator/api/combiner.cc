#include "operator/api/combiner.h"

#include <algorithm>
#include <chrono>
#include <functional>

namespace tallygate::api {

Combiner::Combiner(Env& env, Pool& pool, CombinerOptions options)
    : env_(env), pool_(pool), options_(std::move(options)), lanes_(options_.lanes) {
  TG_ASSERT(options_.lanes > 0 && options_.batch_max > 0);
}

Result<OwnRow> Combiner::run(const std::string& tenant, std::string operation) {
  Lane& lane = lanes_[std::hash<std::string>{}(tenant) % lanes_.size()];
  Waiter self;
  self.operation = std::move(operation);
  const int64_t until_ms = env_.mono_ms() + options_.wait_ms;
  std::unique_lock lock(lane.mutex);
  lane.queue.push_back(&self);
  while (self.state != Waiter::State::kDone) {
    if (self.state == Waiter::State::kTaken) {
      self.changed.wait(lock);  // its round ends within the pool's deadline
    } else if (!lane.busy) {
      lead(lane, lock);  // with whoever came first; perhaps not with this one
    } else if (const int64_t left_ms = until_ms - env_.mono_ms(); left_ms > 0) {
      self.changed.wait_for(lock, std::chrono::milliseconds(left_ms));
    } else {
      std::erase(lane.queue, &self);
      return fail(Errc::kUnavailable, "no round of the ledger's operations began in time");
    }
  }
  return std::move(self.result);
}

void Combiner::lead(Lane& lane, std::unique_lock<std::mutex>& lock) {
  const auto end = lane.queue.begin() + static_cast<std::ptrdiff_t>(std::min(lane.queue.size(), options_.batch_max));
  const std::vector<Waiter*> batch(lane.queue.begin(), end);
  lane.queue.erase(lane.queue.begin(), end);
  for (Waiter* waiter : batch) waiter->state = Waiter::State::kTaken;
  lane.busy = true;
  lock.unlock();
  serve(batch);
  lock.lock();
  lane.busy = false;
  for (Waiter* waiter : batch) {
    waiter->state = Waiter::State::kDone;
    waiter->changed.notify_one();
  }
  if (!lane.queue.empty()) lane.queue.front()->changed.notify_one();  // to lead the next round
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
  return pool_.exec(options_.statement, {std::move(operations)});
}

}  // namespace tallygate::api
