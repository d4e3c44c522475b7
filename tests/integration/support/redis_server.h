// A private redis-server, nothing on disk.
#pragma once

#include <string>

#include "core/redis_client/client.h"
#include "tests/integration/support/child_process.h"

namespace tallygate::testing {

class RedisServer {
 public:
  RedisServer();
  ~RedisServer();
  redis::Endpoint endpoint() const;
  int port() const { return port_; }
  void kill();   // at once, everything is lost
  void start();  // on the same port
  pid_t pid() const { return process_.pid(); }

 private:
  std::string folder_;
  int port_ = 0;
  ChildProcess process_;
};

}  // namespace tallygate::testing
