// The shell on real sockets: loopback, port 0.
#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "sidecar/proxy/proxy.h"
#include "tests/fuzz/memory_world.h"
#include "tests/fuzz/strict_message.h"

namespace tallygate::testing {
namespace {

using proxy::Options;
using proxy::Proxy;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

void set_timeouts(int fd) {
  const timeval limit{10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

// A blocking server on its own thread: answers each request of one connection after the other with `answer`.
class App {
 public:
  App(int family, std::string path, std::string answer) : path_(std::move(path)), answer_(std::move(answer)) {
    fd_ = socket(family, SOCK_STREAM, 0);
    sockaddr_storage at{};
    socklen_t size = sizeof at;
    if (family == AF_UNIX) {
      auto* un = reinterpret_cast<sockaddr_un*>(&at);
      un->sun_family = AF_UNIX;
      path_.copy(un->sun_path, sizeof un->sun_path - 1);
      size = sizeof *un;
      unlink(path_.c_str());
      address_ = "unix:" + path_;
    } else {
      auto* in = reinterpret_cast<sockaddr_in*>(&at);
      in->sin_family = AF_INET;
      in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      size = sizeof *in;
    }
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(listen(fd_, 64), 0);
    if (family != AF_UNIX) {
      getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
      address_ = proxy::to_string(reinterpret_cast<sockaddr*>(&at));
    }
    thread_ = std::thread([this] { serve(); });
  }
  ~App() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
    if (!path_.empty()) unlink(path_.c_str());
  }
  const std::string& address() const { return address_; }

 private:
  void serve() {
    for (int fd; (fd = accept(fd_, nullptr, nullptr)) >= 0; close(fd)) {
      set_timeouts(fd);
      std::string bytes;
      char buffer[65536];
      for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) {
        bytes.append(buffer, static_cast<size_t>(n));
        for (auto m = read_strict(bytes, false); m.state == StrictMessage::State::kComplete; m = read_strict(bytes, false)) {
          bytes.erase(0, m.size);
          for (size_t at = 0; at < answer_.size();) {
            const ssize_t sent = send(fd, answer_.data() + at, answer_.size() - at, MSG_NOSIGNAL);
            if (sent <= 0) break;
            at += static_cast<size_t>(sent);
          }
        }
      }
    }
  }
  int fd_;
  std::string path_, answer_, address_;
  std::thread thread_;
};

struct World {
  World(const std::string& upstream, Options options = {}) : loop(system_env()) {
    options.upstream = upstream;
    auto made = Proxy::create(loop, options, gate);
    EXPECT_TRUE(made) << made.error().message;
    proxy = std::move(*made);
    const auto started = proxy->start();
    EXPECT_TRUE(started) << started.error().message;
  }
  int dial() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    set_timeouts(fd);
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(proxy->port());
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&in), sizeof in), 0);
    return fd;
  }
  // Turns the loop until one complete response has arrived, or the connection has ended.
  StrictMessage receive(int fd) {
    std::string bytes;
    char buffer[65536];
    for (int turns = 0; turns < 100'000; ++turns) {
      const ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (n == 0) break;
      if (n > 0) bytes.append(buffer, static_cast<size_t>(n));
      const auto message = read_strict(bytes, true);
      if (message.state != StrictMessage::State::kIncomplete) return message;
      if (n < 0) loop.run_once(10);
    }
    return read_strict(bytes, true);
  }
  EventLoop loop;
  ScriptedGate gate;
  std::unique_ptr<Proxy> proxy;
};

TEST(ProxySocket, ServesOverTcpAndAddsTheClientsAddress) {
  const App app(AF_INET, "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  World world(app.address());
  const std::string address = world.proxy->bound_address();
  EXPECT_TRUE(address.starts_with("127.0.0.1:")) << address;
  world.gate.on_admit = [](const proxy::RequestView& view) {
    ASSERT_NE(view.peer, nullptr);
    EXPECT_EQ(view.peer->sa_family, AF_INET);
  };
  const int fd = world.dial();
  for (int i = 0; i < 3; ++i) {
    send(fd, kGet.data(), kGet.size(), MSG_NOSIGNAL);
    EXPECT_EQ(world.receive(fd).body, "hi");
  }
  EXPECT_EQ(world.proxy->counters().upstream_connects.get(), 1u);
  close(fd);
}

TEST(ProxySocket, ServesALargeBodyFromAUnixSocket) {
  const std::string path = ::testing::TempDir() + "proxy_socket_test.sock";
  const App app(AF_UNIX, path, "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + std::string(5'000'000, 'x'));
  World world(app.address());
  const int fd = world.dial();
  for (int i = 0; i < 2; ++i) {
    const std::string request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + std::string(200'000, 'y');
    std::thread sender([&] { send(fd, request.data(), request.size(), MSG_NOSIGNAL); });
    EXPECT_EQ(world.receive(fd).body.size(), 5'000'000u);
    sender.join();
  }
  close(fd);
}

TEST(ProxySocket, AnAppThatIsNotThereIsA502) {
  World world("127.0.0.1:1");
  const int fd = world.dial();
  send(fd, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  EXPECT_EQ(world.receive(fd).status(), 502);
  close(fd);
}

TEST(ProxySocket, OneClientTooManyIsToldSo) {
  Options options;
  options.client_connections_max = 1;
  World world("127.0.0.1:1", options);
  world.gate.verdict = proxy::Verdict::kWait;
  const int first = world.dial();
  send(first, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  while (world.gate.asked == 0) world.loop.run_once(100);
  const int second = world.dial();
  while (world.proxy->counters().clients_refused.get() == 0) world.loop.run_once(100);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(send(second, kGet.data(), kGet.size(), MSG_NOSIGNAL), static_cast<ssize_t>(kGet.size()))
        << "no reset that may destroy the answer";
  }
  EXPECT_EQ(world.receive(second).status(), 503);
  close(first);
  close(second);
}

TEST(ProxySocket, ASilentClientMakesRoom) {
  const App app(AF_INET, "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  Options options;
  options.client_connections_max = 1;
  World world(app.address(), options);
  const int first = world.dial();
  world.loop.run_once(100);
  const int second = world.dial();
  send(second, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  EXPECT_EQ(world.receive(second).status(), 200);
  char byte;
  EXPECT_EQ(recv(first, &byte, 1, 0), 0);
  close(first);
  close(second);
}

TEST(ProxySocket, ADenialReachesWhoSendsAllBeforeReading) {
  Options options;
  World world("127.0.0.1:1", options);
  world.gate.verdict = proxy::Verdict::kDeny;
  const int fd = world.dial();
  std::atomic<bool> sent = false, whole = false;
  std::thread sender([&] {
    const std::string request =
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n" + std::string(20'000'000, 'y');
    size_t at = 0;
    for (ssize_t n = 1; n > 0 && at < request.size(); at += static_cast<size_t>(std::max<ssize_t>(n, 0))) {
      n = send(fd, request.data() + at, request.size() - at, MSG_NOSIGNAL);
    }
    whole = at == request.size();
    sent = true;
  });
  while (!sent) world.loop.run_once(10);
  sender.join();
  EXPECT_TRUE(whole);
  EXPECT_EQ(world.receive(fd).status(), 429);
  close(fd);
}

TEST(ProxySocket, WithoutDescriptorsItWaitsForSome) {
  const App app(AF_INET, "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  World world(app.address());
  const int first = world.dial();
  send(first, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  EXPECT_EQ(world.receive(first).status(), 200) << "the app has a descriptor of its own";
  const int fd = world.dial();
  send(fd, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int free = dup(fd);
  close(free);
  const rlimit none{static_cast<rlim_t>(free), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  for (int turns = 0; turns < 30; ++turns) world.loop.run_once(5);
  const uint64_t failures = world.proxy->counters().accept_failures.get();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_GE(failures, 1u);
  EXPECT_LT(failures, 10u) << "it tries again now and then, not in each turn";
  EXPECT_EQ(world.receive(fd).status(), 200);
  close(fd);
  close(first);
}

TEST(ProxySocket, DrainEndsWithTheLastConnection) {
  const App app(AF_INET, "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  World world(app.address());
  const int fd = world.dial();
  send(fd, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  EXPECT_EQ(world.receive(fd).status(), 200);
  int done = 0;
  world.proxy->drain([&] { ++done; });
  for (int i = 0; i < 100 && done == 0; ++i) world.loop.run_once(10);
  EXPECT_EQ(done, 1);
  char byte;
  EXPECT_EQ(recv(fd, &byte, 1, 0), 0);
  close(fd);
}

TEST(ProxySocket, WindingDownServesWhoComesAndKeepsNoConnection) {
  const App app(AF_INET, "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  World world(app.address());
  const int before = world.dial();
  send(before, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  EXPECT_EQ(world.receive(before).status(), 200);
  world.proxy->wind_down();
  for (int i = 0; i < 5; ++i) world.loop.run_once(10);
  char byte;
  EXPECT_EQ(recv(before, &byte, 1, 0), 0) << "it was idle";
  close(before);
  for (int i = 0; i < 3; ++i) {
    const int fd = world.dial();
    send(fd, kGet.data(), kGet.size(), MSG_NOSIGNAL);
    EXPECT_EQ(world.receive(fd).status(), 200);
    for (int turn = 0; turn < 5; ++turn) world.loop.run_once(10);
    EXPECT_EQ(recv(fd, &byte, 1, 0), 0) << "answered and closed";
    close(fd);
  }
  int done = 0;
  world.proxy->drain([&] { ++done; });
  for (int i = 0; i < 100 && done == 0; ++i) world.loop.run_once(10);
  EXPECT_EQ(done, 1);
}

// To the client it has been connected all along.
TEST(ProxySocket, DrainAnswersWhoWaitsToBeAccepted) {
  const App app(AF_INET, "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  World world(app.address());
  std::vector<int> waiting;
  for (int i = 0; i < 100; ++i) {
    waiting.push_back(world.dial());
    send(waiting.back(), kGet.data(), kGet.size(), MSG_NOSIGNAL);
  }
  int done = 0;
  world.proxy->drain([&] { ++done; });
  for (const int fd : waiting) {
    EXPECT_EQ(world.receive(fd).status(), 200);
    close(fd);
  }
  for (int i = 0; i < 100 && done == 0; ++i) world.loop.run_once(10);
  EXPECT_EQ(done, 1);
}

TEST(ProxySocket, DrainCutsWhatTakesTooLong) {
  Options options;
  options.drain_ms = 50;
  World world("127.0.0.1:1", options);
  const int fd = world.dial();
  send(fd, "GET / HT", 8, MSG_NOSIGNAL);
  world.loop.run_once(100);
  world.loop.run_once(10);
  int done = 0;
  world.proxy->drain([&] { ++done; });
  for (int i = 0; i < 100 && done == 0; ++i) world.loop.run_once(10);
  EXPECT_EQ(done, 1);
  close(fd);
}

TEST(ProxySocket, RefusesAddressesItDoesNotUnderstand) {
  EventLoop loop(system_env());
  ScriptedGate gate;
  for (const char* listen : {"", "1.2.3.4", "[::1", "unix:"}) {
    Options options;
    options.listen = listen;
    EXPECT_FALSE(Proxy::create(loop, options, gate)) << listen;
  }
}

}  // namespace
}  // namespace tallygate::testing
