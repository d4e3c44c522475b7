#include "tests/unit/http_client/support.h"

namespace tallygate {
namespace {

using Failures = HttpClientTest;
TALLYGATE_FOR_EACH_CLIENT(Failures);

using Peer = ScriptedServer::Peer;
constexpr const char* kHead = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
constexpr const char* kChunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

int64_t took_ms(const std::function<void()>& fn) {
  const int64_t start_ms = system_env().mono_ms();
  fn();
  return system_env().mono_ms() - start_ms;
}

TEST_P(Failures, NobodyListens) {
  uint16_t port;
  {
    http::ServerOptions options;
    options.host = "127.0.0.1";
    port = (*http::Server::start(options, {}, system_env()))->port();
  }
  const auto response = make()->send({.url = "http://127.0.0.1:" + std::to_string(port) + "/secret-path?token=x"});
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().errc, Errc::kUnavailable) << response.error().message;
  EXPECT_NE(response.error().message.find("http://127.0.0.1:" + std::to_string(port)), std::string::npos);
  EXPECT_EQ(response.error().message.find("secret"), std::string::npos) << "paths and queries may hold secrets";
}

TEST_P(Failures, TheNameDoesNotExist) {
  const auto response = make()->send({.url = "http://nowhere.invalid/"});
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().errc, Errc::kUnavailable) << response.error().message;
}

TEST_P(Failures, NoAnswerComes) {
  ScriptedServer server([](Peer& peer) { peer.await_end(); });
  const auto client = make();
  EXPECT_LT(took_ms([&] {
              const auto response = client->send({.url = server.url(), .timeout_ms = 150});
              ASSERT_FALSE(response);
              EXPECT_EQ(response.error().errc, Errc::kTimeout) << response.error().message;
            }),
            2'000);
}

TEST_P(Failures, ADripDoesNotExtendTheCall) {
  ScriptedServer server([](Peer& peer) {
    peer.send(kHead);
    while (peer.send("x")) system_env().sleep_ms(20);
  });
  const auto client = make();
  EXPECT_LT(took_ms([&] {
              const auto response = client->send({.url = server.url(), .timeout_ms = 300});
              ASSERT_FALSE(response);
              EXPECT_EQ(response.error().errc, Errc::kTimeout) << response.error().message;
            }),
            2'000);
}

TEST_P(Failures, ADripOfHeadersDoesNotExtendTheCall) {
  ScriptedServer server([](Peer& peer) {
    peer.send("HTTP/1.1 200 OK\r\n");
    while (peer.send("X: y\r\n")) system_env().sleep_ms(20);
  });
  const auto client = make();
  EXPECT_LT(took_ms([&] {
              const auto response = client->send({.url = server.url(), .timeout_ms = 300});
              ASSERT_FALSE(response);
              EXPECT_EQ(response.error().errc, Errc::kTimeout) << response.error().message;
            }),
            2'000);
}

TEST_P(Failures, TheConnectionEndsInTheMiddle) {
  const std::pair<const char*, std::string> cases[] = {
      {"no head", ""},
      {"half a head", "HTTP/1.1 200 OK\r\nX-"},
      {"half a body", std::string(kHead) + "half"},
      {"half a chunk", std::string(kChunkedHead) + "5\r\nab"},
      {"no last chunk", std::string(kChunkedHead) + "2\r\nab\r\n"},
  };
  for (const bool reset : {false, true}) {
    for (const auto& [name, bytes] : cases) {
      ScriptedServer server([&, text = bytes](Peer& peer) {
        peer.send(text);
        if (reset) peer.reset_on_close();
        system_env().sleep_ms(20);
      });
      const auto response = make()->send({.method = "POST", .url = server.url(), .body = "x", .timeout_ms = 3'000});
      ASSERT_FALSE(response) << name << reset;
      EXPECT_EQ(response.error().errc, Errc::kTimeout) << name << reset << response.error().message;
    }
  }
}

TEST_P(Failures, TheAnswerIsNotHttp) {
  ScriptedServer server([](Peer& peer) { peer.send("SSH-2.0-OpenSSH_9.2\r\n\r\n"); });
  const auto response = make()->send({.url = server.url(), .timeout_ms = 2'000});
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().errc, Errc::kTimeout) << response.error().message;
}

TEST_P(Failures, AnEndlessChunkedBodyIsTooLarge) {
  ScriptedServer server([](Peer& peer) {
    peer.send(kChunkedHead);
    const std::string chunk = "1000\r\n" + std::string(4096, 'x') + "\r\n";
    while (peer.send(chunk)) {
    }
  });
  const auto response = make({.response_bytes_max = 100'000})->send({.url = server.url(), .timeout_ms = 10'000});
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().errc, Errc::kExhausted) << response.error().message;
}

TEST_P(Failures, AWatchLivesAsLongAsSomethingComes) {
  ScriptedServer server([](Peer& peer) {
    peer.send(kChunkedHead);
    for (int i = 0; i < 10; ++i) {
      system_env().sleep_ms(50);
      peer.send("6\r\nevent\n\r\n");
    }
    peer.send("0\r\n\r\n");
  });
  std::string got;
  int pieces = 0;
  const auto response = make()->send({.url = server.url(), .timeout_ms = 400, .on_body = [&](std::string_view piece) {
                                        got += piece;
                                        ++pieces;
                                        return true;
                                      }});
  ASSERT_TRUE(response) << response.error().message;
  EXPECT_EQ(got.size(), 60u);
  EXPECT_GE(pieces, 5) << "pieces come as they arrive";
}

TEST_P(Failures, ASilentWatchEnds) {
  ScriptedServer server([](Peer& peer) {
    peer.send(kChunkedHead);
    peer.send("6\r\nevent\n\r\n");
    peer.await_end();
  });
  std::string got;
  const auto client = make();
  EXPECT_LT(took_ms([&] {
              const auto response =
                  client->send({.url = server.url(), .timeout_ms = 200, .on_body = [&](std::string_view piece) {
                                  got += piece;
                                  return true;
                                }});
              ASSERT_FALSE(response);
              EXPECT_EQ(response.error().errc, Errc::kTimeout) << response.error().message;
            }),
            2'000);
  EXPECT_EQ(got, "event\n");
}

TEST_P(Failures, ACallerCanStopACall) {
  ScriptedServer server([](Peer& peer) {
    peer.send(kChunkedHead);
    peer.await_end();
  });
  std::stop_source stop;
  std::thread stopper([&] {
    system_env().sleep_ms(100);
    stop.request_stop();
  });
  const auto client = make();
  EXPECT_LT(took_ms([&] {
              const auto response = client->send({.url = server.url(),
                                                  .timeout_ms = 30'000,
                                                  .on_body = [](std::string_view) { return true; },
                                                  .stop = stop.get_token()});
              ASSERT_FALSE(response);
              EXPECT_EQ(response.error().errc, Errc::kUnavailable) << response.error().message;
            }),
            3'000);
  stopper.join();
}

}  // namespace
}  // namespace tallygate
