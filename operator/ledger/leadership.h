// One active instance: whoever holds an advisory lock of the database, on a connection kept for nothing else. Not
// needed for safety (row locks, epochs and unique keys are), so a moment with two leaders or none does no harm.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "core/env.h"

namespace tallygate {
class EventLoop;
}

namespace tallygate::ledger {

class Leadership {
 public:
  Leadership(Env& env, std::string database_url);
  ~Leadership();
  // Idempotent. The thread asks for the lock each half second and checks that the connection that holds it still lives.
  void start();
  void stop();
  bool is_leader() const { return leader_.load(std::memory_order_relaxed); }
  // The database has answered: another instance leads.
  bool is_standby() const { return decided_.load(std::memory_order_relaxed) && !is_leader(); }

 private:
  void run();
  Env& env_;
  std::string database_url_;
  std::unique_ptr<EventLoop> loop_;
  std::atomic<bool> leader_ = false;
  std::atomic<bool> decided_ = false;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace tallygate::ledger
