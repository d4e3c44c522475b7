// A fixed number of threads with a bounded queue.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tallygate::http {

class Workers {
 public:
  Workers(int threads, size_t queue_max);
  ~Workers();  // stop()
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // False if the queue is full or the workers have stopped: then the task will not run.
  bool submit(std::function<void()> task);
  // Waits for the tasks that run; drops those that wait. Idempotent.
  void stop();
  size_t queue_length() const;

 private:
  void run();
  const size_t queue_max_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tallygate::http
