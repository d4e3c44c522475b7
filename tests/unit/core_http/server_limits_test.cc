#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/http/server.h"
#include "tests/unit/core_http/raw_client.h"

namespace tallygate::http {
namespace {

class Gate {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void await_waiting(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

constexpr const char* kGet = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";

class LimitsTest : public testing::Test {
 protected:
  void start(ServerOptions options) {
    options.host = "127.0.0.1";
    Router router;
    router.add("GET", "/slow", [this](const Request&) {
      gate_.wait();
      return text_response(200, "done");
    });
    const auto echo = [](const Request& r) { return text_response(200, r.body); };
    router.add("POST", "/echo", echo);
    router.add("POST", "/open", echo, {.is_for_strangers = true});
    router.add("GET", "/peer", [](const Request& r) { return text_response(200, r.peer); });
    router.add("POST", "/long", echo, {.body_bytes_max = 20});
    router.add("GET", "/probe", [](const Request&) { return text_response(200, "alive"); }, {.is_probe = true});
    router.add("POST", "/guarded", echo, {.check_head = [](const Request& r) -> std::optional<Response> {
                 if (!r.header("x-good").empty()) return std::nullopt;
                 return problem_response({401, "Unauthenticated", "No."});
               }});
    auto server = Server::start(options, std::move(router), system_env());
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  std::string once(const std::string& bytes) { return RawClient(server_->port()).exchange(bytes); }
  Gate gate_;
  std::unique_ptr<Server> server_;
};

TEST_F(LimitsTest, RefusesWhatIsTooLargeAndStillGetsTheAnswerAcross) {
  ServerOptions options;
  options.head_bytes_max = 1024;
  options.body_bytes_max = 1000;
  start(options);
  const std::string big(100'000, 'x');
  EXPECT_TRUE(once("GET /" + big + " HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 414 "));
  EXPECT_TRUE(once("GET / HTTP/1.1\r\nX: " + std::string(1100, 'x') + "\r\n\r\n").starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(
      once("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + big).starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(once("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + big)
                  .starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(once("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n" +
                   std::string(1000, 'y'))
                  .ends_with(std::string(1000, 'y')));
}

TEST_F(LimitsTest, RefusesMalformedHeadsAndChunks) {
  start({});
  for (const char* bytes :
       {"GET / HTTP/1.1\nHost: x\n\n", "\r\nnonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"}) {
    const std::string answer = once(bytes);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << bytes << answer;
    EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
    EXPECT_NE(answer.find("MalformedRequest"), std::string::npos);
  }
  for (const char* chunks :
       {"0x5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "-1\r\n\r\n", "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "\r\n", "g\r\n", "fffffffffffffffff\r\nx",
        "5 \nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n"}) {
    const std::string answer =
        once(std::string("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n") + chunks);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 4")) << chunks << answer;
  }
}

// The empty line behind the last chunk comes later than the chunk, and is none.
TEST_F(LimitsTest, ABodyThatBreaksInItsLastLineEndsItsConnectionOnly) {
  start({});
  for (const char* rest : {"x", "\r", "\n", "\rx", "\r\r", "X: y\nZ", "X: y\r\n z\r\n\r\n"}) {
    RawClient client(server_->port());
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
    system_env().sleep_ms(50);
    for (const char* c = rest; *c != '\0'; ++c) {
      client.send(std::string_view(c, 1));
      system_env().sleep_ms(5);
    }
    if (std::string_view(rest).size() > 1 || *rest == '\n') {
      EXPECT_TRUE(client.read_response().starts_with("HTTP/1.1 400 ")) << rest;
    }
  }
  EXPECT_TRUE(
      once("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").ends_with("ok"));
}

TEST_F(LimitsTest, AnswersOverloadWhenTheQueueIsFull) {
  ServerOptions options;
  options.worker_threads = 1;
  options.queue_max = 1;
  start(options);
  RawClient running(server_->port()), waiting(server_->port()), refused(server_->port());
  running.send(kGet);
  gate_.await_waiting(1);
  waiting.send(kGet);
  while (server_->stats().queue_length == 0) system_env().sleep_ms(1);
  refused.send(kGet);
  const std::string answer = refused.read_response();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;
  EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos);
  gate_.open();
  EXPECT_TRUE(running.read_response().ends_with("done"));
  EXPECT_TRUE(waiting.read_response().ends_with("done"));
  refused.send(kGet);
  EXPECT_TRUE(refused.read_response().ends_with("done")) << "an overload does not cost the connection";
  EXPECT_EQ(server_->stats().requests_overload_total, 1u);
}

TEST_F(LimitsTest, AnswersOverloadToWhatHasWaitedTooLong) {
  ServerOptions options;
  options.worker_threads = 1;
  options.queue_timeout_ms = 20;
  start(options);
  RawClient running(server_->port()), waiting(server_->port());
  running.send(kGet);
  gate_.await_waiting(1);
  waiting.send(kGet);
  while (server_->stats().queue_length == 0) system_env().sleep_ms(1);
  system_env().sleep_ms(30);
  gate_.open();
  EXPECT_TRUE(running.read_response().ends_with("done"));
  const std::string answer = waiting.read_response();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;
  EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos);
  waiting.send(kGet);
  EXPECT_TRUE(waiting.read_response().ends_with("done")) << "an overload does not cost the connection";
}

TEST_F(LimitsTest, RefusesConnectionsPastTheLimitWhereAllHaveRequests) {
  ServerOptions options;
  options.connections_max = 2;
  options.request_ids = true;
  start(options);
  {
    RawClient a(server_->port()), b(server_->port());
    a.send(kGet);
    b.send(kGet);
    gate_.await_waiting(2);
    RawClient c(server_->port());
    const std::string refused = c.read_all();
    EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused;
    EXPECT_NE(refused.find("\r\nX-Request-Id: "), std::string::npos) << refused;
    EXPECT_NE(refused.find(R"("reason":"ConnectionLimitReached","requestId":")"), std::string::npos) << refused;
    gate_.open();
    EXPECT_TRUE(a.read_response().ends_with("done"));
    EXPECT_TRUE(b.read_response().ends_with("done"));
    b.send(kGet);
    EXPECT_TRUE(b.read_response().ends_with("done"));  // now a has waited longer
    RawClient d(server_->port());
    d.send(kGet);
    EXPECT_TRUE(d.read_response().ends_with("done"));
    EXPECT_TRUE(a.at_end());
    b.send(kGet);
    EXPECT_TRUE(b.read_response().ends_with("done"));
  }
  EXPECT_EQ(server_->stats().connections_refused_total, 1u);
  EXPECT_EQ(server_->stats().connections_gave_way_total, 1u);
}

// Whoever says nothing, or only begins to, cannot shut others out; nor can one address.
TEST_F(LimitsTest, WhoSaysNothingGivesWay) {
  ServerOptions options;
  options.connections_max = 50;
  options.connections_per_address_max = 20;
  start(options);
  gate_.open();
  std::vector<std::unique_ptr<RawClient>> silent;
  for (int i = 0; i < 100; ++i) {
    silent.push_back(std::make_unique<RawClient>(server_->port()));
    if (i % 2 == 0) silent.back()->send("GET /slow HTTP/1.1\r\nHo");
  }
  RawClient client(server_->port());
  client.send(kGet);
  EXPECT_TRUE(client.read_response().ends_with("done"));
  EXPECT_LE(server_->stats().connections_open, 20u);
  EXPECT_EQ(server_->stats().connections_refused_total, 0u);
}

// Of a proxy that is trusted its clients are counted, by what it says of them; nobody else is believed.
TEST_F(LimitsTest, ATrustedProxysRequestsCountForItsClients) {
  const std::string get = "GET /slow HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.";
  ServerOptions options;
  options.connections_per_address_max = 1;
  options.trusted_proxies = {Network::parse("127.0.0.0/8").value()};
  start(options);
  RawClient a(server_->port()), b(server_->port()), c(server_->port());
  a.send(get + "1\r\n\r\n");
  gate_.await_waiting(1);
  b.send(get + "9, 192.0.2.1\r\n\r\n");
  EXPECT_TRUE(b.read_response().starts_with("HTTP/1.1 503 "));
  c.send(get + "2\r\n\r\n");
  gate_.await_waiting(2);
  gate_.open();
  EXPECT_TRUE(a.read_response().ends_with("done"));
  EXPECT_TRUE(c.read_response().ends_with("done"));
  EXPECT_NE(
      once("GET /peer HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7, 192.0.2.3\r\nConnection: close\r\n\r\n")
          .find("192.0.2.3"),
      std::string::npos);
}

TEST_F(LimitsTest, NobodyElseIsBelieved) {
  start({});
  EXPECT_TRUE(once("GET /peer HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.3\r\nConnection: close\r\n\r\n")
                  .ends_with("127.0.0.1"));
}

TEST_F(LimitsTest, PlacesAreKeptForProbes) {
  ServerOptions options;
  options.connections_max = 2;
  options.connections_kept = 1;
  options.worker_threads = 4;
  start(options);
  RawClient a(server_->port()), b(server_->port());
  a.send(kGet);
  b.send(kGet);
  gate_.await_waiting(2);
  EXPECT_TRUE(once("GET /probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("alive"));
  const std::string other = once("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_TRUE(other.starts_with("HTTP/1.1 503 ")) << other;
  EXPECT_NE(other.find("ConnectionLimitReached"), std::string::npos);
  gate_.open();
}

TEST_F(LimitsTest, TheFirstHeadsTimeRunsFromTheFirstMoment) {
  ServerOptions options;
  options.head_timeout_ms = 150;
  start(options);
  gate_.open();
  RawClient silent(server_->port()), served(server_->port());
  served.send(kGet);
  EXPECT_TRUE(served.read_response().ends_with("done"));
  EXPECT_TRUE(silent.at_end());
  served.send(kGet);
  EXPECT_TRUE(served.read_response().ends_with("done")) << "between requests there is the idle time";
}

// A body may be as long as its route says. Where it is still to come, whoever will be refused anyway is refused by the
// head: nothing of it is read, and nobody is told to continue.
TEST_F(LimitsTest, RoutesHaveRulesOfTheirOwn) {
  ServerOptions options;
  options.body_bytes_max = 10;
  start(options);
  const auto post = [&](const std::string& path, const std::string& fields, const std::string& body) {
    return once("POST " + path + " HTTP/1.1\r\nHost: x\r\n" + fields + "Connection: close\r\n\r\n" + body);
  };
  EXPECT_TRUE(post("/long", "Content-Length: 20\r\n", std::string(20, 'x')).ends_with(std::string(20, 'x')));
  EXPECT_TRUE(post("/long", "Content-Length: 21\r\n", "").starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(post("/echo", "Content-Length: 11\r\n", "").starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(post("/nowhere", "Content-Length: 5\r\n", "").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(post("/slow", "Content-Length: 5\r\n", "").starts_with("HTTP/1.1 405 "));
  const std::string guarded = post("/guarded", "Content-Length: 5\r\nExpect: 100-continue\r\n", "");
  EXPECT_TRUE(guarded.starts_with("HTTP/1.1 401 ")) << guarded;
  EXPECT_TRUE(post("/guarded", "Transfer-Encoding: chunked\r\n", "5\r\nhe").starts_with("HTTP/1.1 401 "));
  EXPECT_TRUE(post("/guarded", "X-Good: 1\r\nContent-Length: 2\r\n", "ok").ends_with("ok"));
  RawClient good(server_->port());
  good.send("POST /guarded HTTP/1.1\r\nHost: x\r\nX-Good: 1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(good.read_response(), "HTTP/1.1 100 Continue\r\n\r\n");
  good.send("ok");
  EXPECT_TRUE(good.read_response().ends_with("ok"));
}

TEST_F(LimitsTest, AllBodiesTogetherHaveABudget) {
  ServerOptions options;
  options.bodies_bytes_max = 128'000;  // 96,000 and 32,000 for strangers
  options.request_ids = true;
  start(options);
  const std::string head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n";
  RawClient partial(server_->port());
  partial.send(head + std::string(80'000, 'x'));
  while (server_->stats().bodies_bytes < 80'000) system_env().sleep_ms(1);
  const std::string refused = once(head + std::string(90'000, 'y'));
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused;
  EXPECT_NE(refused.find("\r\nRetry-After: 1\r\n"), std::string::npos) << refused;
  EXPECT_NE(refused.find(R"("reason":"Overloaded")"), std::string::npos) << refused;
  EXPECT_TRUE(once("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\nConnection: close\r\n\r\n" +
                   std::string(4'000, 'z'))
                  .ends_with("z"))
      << "small ones find room";
  const std::string stranger = "POST /open HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n";
  RawClient one(server_->port());
  const uint64_t before = server_->stats().bodies_bytes;
  one.send(stranger + std::string(15'000, 'x'));
  while (server_->stats().bodies_bytes < before + 15'000) system_env().sleep_ms(1);
  EXPECT_TRUE(once(stranger + std::string(30'000, 'y')).starts_with("HTTP/1.1 503 "));
  one.close_now();
  partial.send(std::string(10'000, 'x'));
  EXPECT_TRUE(partial.read_response().ends_with("x"));
  while (server_->stats().bodies_bytes > 0) system_env().sleep_ms(1);
}

TEST_F(LimitsTest, ClosesWhoIsTooSlow) {
  ServerOptions options;
  options.idle_timeout_ms = 50;
  options.head_timeout_ms = 50;
  options.body_timeout_ms = 50;
  start(options);
  RawClient idle(server_->port()), head(server_->port()), body(server_->port());
  head.send("GET / HTTP/1.1\r\nHo");
  body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
  EXPECT_TRUE(idle.at_end());
  EXPECT_TRUE(head.at_end());
  EXPECT_TRUE(body.at_end());
}

TEST_F(LimitsTest, ADripDoesNotExtendTheTimeForAHead) {
  ServerOptions options;
  options.head_timeout_ms = 200;
  start(options);
  RawClient client(server_->port());
  client.send("GET / HTTP/1.1\r\n");
  const int64_t start_ms = system_env().mono_ms();
  while (client.send("X: y\r\n") && system_env().mono_ms() - start_ms < 5'000) system_env().sleep_ms(10);
  EXPECT_LT(system_env().mono_ms() - start_ms, 4'000);
}

TEST_F(LimitsTest, ClientsThatLeaveAreForgotten) {
  start({});
  {
    RawClient head(server_->port()), body(server_->port()), waiting(server_->port());
    head.send("GET /slow HT");
    body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
    waiting.send(kGet);
    gate_.await_waiting(1);
  }
  gate_.open();
  const int64_t start_ms = system_env().mono_ms();
  while (server_->stats().connections_open > 0 && system_env().mono_ms() - start_ms < 5'000) system_env().sleep_ms(1);
  EXPECT_EQ(server_->stats().connections_open, 0u);
}

}  // namespace
}  // namespace tallygate::http
