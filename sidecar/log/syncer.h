// fdatasync on a thread of its own, so that the data plane never waits for a disk. At most one job is queued: a newer
// one covers what an older one would have.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace tallygate::sidecar {

class Syncer {
 public:
  Syncer() = default;
  ~Syncer() { stop(); }
  void start();
  void stop();
  // Takes the descriptors, syncs and closes them.
  void submit(std::vector<int> descriptors);
  uint64_t syncs() const { return syncs_.load(std::memory_order_relaxed); }
  uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<int> queued_;
  bool stopping_ = false;
  std::thread thread_;
  std::atomic<uint64_t> syncs_{0}, failures_{0};
};

}  // namespace tallygate::sidecar
