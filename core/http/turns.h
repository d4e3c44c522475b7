// Who may be at work at once: a bounded number of guests, and of each lane, e.g. one per caller. Who finds no room
// waits; lanes take turns, so that a caller who sends a thousand requests at once does not make the others wait for all
// of them. In a lane the order is that of arrival.
//
// Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace tallygate::http {

class Turns {
 public:
  class Guest {
   public:
    // Its turn has come, on the thread of whoever left. Must be quick. `self` is this, to be let go of where it may be.
    virtual void begin(std::shared_ptr<Guest> self) = 0;

   protected:
    ~Guest() = default;
  };
  enum class Entry : uint8_t { kNow, kLater, kRefused };

  // At most `waiting_max` wait; more are refused.
  Turns(size_t running_max, size_t waiting_max, size_t running_per_lane_max);

  // kNow: it has its turn, and begin() is not called. Who has a turn must leave.
  Entry enter(uint64_t lane, const std::shared_ptr<Guest>& guest);
  void leave(uint64_t lane);
  // No more turns; waits until everybody has left. Returns those that wait, whose turn will not come. Idempotent.
  std::vector<std::shared_ptr<Guest>> stop();
  size_t waiting() const;

 private:
  struct Lane {
    uint64_t key = 0;
    std::list<std::shared_ptr<Guest>> waiting;
    size_t running = 0;
    bool is_next = false;  // is in next_
  };
  // Queues the lane where one of its could begin.
  void queue(Lane& lane);
  void forget_if_idle(Lane& lane);

  const size_t running_max_, waiting_max_, running_per_lane_max_;
  mutable std::mutex mutex_;
  std::condition_variable all_left_;
  std::unordered_map<uint64_t, Lane> lanes_;  // those of which somebody waits or runs
  std::list<Lane*> next_;                     // empty while there is room
  size_t running_ = 0, waiting_ = 0;
  bool stopped_ = false;
};

}  // namespace tallygate::http
