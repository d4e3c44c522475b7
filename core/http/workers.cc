#include "core/http/workers.h"

namespace tallygate::http {

Workers::Workers(int threads, size_t queue_max, size_t running_per_lane_max)
    : queue_max_(queue_max), running_per_lane_max_(running_per_lane_max) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

Workers::~Workers() { stop(); }

void Workers::give_turn(Lanes::iterator lane) {
  Lane& it = lane->second;
  if (it.has_turn || it.waiting.empty() || it.running >= running_per_lane_max_) return;
  it.has_turn = true;
  turns_.push_back(lane);
  wake_.notify_one();
}

bool Workers::submit(std::function<void()> task, uint64_t lane) {
  const std::lock_guard lock(mutex_);
  if (stopped_ || waiting_ >= queue_max_) return false;
  const auto place = lanes_.try_emplace(lane).first;
  place->second.waiting.push_back(std::move(task));
  ++waiting_;
  give_turn(place);
  return true;
}

void Workers::stop() {
  std::vector<std::deque<std::function<void()>>> dropped;  // destroyed without the lock: tasks own what they work on
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    for (auto& [key, lane] : lanes_) dropped.push_back(std::move(lane.waiting));
    for (auto& [key, lane] : lanes_) lane.waiting.clear();
    waiting_ = 0;
    turns_.clear();
  }
  wake_.notify_all();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

size_t Workers::queue_length() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopped_ || !turns_.empty(); });
    if (stopped_) return;
    const auto place = turns_.front();
    turns_.pop_front();
    Lane& lane = place->second;
    lane.has_turn = false;
    std::function<void()> task = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    --waiting_;
    ++lane.running;
    give_turn(place);  // behind the others
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
    --lane.running;
    if (lane.running == 0 && lane.waiting.empty()) {
      lanes_.erase(place);
    } else {
      give_turn(place);
    }
  }
}

}  // namespace tallygate::http
