// The relay against an app that is real as far as sockets go.
#include "sidecar/probes/relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <thread>

#include "core/http/server.h"

namespace tallygate::sidecar {
namespace {

// An app of core/http; what it was asked.
struct App {
  std::vector<http::Request> asked;
  std::unique_ptr<http::Server> server;
  explicit App(int status) {
    http::Router router;
    router.add("GET", "/{path...}", [this, status](const http::Request& request) {
      asked.push_back(request);
      return http::Response{status, "body", "text/plain", {{"Location", "/elsewhere"}}};
    });
    server = std::move(*http::Server::start({.host = "127.0.0.1"}, std::move(router), system_env()));
  }
  std::string upstream() const { return "[127.0.0.1]:" + std::to_string(server->port()); }
};

// Takes connections into its backlog, and answers nothing.
struct SilentApp {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  std::string upstream;
  SilentApp() {
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    bind(listener, reinterpret_cast<sockaddr*>(&here), size);
    listen(listener, 8);
    getsockname(listener, reinterpret_cast<sockaddr*>(&here), &size);
    upstream = "127.0.0.1:" + std::to_string(ntohs(here.sin_port));
  }
  ~SilentApp() { close(listener); }
};

AppProbes parse(const std::string& json) {
  auto parsed = app_probes()(json);
  EXPECT_TRUE(parsed) << json;
  return parsed ? *parsed : AppProbes();
}

http::Response ask(const AppProbes& probes, const std::string& path, const std::string& upstream) {
  http::Router router;
  add_relays(router, probes, upstream, system_env());
  http::Request request;
  request.method = "GET";
  request.path = path;
  request.headers = {{"user-agent", "kube-probe/1.35"}};
  const auto found = router.find(request);
  return found ? (*found)->blocking(request) : found.error();
}

TEST(Relay, AsksTheAppAsItsAuthorWrote) {
  App app(204);
  const auto probes = parse(R"({"/app-health/api/liveness":{"httpGet":{"path":"/live?deep=1","port":8080,
    "httpHeaders":[{"name":"X-Probe","value":"1"},{"name":"Host","value":"shop.example"}]},"timeoutSeconds":5}})");
  const auto answer = ask(probes, "/app-health/api/liveness", app.upstream());
  EXPECT_EQ(answer.status, 200) << answer.body;
  ASSERT_EQ(app.asked.size(), 1u);
  EXPECT_EQ(app.asked[0].path, "/live");
  EXPECT_EQ(app.asked[0].query, "deep=1");
  EXPECT_EQ(app.asked[0].host, "shop.example");
  EXPECT_EQ(app.asked[0].header("x-probe"), "1");
  EXPECT_EQ(app.asked[0].header("user-agent"), "kube-probe/1.35");
  EXPECT_EQ(ask(probes, "/app-health/api/readiness", app.upstream()).status, 404);
}

TEST(Relay, StatusDecidesAsWithAKubelet) {
  const auto probes = parse(R"({"/app-health/api/liveness":{"httpGet":{"port":8080},"timeoutSeconds":5}})");
  for (const auto& [status, relayed] : std::map<int, int>{{200, 200}, {302, 200}, {399, 200}, {404, 503}, {500, 503}}) {
    App app(status);
    EXPECT_EQ(ask(probes, "/app-health/api/liveness", app.upstream()).status, relayed) << status;
  }
}

TEST(Relay, AConnectionIsEnoughForTcp) {
  const auto probes = parse(R"({"/app-health/api/liveness":{"tcpSocket":{"port":"http"}}})");
  std::string upstream;
  {
    SilentApp app;
    upstream = app.upstream;
    EXPECT_EQ(ask(probes, "/app-health/api/liveness", upstream).status, 200);
  }
  const auto gone = ask(probes, "/app-health/api/liveness", upstream);
  EXPECT_EQ(gone.status, 503);
  EXPECT_NE(gone.body.find("Connection refused"), std::string::npos) << gone.body;
}

TEST(Relay, AnAppThatSaysNothingIsNotWaitedForLongerThanTheProbe) {
  SilentApp app;
  for (const std::string action : {R"("httpGet":{"path":"/"})", R"("grpc":{"port":80})"}) {
    const auto probes = parse(R"({"/app-health/api/liveness":{)" + action + R"(,"timeoutSeconds":1}})");
    const auto answer = ask(probes, "/app-health/api/liveness", app.upstream);
    EXPECT_EQ(answer.status, 503);
    EXPECT_NE(answer.body.find("in time"), std::string::npos) << answer.body;
  }
}

// Else each of its probes would last as long as a kubelet waits for it. (Were it waited for, this would take an hour.)
TEST(Relay, AnAppThatKeepsTheConnectionOpenIsNotWaitedFor) {
  SilentApp app;
  std::thread answers([&] {
    const int connection = accept(app.listener, nullptr, nullptr);
    char request[4096];
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    EXPECT_GT(recv(connection, request, sizeof request, 0), 0);
    EXPECT_EQ(send(connection, answer.data(), answer.size(), 0), static_cast<ssize_t>(answer.size()));
    EXPECT_EQ(recv(connection, request, sizeof request, 0), 0) << "the prober closes";
    close(connection);
  });
  const auto probes = parse(R"({"/app-health/api/readiness":{"httpGet":{"path":"/"},"timeoutSeconds":3600}})");
  EXPECT_EQ(ask(probes, "/app-health/api/readiness", app.upstream).status, 200);
  answers.join();
}

TEST(Relay, GrpcIsNotHttp) {
  App app(200);
  const auto probes = parse(R"({"/app-health/api/liveness":{"grpc":{"port":80},"timeoutSeconds":5}})");
  EXPECT_EQ(ask(probes, "/app-health/api/liveness", app.upstream()).status, 503);
}

TEST(Relay, WhatTheWebhookDoesNotWriteIsRefused) {
  for (const char* bad :
       {"", "[]", "{", R"({"/other/api/liveness":{"tcpSocket":{}}})", R"({"/app-health/api":{"tcpSocket":{}}})",
        R"({"/app-health/api/{x}":{"tcpSocket":{}}})", R"({"/app-health//x":{"tcpSocket":{}}})",
        R"({"/app-health/api/liveness":{}})", R"({"/app-health/api/liveness":{"httpGet":{"path":"/a b"}}})",
        R"({"/app-health/api/liveness":{"httpGet":{"path":"/","httpHeaders":[{"name":"A","value":"x\r\nB: y"}]}}})",
        R"({"/app-health/api/liveness":{"tcpSocket":{},"timeoutSeconds":"1"}})"}) {
    EXPECT_FALSE(app_probes()(bad)) << bad;
  }
}

}  // namespace
}  // namespace tallygate::sidecar
