// Stands between a client and PostgreSQL, and cuts some connections between COMMIT and its answer: the database has
// committed, and the client cannot know.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tallygate::testing {

class CommitCutter {
 public:
  // In front of 127.0.0.1:port. Every `period`-th COMMIT's answer is lost.
  CommitCutter(uint16_t port, int period);
  ~CommitCutter();
  uint16_t port() const { return port_; }
  int cuts() const { return cuts_; }
  void stop_cutting() { cutting_ = false; }

 private:
  void accept();
  void carry(int client);
  const uint16_t upstream_;
  const int period_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> cutting_ = true, stopping_ = false;
  std::atomic<int> commits_ = 0, cuts_ = 0;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<std::thread> carriers_;  // under mutex_
};

}  // namespace tallygate::testing
