// A way to a server on loopback that can be cut: every connection through it is reset at once, and new ones are taken.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace tallygate::testing {

class TcpCutter {
 public:
  explicit TcpCutter(int target_port);
  ~TcpCutter();
  TcpCutter(const TcpCutter&) = delete;
  TcpCutter& operator=(const TcpCutter&) = delete;
  int port() const { return port_; }
  void cut();

 private:
  void accept_all();
  void carry(int client);

  const int target_port_;
  int listener_ = -1, port_ = 0;
  std::mutex mutex_;
  bool stopping_ = false;
  std::vector<int> open_;  // both ends of each connection
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace tallygate::testing
