#include "tests/unit/http_client/support.h"

namespace tallygate {
namespace {

class Conformance : public HttpClientTest {
 protected:
  void SetUp() override {
    http::ServerOptions options;
    options.host = "127.0.0.1";
    options.body_bytes_max = 8 * 1024 * 1024;
    http::Router router;
    const auto echo = [](const http::Request& r) {
      std::string text = r.method + " " + r.path + " ?" + r.query + "\n";
      for (const auto& [name, value] : r.headers) {
        if (name != "host" && name != "connection") text += name + ": " + value + "\n";
      }
      return http::text_response(200, text + "\n" + r.body);
    };
    for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE"}) router.add(method, "/echo/{rest...}", echo);
    router.add("GET", "/status/{code}", [](const http::Request& r) {
      http::Response response = http::text_response(std::stoi(std::string(r.param("code"))), "body");
      if (response.status == 204 || response.status == 304) response.body.clear();
      response.headers = {{"X-Request-Id", "42"}, {"Location", "/status/200"}, {"X-Many", "a"}, {"X-Many", "b"}};
      return response;
    });
    router.add("GET", "/bytes/{n}", [](const http::Request& r) {
      return http::text_response(200, std::string(std::stoul(std::string(r.param("n"))), 'b'));
    });
    server_ = std::move(*http::Server::start(options, std::move(router), system_env()));
    client_ = make();
  }
  std::string url(const std::string& path) { return "http://127.0.0.1:" + std::to_string(server_->port()) + path; }
  Result<HttpResponse> get(const std::string& path) { return client_->send({.url = url(path)}); }
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<HttpClient> client_;
};
TALLYGATE_FOR_EACH_CLIENT(Conformance);

TEST_P(Conformance, GivesStatusHeadersAndBody) {
  for (const int status : {200, 201, 400, 404, 409, 429, 500, 503}) {
    const auto response = get("/status/" + std::to_string(status));
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->body, "body");
    EXPECT_EQ(response->header("x-request-id"), "42");
    EXPECT_EQ(response->header("x-many"), "a, b");
    EXPECT_EQ(response->header("content-type"), "text/plain; charset=utf-8");
    EXPECT_EQ(response->header("missing"), "");
  }
}

TEST_P(Conformance, DoesNotFollowRedirects) {
  for (const int status : {301, 302, 303, 307, 308}) {
    const auto response = get("/status/" + std::to_string(status));
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->header("location"), "/status/200");
  }
}

TEST_P(Conformance, TakesResponsesWithoutABody) {
  for (const int status : {204, 304}) {
    const auto response = get("/status/" + std::to_string(status));
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->body, "");
  }
  const auto head = client_->send({.method = "HEAD", .url = url("/bytes/1000")});
  ASSERT_TRUE(head) << head.error().message;
  EXPECT_EQ(head->status, 200);
  EXPECT_EQ(head->body, "");
  EXPECT_EQ(head->header("content-length"), "1000");
}

TEST_P(Conformance, SendsMethodTargetHeadersAndBodyAsTheyAre) {
  const auto response = client_->send({.method = "PATCH",
                                       .url = url("/echo/a%2Fb%20c/d?x=%26&y=1+2&empty=&labelSelector=a%3Db"),
                                       .headers = {{"Content-Type", "application/merge-patch+json"}, {"X-A", "1"}},
                                       .body = std::string("{\"a\":\0}", 7)});
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_TRUE(response->body.starts_with("PATCH /echo/a%2Fb%20c/d ?x=%26&y=1+2&empty=&labelSelector=a%3Db\n"))
      << response->body;
  EXPECT_NE(response->body.find("content-type: application/merge-patch+json\n"), std::string::npos) << response->body;
  EXPECT_NE(response->body.find("x-a: 1\n"), std::string::npos);
  EXPECT_TRUE(response->body.ends_with(std::string("\n\n{\"a\":\0}", 9)));
}

TEST_P(Conformance, AddsNoContentTypeOfItsOwn) {
  for (const char* method : {"POST", "PUT", "DELETE"}) {
    for (const char* body : {"", "x=1"}) {
      const auto response = client_->send({.method = method, .url = url("/echo/"), .body = body});
      ASSERT_TRUE(response) << response.error().message;
      EXPECT_EQ(response->body.find("content-type"), std::string::npos) << response->body;
      EXPECT_TRUE(response->body.ends_with(std::string("\n\n") + body)) << response->body;
    }
  }
}

TEST_P(Conformance, MovesLargeBodiesBothWays) {
  const auto down = get("/bytes/3000000");
  ASSERT_TRUE(down) << down.error().message;
  EXPECT_EQ(down->body, std::string(3'000'000, 'b'));
  const std::string body(3'000'000, 'u');
  const auto up = client_->send({.method = "POST", .url = url("/echo/"), .body = body});
  ASSERT_TRUE(up) << up.error().message;
  EXPECT_TRUE(up->body.ends_with("\n\n" + body));
}

TEST_P(Conformance, KeepsItsConnections) {
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(get("/status/200"));
  // Not exactly one: cpprestsdk hands a connection back a moment after the response.
  EXPECT_LE(server_->stats().connections_total, 10u);
}

TEST_P(Conformance, ServesManyThreads) {
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const auto response = get("/bytes/20000");
        good += response && response->body.size() == 20'000;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 160);
}

TEST_P(Conformance, RefusesWhatIsLargerThanAllowed) {
  client_ = make({.response_bytes_max = 1000});
  EXPECT_TRUE(get("/bytes/1000"));
  const auto response = get("/bytes/1001");
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().errc, Errc::kExhausted);
  EXPECT_EQ(get("/bytes/5000000").error().errc, Errc::kExhausted);
  EXPECT_TRUE(get("/bytes/1000")) << "the next call is not the worse for it";
}

TEST_P(Conformance, StreamsToACallbackAndEndsWhenToldTo) {
  size_t total = 0;
  const auto all = client_->send({.url = url("/bytes/3000000"), .on_body = [&](std::string_view piece) {
                                    total += piece.size();
                                    return true;
                                  }});
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(total, 3'000'000u);
  EXPECT_EQ(all->body, "");
  const auto some = client_->send({.url = url("/bytes/3000000"), .on_body = [](std::string_view) { return false; }});
  ASSERT_TRUE(some) << some.error().message;
  EXPECT_EQ(some->status, 200);
  const auto error = client_->send({.url = url("/status/410"), .on_body = [](std::string_view) { return false; }});
  ASSERT_TRUE(error) << error.error().message;
  EXPECT_EQ(error->body, "body") << "an error's body is not part of the stream";
}

TEST_P(Conformance, TellsTheHeadBeforeTheBody) {
  std::string order;
  const auto streamed = client_->send({.url = url("/bytes/10"),
                                       .on_body =
                                           [&](std::string_view piece) {
                                             order.append(piece);
                                             return true;
                                           },
                                       .on_head = [&](int status) { order += std::to_string(status) + " "; }});
  ASSERT_TRUE(streamed) << streamed.error().message;
  EXPECT_EQ(order, "200 bbbbbbbbbb");
  ASSERT_TRUE(
      client_->send({.url = url("/status/404"), .on_head = [&](int status) { order = std::to_string(status); }}));
  EXPECT_EQ(order, "404");
}

TEST_P(Conformance, ConnectsToAnIpv6Address) {
  http::Router router;
  router.add("GET", "/", [](const http::Request&) { return http::text_response(200, "six"); });
  const auto server = http::Server::start({.host = "::1"}, std::move(router), system_env());
  ASSERT_TRUE(server) << server.error().message;
  const auto response = client_->send({.url = "http://[::1]:" + std::to_string((*server)->port()) + "/"});
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_EQ(response->body, "six");
}

TEST_P(Conformance, RefusesRequestsThatMustNotBeSent) {
  const HttpRequest bad[] = {
      {.url = ""},
      {.url = "ftp://127.0.0.1/"},
      {.url = "file:///etc/passwd"},
      {.url = "http://"},
      {.url = "http://user:pw@127.0.0.1/"},
      {.url = url("/a b")},
      {.url = url("/a\r\nX: y")},
      {.url = url("/#x")},
      {.method = "GET /", .url = url("/")},
      {.method = "", .url = url("/")},
      {.url = url("/"), .headers = {{"X-A", "1\r\nX-B: 2"}}},
      {.url = url("/"), .headers = {{"X A", "1"}}},
      {.url = url("/"), .headers = {{"Content-Length", "5"}}},
      {.url = url("/"), .headers = {{"transfer-encoding", "chunked"}}},
      {.url = url("/"), .timeout_ms = 0},
  };
  for (const HttpRequest& request : bad) {
    const auto response = client_->send(request);
    ASSERT_FALSE(response) << request.url;
    EXPECT_EQ(response.error().errc, Errc::kInvalid) << response.error().message;
    EXPECT_EQ(response.error().message.find("pw"), std::string::npos);
  }
  EXPECT_EQ(server_->stats().requests_total, 0u);
}

}  // namespace
}  // namespace tallygate
