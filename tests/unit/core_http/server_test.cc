#include "core/http/server.h"

#include <gtest/gtest.h>

#include <mutex>
#include <regex>
#include <thread>

#include "tests/unit/core_http/raw_client.h"

namespace tallygate::http {
namespace {

Router sample_router() {
  Router router;
  router.add("GET", "/hello/{name}",
             [](const Request& r) { return text_response(200, "hello " + std::string(r.param("name"))); });
  router.add("POST", "/echo", [](const Request& r) {
    Response response = text_response(200, r.body);
    response.headers = {{"X-Seen", std::to_string(r.headers.size())}, {"X-Secret", std::string(r.header("x-secret"))}};
    return response;
  });
  router.add("GET", "/big", [](const Request&) { return text_response(200, std::string(300'000, 'b')); });
  router.add("DELETE", "/thing", [](const Request&) { return Response{204, "", "", {}}; });
  router.add("GET", "/illegal", [](const Request&) { return Response{200, "x", "", {{"X", "a\r\nB: c"}}}; });
  router.add("GET", "/throws", [](const Request&) -> Response { throw std::runtime_error("boom"); });
  return router;
}

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.io_threads = 2;
    options.on_completed = [this](const Completed& c) {
      const std::lock_guard lock(mutex_);
      completed_.push_back(std::string(c.method) + " " + std::string(c.route) + " " + std::to_string(c.status));
    };
    auto server = Server::start(options, sample_router(), system_env());
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  std::string once(const std::string& bytes) { return RawClient(server_->port()).exchange(bytes); }

  std::mutex mutex_;
  std::vector<std::string> completed_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AnswersAndKeepsTheConnection) {
  RawClient client(server_->port());
  client.send("GET /hello/ann HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string first = client.read_response();
  EXPECT_TRUE(first.starts_with("HTTP/1.1 200 OK\r\nDate: ")) << first;
  EXPECT_TRUE(first.ends_with("\r\n\r\nhello ann")) << first;
  EXPECT_EQ(first.find("Connection:"), std::string::npos);
  client.send("GET /hello/bob HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string second = client.read_all();
  EXPECT_NE(second.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(second.ends_with("hello bob"));
  EXPECT_EQ(server_->stats().connections_total, 1u);
  EXPECT_EQ(server_->stats().requests_total, 2u);
}

TEST_F(ServerTest, AnswersPipelinedRequestsInOrder) {
  std::string all;
  for (int i = 0; i < 50; ++i) {
    all += "\r\nGET /hello/" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n" +
           (i == 49 ? "Connection: close\r\n" : "") + "\r\n";
    all += i == 49 ? "" : "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
  }
  const std::string answers = once(all);
  size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    at = answers.find("hello " + std::to_string(i), at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_EQ(server_->stats().requests_total, 99u);
}

TEST_F(ServerTest, ReadsBodiesHoweverTheyArrive) {
  RawClient client(server_->port());
  const std::string chunked =
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
      "chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\nX-Secret: t\r\n\r\n";
  for (const char c : chunked) client.send(std::string_view(&c, 1));
  const std::string bytewise = client.read_response();
  EXPECT_TRUE(bytewise.ends_with("\r\n\r\nabcdefgh")) << bytewise;
  EXPECT_NE(bytewise.find("X-Secret: \r\n"), std::string::npos) << "trailers are not headers";
  const std::string body(200'000, 'z');
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + body);
  EXPECT_TRUE(client.read_response().ends_with("\r\n\r\n" + body));
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(client.read_response().ends_with("\r\n\r\n"));
}

TEST_F(ServerTest, SaysContinueWhereTheClientWaitsForIt) {
  RawClient client(server_->port());
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_response(), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_TRUE(client.read_response().ends_with("\r\n\r\nok"));
}

TEST_F(ServerTest, SendsLargeBodiesNoBodyAndHeads) {
  EXPECT_EQ(once("GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").size() > 300'000, true);
  const std::string head = once("HEAD /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_NE(head.find("Content-Length: 300000\r\n"), std::string::npos) << head;
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  const std::string none = once("DELETE /thing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(none.starts_with("HTTP/1.1 204 No Content\r\n"));
  EXPECT_EQ(none.find("Content-Length"), std::string::npos);
}

TEST_F(ServerTest, SpeaksHttp10) {
  EXPECT_NE(once("GET /hello/x HTTP/1.0\r\n\r\n").find("Connection: close\r\n"), std::string::npos);
  RawClient client(server_->port());
  client.send("GET /hello/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_NE(client.read_response().find("Connection: keep-alive\r\n"), std::string::npos);
}

TEST_F(ServerTest, ABadHandlerFailsItsRequestOnly) {
  for (const char* path : {"/illegal", "/throws"}) {
    const std::string answer = once(std::string("GET ") + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 500 ")) << answer;
    EXPECT_EQ(answer.find("boom"), std::string::npos);
    EXPECT_EQ(answer.find("B: c"), std::string::npos);
  }
}

TEST_F(ServerTest, ReportsEachRequestByItsRoute) {
  once("GET /hello/ann HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  once("GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  once("BREW /hello/pot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  once("nonsense\r\n\r\n");
  server_->drain(1'000);
  EXPECT_EQ(completed_,
            (std::vector<std::string>{"GET /hello/{name} 200", "GET  404", "OTHER /hello/{name} 405", "OTHER  400"}));
}

TEST_F(ServerTest, ServesManyClientsAtOnce) {
  std::atomic<int> good{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 8; ++t) {
    clients.emplace_back([&, t] {
      for (int round = 0; round < 5; ++round) {
        RawClient client(server_->port());
        for (int i = 0; i < 20; ++i) {
          const std::string name = std::to_string(t * 1000 + i);
          client.send("GET /hello/" + name + " HTTP/1.1\r\nHost: x\r\n\r\n");
          good += client.read_response().ends_with("hello " + name);
        }
      }
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(good, 800);
}

// Whatever answers, a handler or the server before there is one, or instead of it.
TEST(Server, NamesEveryRequestWhereItIsToldTo) {
  ServerOptions options;
  options.host = "127.0.0.1";
  options.body_bytes_max = 8;
  options.request_ids = true;
  auto server = Server::start(options, sample_router(), system_env());
  ASSERT_TRUE(server) << server.error().message;
  const auto once = [&](const std::string& head, const std::string& id) {
    return RawClient((*server)->port()).exchange(head + "X-Request-Id: " + id + "\r\nConnection: close\r\n\r\n");
  };
  const std::string host = " HTTP/1.1\r\nHost: x\r\n";
  for (const std::string& line : {"GET /none" + host, "POST /hello/x" + host, "GET /%zz" + host, "GET /throws" + host,
                                  "GET /illegal" + host, "POST /echo" + host + "Content-Length: 9\r\n"}) {
    const std::string answer = once(line, "id-1");
    std::smatch match;  // ours first, which nobody can choose
    ASSERT_TRUE(std::regex_search(answer, match, std::regex("\r\nX-Request-Id: ([0-9a-f]{32}\\.id-1)\r\n"))) << answer;
    EXPECT_TRUE(answer.ends_with(",\"requestId\":\"" + match.str(1) + "\"}")) << answer;
  }
  const std::string good = once("GET /hello/ann" + host, "id-2");
  EXPECT_NE(good.find(".id-2\r\n"), std::string::npos) << good;
  EXPECT_TRUE(good.ends_with("hello ann")) << good;
  // None that could be taken over: no head that can be read, no token, too long, two.
  for (const std::string& bytes :
       {once("GET /x HTTP/9.9\r\n", "id-3"), once("GET /x" + host, "id 3"),
        once("GET /x" + host, "id-3" + std::string(125, 'a')), once("GET /x" + host + "X-Request-Id: a\r\n", "id-3")}) {
    EXPECT_EQ(bytes.find("id-3"), std::string::npos) << bytes;
    EXPECT_NE(bytes.find(",\"requestId\":\""), std::string::npos) << bytes;
  }
}

TEST(Server, ListensOnEveryAddressByDefault) {
  auto server = Server::start({}, sample_router(), system_env());
  ASSERT_TRUE(server) << server.error().message;
  EXPECT_TRUE(RawClient((*server)->port()).connected());
  EXPECT_TRUE((*server)->address().ends_with(":" + std::to_string((*server)->port())));
}

}  // namespace
}  // namespace tallygate::http
