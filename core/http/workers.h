// A fixed number of threads with a bounded queue. Tasks have lanes, e.g. one per caller: lanes take turns, so that a
// caller who sends a thousand requests at once does not make the others wait for all of them. In a lane the order is
// that of arrival.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace tallygate::http {

class Workers {
 public:
  // At most `running_per_lane_max` tasks of a lane run at once.
  Workers(int threads, size_t queue_max, size_t running_per_lane_max = SIZE_MAX);
  ~Workers();  // stop()
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // False if the queue is full or the workers have stopped: then the task will not run.
  bool submit(std::function<void()> task, uint64_t lane = 0);
  // Waits for the tasks that run; drops those that wait. Idempotent.
  void stop();
  size_t queue_length() const;

 private:
  struct Lane {
    std::deque<std::function<void()>> waiting;
    size_t running = 0;
    bool has_turn = false;  // is in turns_
  };
  // A lane is there while a task of its waits or runs.
  using Lanes = std::map<uint64_t, Lane>;

  void run();
  // Queues the lane where it may run a task.
  void give_turn(Lanes::iterator lane);
  const size_t queue_max_, running_per_lane_max_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Lanes lanes_;
  std::deque<Lanes::iterator> turns_;
  size_t waiting_ = 0;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tallygate::http
