// The server is paused, killed, restarted.
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

using redis::Client;
using redis::Connection;
using redis::Reply;

constexpr int64_t kPatienceMs = 10'000;

redis::ConnectionOptions quick() {
  redis::ConnectionOptions options;
  options.call_timeout_ms = 100;
  options.connect_timeout_ms = 2000;
  options.backoff_max_ms = 50;
  return options;
}

TEST(Outage, APausedServerIsATimeoutAndComesBack) {
  ScratchRedis server;
  Client client(system_env(), server.endpoint(), quick());
  ASSERT_TRUE(client.call({"PING"}).has_value());
  server.pause();
  auto late = client.call({"INCR", "counter"});
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().errc, Errc::kTimeout) << "nobody knows";
  EXPECT_FALSE(client.connected());
  server.resume();
  Result<Reply> pong = fail(Errc::kUnavailable, "");
  for (int i = 0; i < 20 && !pong; ++i) pong = client.call({"PING"});
  EXPECT_TRUE(pong.has_value()) << pong.error().message;
}

TEST(Outage, EachCallKeepsItsOwnDeadline) {
  ScratchRedis server;
  EventLoop loop(system_env());
  Connection connection(loop, server.endpoint(), quick());
  connection.start();
  const int64_t until_ms = system_env().mono_ms() + kPatienceMs;
  while (!connection.connected() && system_env().mono_ms() < until_ms) loop.run_once(10);
  int64_t long_ms = 0, short_ms = 0;
  const int64_t start_ms = system_env().mono_ms();
  connection.call({"BLPOP", "no-such-list", "0"}, [&](Result<Reply>) { long_ms = system_env().mono_ms(); }, 8000);
  connection.call({"PING"}, [&](Result<Reply> reply) {
    EXPECT_FALSE(reply.has_value());
    short_ms = system_env().mono_ms();
  });
  while (short_ms == 0 && system_env().mono_ms() < start_ms + 8000) loop.run_once(10);
  ASSERT_NE(short_ms, 0);
  // Not a measurement: the shorter deadline must not wait for the longer one of the call before it.
  EXPECT_LT(short_ms - start_ms, 7000);
}

TEST(Outage, CallsInFlightAtADeathAreUnknownAndTheNextOnesRefused) {
  ScratchRedis server;
  EventLoop loop(system_env());
  Connection connection(loop, server.endpoint(), quick());
  std::vector<bool> changes;
  connection.on_change([&](bool connected) { changes.push_back(connected); });
  connection.start();
  const auto turn_until = [&](auto done) {
    const int64_t until_ms = system_env().mono_ms() + kPatienceMs;
    while (!done() && system_env().mono_ms() < until_ms) loop.run_once(10);
    return done();
  };
  ASSERT_TRUE(turn_until([&] { return connection.connected(); }));
  std::vector<Errc> errors;
  for (int i = 0; i < 5; ++i) {
    connection.call({"BLPOP", "no-such-list", "0"}, [&](Result<Reply> r) { errors.push_back(r.error().errc); }, 60'000);
  }
  loop.run_once(0);
  loop.run_once(0);
  server.kill();
  ASSERT_TRUE(turn_until([&] { return errors.size() == 5; }));
  EXPECT_EQ(errors, std::vector<Errc>(5, Errc::kTimeout));
  EXPECT_FALSE(connection.connected());
  EXPECT_NE(connection.last_error(), "");
  for (int i = 0; i < 30; ++i) loop.run_once(10);
  connection.call({"PING"}, [&](Result<Reply> r) { errors.push_back(r.error().errc); });
  ASSERT_TRUE(turn_until([&] { return errors.size() == 6; }));
  EXPECT_EQ(errors.back(), Errc::kUnavailable);
  server.start();
  ASSERT_TRUE(turn_until([&] { return connection.connected(); }));
  EXPECT_EQ(connection.last_error(), "");
  EXPECT_EQ(changes, (std::vector<bool>{true, false, true}));
}

// A worker that turned no loop since the server went and came back: nothing was sent, so nothing is lost by trying now.
TEST(Outage, TheFirstCallAfterARestartSucceeds) {
  ScratchRedis server;
  Client client(system_env(), server.endpoint(), quick());
  ASSERT_TRUE(client.call({"PING"}).has_value());
  for (int i = 0; i < 3; ++i) {
    server.kill();
    server.start();
    const auto pong = client.call({"PING"});
    ASSERT_TRUE(pong.has_value()) << pong.error().message;
  }
}

TEST(Outage, NobodyThereIsUnavailable) {
  redis::Endpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = free_port();
  redis::ConnectionOptions options = quick();
  options.connect_timeout_ms = 200;
  Client client(system_env(), endpoint, options);
  const auto refused = client.call({"PING"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().errc, Errc::kUnavailable);
  EXPECT_NE(refused.error().message.find(std::to_string(endpoint.port)), std::string::npos) << refused.error().message;
  redis::Endpoint no_socket;
  no_socket.unix_path = "/no/such/socket";
  Client nowhere(system_env(), no_socket, options);
  EXPECT_EQ(nowhere.call({"PING"}).error().errc, Errc::kUnavailable);
  redis::Endpoint too_long;
  too_long.unix_path = "/" + std::string(200, 'x');
  Client longer(system_env(), too_long, options);
  EXPECT_NE(longer.call({"PING"}).error().message.find("too long"), std::string::npos);
  redis::Endpoint no_name;
  no_name.host = "no-such-host.invalid";
  Client unnamed(system_env(), no_name, options);
  EXPECT_EQ(unnamed.call({"PING"}).error().errc, Errc::kUnavailable);
}

}  // namespace
}  // namespace tallygate::testing
