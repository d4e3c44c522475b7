#include "tests/integration/support/redis_server.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>

namespace tallygate::testing {
namespace {

constexpr int kStartTries = 200;
constexpr int64_t kTry_ms = 25;

std::string program() {
  const char* set = std::getenv("REDIS_SERVER");
  return set ? set : "/usr/bin/redis-server";
}

}  // namespace

RedisServer::RedisServer() : folder_(make_temporary_folder()), port_(free_port()) { start(); }

RedisServer::~RedisServer() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

redis::Endpoint RedisServer::endpoint() const {
  redis::Endpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = port_;
  return endpoint;
}

void RedisServer::start() {
  process_.start({program(), "--port", std::to_string(port_), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                  "--dir", folder_, "--maxmemory-policy", "noeviction"},
                 {.as_user = "", .output_file = folder_ + "/log"});
  redis::Client client(system_env(), endpoint());
  for (int i = 0; i < kStartTries; ++i) {
    const auto pong = client.call({"PING"});
    if (pong && pong->is_text("PONG")) return;
    system_env().sleep_ms(kTry_ms);
  }
  TG_ASSERT(!"redis-server did not start");
}

void RedisServer::kill() {
  process_.signal(SIGKILL);
  process_.wait();
}

}  // namespace tallygate::testing
