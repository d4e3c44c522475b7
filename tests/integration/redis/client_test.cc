// The client on a real server: order, bounds, scripts, subscriptions, lifetimes.
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

using redis::Client;
using redis::Command;
using redis::Connection;
using redis::Reply;

constexpr int64_t kPatienceMs = 10'000;

class RedisClient : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ScratchRedis; }
  static void TearDownTestSuite() { delete server_; }
  void connect(Connection& connection) {
    connection.start();
    turn_until([&] { return connection.connected(); });
  }
  template <class Done>
  void turn_until(Done done) {
    const int64_t until_ms = system_env().mono_ms() + kPatienceMs;
    while (!done()) {
      ASSERT_LT(system_env().mono_ms(), until_ms);
      loop.run_once(10);
    }
  }

  static inline ScratchRedis* server_;
  EventLoop loop{system_env()};
};

TEST_F(RedisClient, AnswersInOrderOverAnyTransport) {
  for (const auto& endpoint : {server_->endpoint(), server_->unix_endpoint()}) {
    Client client(system_env(), endpoint);
    std::vector<Command> commands;
    for (int i = 0; i < 1000; ++i) commands.push_back({"ECHO", std::to_string(i)});
    const auto replies = client.pipeline(commands);
    ASSERT_EQ(replies.size(), 1000u);
    for (size_t i = 0; i < replies.size(); ++i) {
      ASSERT_TRUE(replies[i].has_value()) << replies[i].error().message;
      EXPECT_EQ(replies[i]->text, std::to_string(i));
    }
  }
}

TEST_F(RedisClient, TenThousandCallsInOneTurn) {
  Connection connection(loop, server_->endpoint());
  connect(connection);
  int64_t next = 0;
  bool inside = true;
  for (int64_t i = 0; i < 10'000; ++i) {
    connection.call({"ECHO", std::to_string(i)}, [&, i](Result<Reply> reply) {
      ASSERT_FALSE(inside) << "never from inside call()";
      ASSERT_TRUE(reply.has_value()) << reply.error().message;
      ASSERT_EQ(reply->text, std::to_string(i));
      ASSERT_EQ(next++, i);
    });
  }
  inside = false;
  turn_until([&] { return next == 10'000; });
}

TEST_F(RedisClient, LargeAndBinaryValues) {
  Client client(system_env(), server_->endpoint());
  std::string value(8 << 20, 'x');
  for (size_t i = 0; i < value.size(); i += 7) value[i] = static_cast<char>(i);
  ASSERT_TRUE(client.call({"SET", "big", value}).has_value());
  const auto back = client.call({"GET", "big"});
  ASSERT_TRUE(back.has_value());
  EXPECT_TRUE(back->text == value);
  EXPECT_TRUE(client.call({"GET", "nothing"})->is_nil());
  EXPECT_EQ(client.call({"ECHO", ""})->text, "");
  client.call({"DEL", "big"}).value();
}

TEST_F(RedisClient, AnErrorReplyIsAReply) {
  Client client(system_env(), server_->endpoint());
  const auto reply = client.call({"NONSENSE"});
  ASSERT_TRUE(reply.has_value());
  EXPECT_TRUE(reply->is_error());
  EXPECT_FALSE(Client::check(reply).has_value());
  const auto replies = client.pipeline({{"SET", "k", "v"}, {"LPUSH", "k", "x"}, {"GET", "k"}});
  EXPECT_TRUE(replies[1]->is_error());
  EXPECT_EQ(replies[2]->text, "v") << "the connection goes on";
}

TEST_F(RedisClient, NestedArrays) {
  Client client(system_env(), server_->endpoint());
  const auto reply = client.call({"EVAL", "return {1, {'two', {3, false}}, {}}", "0"});
  ASSERT_TRUE(reply && reply->is_array());
  EXPECT_EQ(reply->elements[0].integer, 1);
  EXPECT_EQ(reply->elements[1].elements[1].elements[0].integer, 3);
  EXPECT_TRUE(reply->elements[1].elements[1].elements[1].is_nil());
  EXPECT_TRUE(reply->elements[2].is_array());
}

TEST_F(RedisClient, AnUnknownScriptIsSentWhole) {
  Client client(system_env(), server_->endpoint());
  for (int round = 0; round < 2; ++round) {
    client.call({"SCRIPT", "FLUSH"}).value();
    const auto first = client.eval(redis_contract::kRenew, {redis_contract::epoch_key(5)}, {});
    ASSERT_TRUE(first.has_value()) << first.error().message;
    EXPECT_EQ(first->to_integer(-1), 0);
    EXPECT_EQ(client.call({"SCRIPT", "EXISTS", std::string(redis_contract::kRenew.sha1)})->elements[0].integer, 1);
    EXPECT_EQ(client.eval(redis_contract::kRenew, {redis_contract::epoch_key(5)}, {})->to_integer(-1), 0);
  }
  client.call({"SCRIPT", "FLUSH"}).value();
  std::vector<Client::Eval> evals;
  for (int shard = 0; shard < 64; ++shard) {
    evals.push_back({&redis_contract::kOpen, {redis_contract::epoch_key(shard)}, {std::to_string(shard + 1)}});
  }
  const auto replies = client.eval_all(evals);
  for (int shard = 0; shard < 64; ++shard) EXPECT_EQ(replies[static_cast<size_t>(shard)]->to_integer(-1), shard + 1);
  client.call({"FLUSHALL"}).value();
}

TEST_F(RedisClient, SelectsItsDatabase) {
  auto third = server_->endpoint();
  third.db = 3;
  Client in_third(system_env(), third), in_first(system_env(), server_->unix_endpoint());
  in_third.call({"SET", "here", "1"}).value();
  EXPECT_TRUE(in_first.call({"GET", "here"})->is_nil());
  in_first.call({"SELECT", "3"}).value();
  EXPECT_EQ(in_first.call({"GET", "here"})->text, "1");
  auto none = server_->endpoint();
  none.db = 9999;
  Client nowhere(system_env(), none);
  const auto refused = nowhere.call({"PING"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("out of range"), std::string::npos) << refused.error().message;
}

// The server listens on 127.0.0.1 only; localhost may well be ::1 first.
TEST_F(RedisClient, FindsTheAddressOfANameThatAnswers) {
  auto endpoint = server_->endpoint();
  endpoint.host = "localhost";
  redis::ConnectionOptions options;
  options.connect_timeout_ms = 5000;
  Client client(system_env(), endpoint, options);
  const auto pong = client.call({"PING"});
  ASSERT_TRUE(pong.has_value()) << pong.error().message;
}

TEST_F(RedisClient, SubscribesAgainAfterEveryReconnect) {
  Connection subscriber(loop, server_->endpoint());
  Client client(system_env(), server_->unix_endpoint());
  std::vector<std::string> heard;
  subscriber.subscribe({"one", "two"},
                       [&](std::string channel, std::string message) { heard.push_back(channel + ":" + message); });
  connect(subscriber);
  const auto subscribed = [&] { return client.call({"PUBSUB", "NUMSUB", "two"})->elements.at(1).integer == 1; };
  turn_until(subscribed);
  client.call({"PUBLISH", "two", "first"}).value();
  turn_until([&] { return heard.size() == 1; });
  client.call({"CLIENT", "KILL", "TYPE", "pubsub"}).value();
  turn_until([&] { return !subscriber.connected(); });
  turn_until(subscribed);
  client.call({"PUBLISH", "one", ""}).value();
  turn_until([&] { return heard.size() == 2; });
  EXPECT_EQ(heard, (std::vector<std::string>{"two:first", "one:"}));
}

TEST_F(RedisClient, HasABoundOnCallsInFlight) {
  redis::ConnectionOptions options;
  options.max_pending = 10;
  Connection connection(loop, server_->endpoint(), options);
  connect(connection);
  int fine = 0, refused = 0;
  for (int i = 0; i < 15; ++i) {
    connection.call({"PING"}, [&](Result<Reply> reply) {
      if (reply)
        ++fine;
      else if (reply.error().errc == Errc::kExhausted)
        ++refused;
    });
  }
  turn_until([&] { return fine + refused == 15; });
  EXPECT_EQ(fine, 10);
}

TEST_F(RedisClient, BeforeItIsConnectedEveryCallIsRefusedLater) {
  Connection connection(loop, server_->endpoint());
  int refused = 0;
  for (int i = 0; i < 3; ++i) {
    connection.call({"PING"}, [&](Result<Reply> reply) {
      ASSERT_FALSE(reply.has_value());
      EXPECT_EQ(reply.error().errc, Errc::kUnavailable) << "certainly not executed";
      ++refused;
    });
  }
  EXPECT_EQ(refused, 0) << "not from inside call()";
  turn_until([&] { return refused == 3; });
}

TEST_F(RedisClient, WhatWasNeverSentIsUnavailableAndNotUnknown) {
  Connection connection(loop, server_->endpoint());
  connect(connection);
  Errc sent = Errc::kInternal, unsent = Errc::kInternal;
  connection.call({"BLPOP", "no-such-list", "0"}, [&](Result<Reply> reply) { sent = reply.error().errc; }, 60'000);
  loop.run_once(0);
  loop.run_once(0);
  connection.call({"SET", "never", "1"}, [&](Result<Reply> reply) { unsent = reply.error().errc; });
  connection.stop();
  turn_until([&] { return sent != Errc::kInternal && unsent != Errc::kInternal; });
  EXPECT_EQ(sent, Errc::kTimeout);
  EXPECT_EQ(unsent, Errc::kUnavailable);
  connection.stop();
  connection.start();
  connection.start();
  turn_until([&] { return connection.connected(); });
}

TEST_F(RedisClient, DestructionDropsCallsInFlightSilently) {
  for (int round = 0; round < 20; ++round) {
    auto called = std::make_shared<int>(0);
    {
      Connection connection(loop, server_->endpoint());
      connection.call({"PING"}, [called](Result<Reply>) { ++*called; });  // refused, told in the next turn
      connection.start();
      const int turns = round;
      for (int i = 0; i < turns && !connection.connected(); ++i) loop.run_once(5);
      *called = 0;
      for (int i = 0; i < 100; ++i) connection.call({"PING"}, [called](Result<Reply>) { ++*called; });
      connection.eval(redis_contract::kRenew, {"k"}, {}, [called](Result<Reply>) { ++*called; });
      if (round % 3 == 0) connection.stop();
    }
    for (int i = 0; i < 5; ++i) loop.run_once(1);
    EXPECT_EQ(*called, 0) << "their owner may be gone";
  }
}

TEST_F(RedisClient, CallbacksMayCallStopAndStart) {
  Connection connection(loop, server_->endpoint());
  connect(connection);
  int answered = 0, changes = 0;
  connection.on_change([&](bool) { ++changes; });
  connection.call({"PING"}, [&](Result<Reply>) {
    ++answered;
    connection.stop();
    connection.start();
  });
  for (int i = 0; i < 50; ++i) connection.call({"PING"}, [&](Result<Reply>) { ++answered; });
  turn_until([&] { return answered == 51 && connection.connected(); });
  EXPECT_EQ(changes, 2);
  bool pong = false;
  connection.call({"PING"}, [&](Result<Reply> reply) { pong = reply.has_value(); });
  turn_until([&] { return pong; });
}

}  // namespace
}  // namespace tallygate::testing
