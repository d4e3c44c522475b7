#include "sidecar/log/syncer.h"

#include <unistd.h>

namespace tallygate::sidecar {

void Syncer::start() {
  if (thread_.joinable()) return;
  stopping_ = false;  // no thread reads it now
  thread_ = std::thread([this] { run(); });
}

void Syncer::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  for (const int fd : queued_) close(fd);
  queued_.clear();
}

void Syncer::submit(std::vector<int> descriptors) {
  {
    std::lock_guard lock(mutex_);
    queued_.swap(descriptors);
  }
  wake_.notify_one();
  for (const int fd : descriptors) close(fd);  // the older job, never begun
}

void Syncer::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !queued_.empty(); });
    if (stopping_ && queued_.empty()) return;
    std::vector<int> job;
    job.swap(queued_);
    lock.unlock();
    for (const int fd : job) {
      if (fd < 0) continue;
      if (fdatasync(fd) != 0) failures_.fetch_add(1, std::memory_order_relaxed);
      close(fd);
    }
    syncs_.fetch_add(1, std::memory_order_relaxed);
    lock.lock();
  }
}

}  // namespace tallygate::sidecar
