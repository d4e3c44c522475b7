// Both clients, one at a time, and a peer that misbehaves.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "core/env.h"
#include "core/http/server.h"
#include "operator/http_client/http_client.h"

namespace tallygate {

struct Implementation {
  const char* name;
  std::unique_ptr<HttpClient> (*make)(HttpClientOptions);
};
inline void PrintTo(const Implementation& implementation, std::ostream* out) { *out << implementation.name; }

class HttpClientTest : public testing::TestWithParam<Implementation> {
 protected:
  std::unique_ptr<HttpClient> make(HttpClientOptions options = {}) { return GetParam().make(std::move(options)); }
};

#define TALLYGATE_FOR_EACH_CLIENT(Suite)                                                                         \
  INSTANTIATE_TEST_SUITE_P(                                                                                      \
      , Suite,                                                                                                   \
      testing::Values(Implementation{"cpprest", make_cpprest_client}, Implementation{"curl", make_curl_client}), \
      [](const auto& tested) { return std::string(tested.param.name); })

// Accepts one connection after the other, reads a request's head from each, and lets the script do the rest; then it
// closes, or resets where the script says so.
class ScriptedServer {
 public:
  class Peer {
   public:
    explicit Peer(int fd) : fd_(fd) {}
    bool send(std::string_view bytes) {
      return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
    }
    void reset_on_close() {
      const linger now{1, 0};
      setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    // Until the client closes.
    void await_end() {
      char byte;
      while (recv(fd_, &byte, 1, 0) > 0) {
      }
    }

   private:
    int fd_;
  };

  explicit ScriptedServer(std::function<void(Peer&)> script) : script_(std::move(script)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    socklen_t size = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~ScriptedServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }

 private:
  void run() {
    while (true) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      const timeval limit{5, 0};
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      std::string head;
      char byte;
      while (!head.ends_with("\r\n\r\n") && recv(fd, &byte, 1, 0) == 1) head += byte;
      Peer peer(fd);
      if (head.ends_with("\r\n\r\n")) script_(peer);
      close(fd);
    }
  }
  std::function<void(Peer&)> script_;
  int listener_;
  uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace tallygate
