// Handlers that answer later, from wherever they like.
#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <thread>

#include "core/http/server.h"
#include "tests/unit/core_http/raw_client.h"

namespace tallygate::http {
namespace {

std::string get(const std::string& path) { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"; }

class AsyncTest : public ::testing::Test {
 protected:
  void start(ServerOptions options = {}) {
    options.host = "127.0.0.1";
    options.io_threads = 2;
    Router router;
    router.add_async("GET", "/later/{name}", [this](const Request& request, Reply reply) {
      const std::lock_guard lock(mutex);
      owed.emplace_back(std::string(request.param("name")), std::move(reply));
    });
    router.add_async("GET", "/now", [](const Request&, Reply reply) { reply(text_response(200, "now")); });
    router.add_async("GET", "/dropped", [](const Request&, Reply) {});
    router.add_async("GET", "/throws", [](const Request&, Reply) { throw std::runtime_error("boom"); });
    router.add_async("GET", "/worker-throws", [](const Request&, Reply reply) {
      auto owned = std::make_shared<Reply>(std::move(reply));
      owned->on_worker([owned] { throw std::runtime_error("boom"); });
    });
    router.add_async("GET", "/threads", [](const Request& request, Reply reply) {
      auto owned = std::make_shared<Reply>(std::move(reply));
      const auto io = std::this_thread::get_id();
      owned->on_worker([owned, io, &request] {
        const bool moved = std::this_thread::get_id() != io;
        owned->on_io_thread([owned, io, moved, &request] {
          const bool back = std::this_thread::get_id() == io;
          (*owned)(text_response(200, std::string(request.route) + (moved && back ? " there and back" : " lost")));
        });
      });
    });
    server = std::move(*Server::start(options, std::move(router), system_env()));
  }
  // The replies that are owed, once there are that many.
  std::vector<std::pair<std::string, Reply>> take(size_t count) {
    while (true) {
      {
        const std::lock_guard lock(mutex);
        if (owed.size() >= count) return std::exchange(owed, {});
      }
      system_env().sleep_ms(1);
    }
  }

  std::mutex mutex;
  std::vector<std::pair<std::string, Reply>> owed;
  std::unique_ptr<Server> server;
};

TEST_F(AsyncTest, AnswersAtOnceOrFromAnotherThread) {
  start();
  RawClient client(server->port());
  client.send(get("/now"));
  EXPECT_TRUE(client.read_response().ends_with("now"));
  client.send(get("/later/ann"));
  std::thread([&] {
    auto all = take(1);
    all[0].second(text_response(200, "later " + all[0].first));
  }).join();
  EXPECT_TRUE(client.read_response().ends_with("later ann"));
  client.send(get("/threads"));
  EXPECT_TRUE(client.read_response().ends_with("/threads there and back"));
}

TEST_F(AsyncTest, PipelinedRequestsAreServedOneByOneInOrder) {
  start();
  RawClient client(server->port());
  client.send(get("/later/a") + get("/now") + get("/later/b"));
  for (const char* name : {"a", "b"}) {
    auto all = take(1);
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].first, name);
    all[0].second(text_response(200, all[0].first));
    EXPECT_TRUE(client.read_response().ends_with(name));
    if (all[0].first == "a") {
      EXPECT_TRUE(client.read_response().ends_with("now"));
    }
  }
}

TEST_F(AsyncTest, WhoIsOwedAnAnswerGetsOne) {
  start();
  for (const char* path : {"/dropped", "/throws", "/worker-throws"}) {
    RawClient client(server->port());
    client.send(get(path));
    const std::string answer = client.read_response();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 500 ")) << path << answer;
    EXPECT_EQ(answer.find("boom"), std::string::npos);
    client.send(get("/now"));
    EXPECT_TRUE(client.read_response().ends_with("now")) << "it does not cost the connection";
  }
}

TEST_F(AsyncTest, AnAnswerToAClientThatLeftGoesNowhere) {
  start();
  {
    RawClient client(server->port());
    client.send(get("/later/gone"));
    while (server->stats().requests_total == 0) system_env().sleep_ms(1);
  }
  auto all = take(1);
  all[0].second(text_response(200, std::string(1'000'000, 'x')));
  while (server->stats().connections_open > 0) system_env().sleep_ms(1);
  RawClient other(server->port());
  other.send(get("/now"));
  EXPECT_TRUE(other.read_response().ends_with("now"));
}

// What one caller has under way is bounded until its replies, and others are served meanwhile.
TEST_F(AsyncTest, ALaneThatOwesRepliesStopsNoOther) {
  ServerOptions options;
  options.worker_threads = 4;
  options.running_per_lane_max = 3;
  options.queue_timeout_ms = 60'000;
  options.lane_of = [](const Request& r) { return static_cast<uint64_t>(r.path.starts_with("/later")); };
  start(options);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(std::make_unique<RawClient>(server->port()));
    clients.back()->send(get("/later/" + std::to_string(i)));
  }
  while (server->stats().queue_length < 2) system_env().sleep_ms(1);
  RawClient other(server->port());
  other.send(get("/now"));
  EXPECT_TRUE(other.read_response().ends_with("now"));
  auto first = take(3);
  EXPECT_EQ(first.size(), 3u);
  for (auto& [name, reply] : first) reply(text_response(200, "done"));
  auto rest = take(2);
  EXPECT_EQ(rest.size(), 2u);
  for (auto& [name, reply] : rest) reply(text_response(200, "done"));
  for (auto& client : clients) EXPECT_TRUE(client->read_response().ends_with("done"));
}

TEST_F(AsyncTest, WhatHasWaitedTooLongIsRefusedAndTheRestServed) {
  ServerOptions options;
  options.worker_threads = 1;
  options.queue_timeout_ms = 20;
  start(options);
  RawClient running(server->port()), waiting(server->port());
  running.send(get("/later/a"));
  auto all = take(1);
  waiting.send(get("/now"));
  while (server->stats().queue_length == 0) system_env().sleep_ms(1);
  system_env().sleep_ms(30);
  all[0].second(text_response(200, "done"));
  EXPECT_TRUE(running.read_response().ends_with("done"));
  EXPECT_TRUE(waiting.read_response().starts_with("HTTP/1.1 503 "));
  waiting.send(get("/now"));
  EXPECT_TRUE(waiting.read_response().ends_with("now"));
}

TEST_F(AsyncTest, DrainingWaitsForAnswersThatAreOwed) {
  start();
  RawClient busy(server->port());
  busy.send(get("/later/a"));
  auto all = take(1);
  std::thread drainer([this] { server->drain(10'000); });
  while (RawClient(server->port()).connected()) system_env().sleep_ms(1);
  all[0].second(text_response(200, "done"));
  const std::string answer = busy.read_all();
  EXPECT_TRUE(answer.ends_with("done")) << answer;
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  busy.close_now();
  drainer.join();
}

// Past its grace the connections are closed; the server still ends only when nobody can use it any more.
TEST_F(AsyncTest, AServerOutlivesTheRepliesThatItIsOwed) {
  start();
  RawClient busy(server->port());
  busy.send(get("/later/a") + get("/now"));
  auto all = take(1);
  std::thread dropper([this] { server.reset(); });
  EXPECT_TRUE(busy.at_end());
  all.clear();  // without a call
  dropper.join();
}

}  // namespace
}  // namespace tallygate::http
