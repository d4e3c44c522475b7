#include "core/http/turns.h"

namespace tallygate::http {

Turns::Turns(size_t running_max, size_t waiting_max, size_t running_per_lane_max)
    : running_max_(running_max), waiting_max_(waiting_max), running_per_lane_max_(running_per_lane_max) {}

void Turns::queue(Lane& lane) {
  if (lane.is_next || lane.waiting.empty() || lane.running >= running_per_lane_max_) return;
  lane.is_next = true;
  next_.push_back(&lane);
}

void Turns::forget_if_idle(Lane& lane) {
  if (lane.running == 0 && lane.waiting.empty()) lanes_.erase(lane.key);
}

Turns::Entry Turns::enter(uint64_t lane, const std::shared_ptr<Guest>& guest) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return Entry::kRefused;
  const auto place = lanes_.try_emplace(lane).first;
  Lane& own = place->second;
  own.key = lane;
  if (running_ < running_max_ && own.running < running_per_lane_max_ && own.waiting.empty()) {
    ++running_;
    ++own.running;
    return Entry::kNow;
  }
  if (waiting_ >= waiting_max_) {
    forget_if_idle(own);
    return Entry::kRefused;
  }
  own.waiting.push_back(guest);
  ++waiting_;
  queue(own);
  return Entry::kLater;
}

void Turns::leave(uint64_t lane) {
  std::shared_ptr<Guest> next;
  {
    const std::lock_guard lock(mutex_);
    Lane& own = lanes_.at(lane);
    --running_;
    --own.running;
    queue(own);
    forget_if_idle(own);
    if (stopped_ && running_ == 0) all_left_.notify_all();
    if (next_.empty()) return;
    Lane& turn = *next_.front();
    next_.pop_front();
    turn.is_next = false;
    next = std::move(turn.waiting.front());
    turn.waiting.pop_front();
    --waiting_;
    ++running_;
    ++turn.running;
    queue(turn);  // behind the others
  }
  Guest& guest = *next;
  guest.begin(std::move(next));
}

std::vector<std::shared_ptr<Turns::Guest>> Turns::stop() {
  std::vector<std::shared_ptr<Guest>> dropped;
  std::unique_lock lock(mutex_);
  stopped_ = true;
  next_.clear();
  waiting_ = 0;
  for (auto it = lanes_.begin(); it != lanes_.end();) {
    Lane& lane = it->second;
    dropped.insert(dropped.end(), lane.waiting.begin(), lane.waiting.end());
    lane.waiting.clear();
    lane.is_next = false;
    it = lane.running == 0 ? lanes_.erase(it) : std::next(it);
  }
  all_left_.wait(lock, [this] { return running_ == 0; });
  return dropped;
}

size_t Turns::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

}  // namespace tallygate::http
