// Servers that are none: they hang up in the middle, speak nonsense, answer what nobody asked.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

using redis::Client;
using redis::Connection;
using redis::Reply;

// Accepts one connection after another and hands each to `serve`, on a thread of its own.
class FakeServer {
 public:
  explicit FakeServer(std::function<void(int fd)> serve)
      : serve_(std::move(serve)), fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    TG_ASSERT(bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(fd_, 64) == 0);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      while (true) {
        const int client = accept(fd_, nullptr, nullptr);
        if (client < 0) return;
        ++accepted_;
        serve_(client);
        close(client);
      }
    });
  }
  ~FakeServer() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  redis::Endpoint endpoint() const {
    redis::Endpoint e;
    e.host = "127.0.0.1";
    e.port = port_;
    return e;
  }
  int accepted() const { return accepted_; }

 private:
  std::function<void(int)> serve_;
  int fd_;
  int port_ = 0;
  std::atomic<int> accepted_ = 0;
  std::thread thread_;
};

bool read_some(int fd) {
  char buffer[4096];
  return recv(fd, buffer, sizeof buffer, 0) > 0;
}
void say(int fd, const std::string& text) { send(fd, text.data(), text.size(), MSG_NOSIGNAL); }
void wait_for_hang_up(int fd) {
  while (read_some(fd)) {
  }
}

redis::ConnectionOptions quick() {
  redis::ConnectionOptions options;
  options.connect_timeout_ms = 200;
  options.call_timeout_ms = 300;
  options.backoff_max_ms = 20;
  return options;
}

TEST(HostileServer, NonsenseInsteadOfAnAnswerBreaksTheConnection) {
  for (const std::string& nonsense :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string(":12x\r\n"), std::string("$-7\r\n"),
        std::string("$abc\r\n"), std::string("*-9\r\n"), std::string("\0\0\0\0", 4), std::string(20'000, '*'),
        std::string("$3\r\nabcdef\r\n"),
        std::string("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
        std::string("+OK\r\n+OK\r\n+unasked\r\n"),
        std::string("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n*0\r\n")}) {
    FakeServer server([&](int fd) {
      if (!read_some(fd)) return;
      say(fd, "+OK\r\n");  // SELECT
      if (!read_some(fd)) return;
      say(fd, nonsense);
      wait_for_hang_up(fd);
    });
    Client client(system_env(), server.endpoint(), quick());
    for (int i = 0; i < 2; ++i) client.call({"PING"}).has_value();  // ends, one way or the other
    EXPECT_FALSE(client.pipeline({{"PING"}, {"PING"}, {"PING"}, {"PING"}})[3].has_value()) << nonsense.substr(0, 40);
  }
}

TEST(HostileServer, ByteByByteIsStillAnAnswer) {
  FakeServer server([](int fd) {
    if (!read_some(fd)) return;
    say(fd, "+OK\r\n");
    if (!read_some(fd)) return;
    for (const char c : std::string("*2\r\n$5\r\nhel\r\n\r\n*1\r\n:-42\r\n")) {
      say(fd, std::string(1, c));
      std::this_thread::yield();
    }
    wait_for_hang_up(fd);
  });
  auto options = quick();
  options.call_timeout_ms = 5000;
  Client client(system_env(), server.endpoint(), options);
  const auto reply = client.call({"X"});
  ASSERT_TRUE(reply.has_value()) << reply.error().message;
  EXPECT_EQ(reply->elements.at(0).text, "hel\r\n");
  EXPECT_EQ(reply->elements.at(1).elements.at(0).integer, -42);
}

TEST(HostileServer, HangsUpInTheMiddleOfAnAnswer) {
  FakeServer server([](int fd) {
    if (!read_some(fd)) return;
    say(fd, "+OK\r\n");
    if (!read_some(fd)) return;
    say(fd, "+first\r\n$100\r\nhalf");
  });
  Client client(system_env(), server.endpoint(), quick());
  for (int i = 0; i < 5; ++i) {
    const auto replies = client.pipeline({{"A"}, {"B"}, {"C"}});
    if (!replies[0]) continue;
    EXPECT_EQ(replies[0]->text, "first");
    EXPECT_EQ(replies[1].error().errc, Errc::kTimeout);
    EXPECT_EQ(replies[2].error().errc, Errc::kTimeout);
    return;
  }
  FAIL() << "never connected";
}

TEST(HostileServer, SilenceAfterConnectingIsNotAConnection) {
  FakeServer server([](int fd) { wait_for_hang_up(fd); });
  Client client(system_env(), server.endpoint(), quick());
  const auto reply = client.call({"PING"});
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().errc, Errc::kUnavailable);
}

// Its length alone says that it will not end: memory is bounded, on a subscription, which has no deadline, too.
TEST(HostileServer, AnEndlessAnswerIsBrokenOff) {
  for (const bool subscribed : {true, false}) {
    std::atomic<size_t> sent = 0;
    FakeServer server([&](int fd) {
      if (!read_some(fd)) return;
      say(fd, "+OK\r\n");
      if (!read_some(fd)) return;
      say(fd, subscribed ? "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4000000000\r\n" : "$4000000000\r\n");
      const std::string piece(1 << 20, 'x');
      for (ssize_t n; (n = send(fd, piece.data(), piece.size(), MSG_NOSIGNAL)) > 0;) sent += static_cast<size_t>(n);
    });
    EventLoop loop(system_env());
    redis::ConnectionOptions options;
    options.call_timeout_ms = 60'000;
    options.backoff_min_ms = options.backoff_max_ms = 60'000;
    options.reply_bytes_max = 8 << 20;
    Connection connection(loop, server.endpoint(), options);
    if (subscribed) connection.subscribe({"c"}, [](std::string, std::string) { FAIL() << "a message"; });
    std::string why;
    connection.on_change([&](bool connected) {
      if (!connected) why = connection.last_error();
      if (connected && !subscribed) connection.call({"GET", "x"}, [](Result<Reply> reply) { EXPECT_FALSE(reply); });
    });
    connection.start();
    while (why.empty()) loop.run_once(10);
    EXPECT_NE(why.find("endless"), std::string::npos) << why;
    while (sent == 0) loop.run_once(1);
    EXPECT_LT(sent, 32u << 20) << "8 MiB, and what sockets hold";
  }
}

// A server that greets and hangs up at once (out of memory, a proxy without a backend): no storm of connections.
TEST(HostileServer, BackoffGrowsAlthoughEachGreetingSucceeds) {
  FakeServer server([](int fd) {
    if (read_some(fd)) say(fd, "+OK\r\n");
  });
  ManualEnv env;
  EventLoop loop(env);
  redis::ConnectionOptions options;
  options.backoff_min_ms = 20;
  options.backoff_max_ms = 1000;
  Connection connection(loop, server.endpoint(), options);
  const int64_t start_ms = env.mono_ms(), until_ms = system_env().mono_ms() + 20'000;
  connection.start();
  while (server.accepted() < 9 && system_env().mono_ms() < until_ms) {
    loop.run_once(0);
    system_env().sleep_ms(1);
    env.advance_ms(1);
  }
  // At least half of 20 + 40 + 80 + 160 + 320 + 640 + 1000 + 1000 of the manual clock.
  EXPECT_GE(env.mono_ms() - start_ms, 1600);
}

TEST(HostileServer, DestroyedInAnyState) {
  FakeServer server([](int fd) {
    if (!read_some(fd)) return;
    say(fd, "+OK\r\n");
    if (read_some(fd)) say(fd, "+half");
    wait_for_hang_up(fd);
  });
  EventLoop loop(system_env());
  for (int turns = 0; turns < 12; ++turns) {
    auto connection = std::make_unique<Connection>(loop, server.endpoint(), quick());
    connection->start();
    for (int i = 0; i < turns; ++i) {
      connection->call({"PING"}, [](Result<Reply>) {});
      loop.run_once(1);
    }
    connection.reset();
    loop.run_once(1);
  }
}

}  // namespace
}  // namespace tallygate::testing
