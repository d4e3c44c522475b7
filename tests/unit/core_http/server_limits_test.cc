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
    router.add("POST", "/echo", [](const Request& r) { return text_response(200, r.body); });
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
  EXPECT_TRUE(once("GET /" + big + " HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 431 "));
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

TEST_F(LimitsTest, RefusesConnectionsPastTheLimit) {
  ServerOptions options;
  options.connections_max = 2;
  options.request_ids = true;
  start(options);
  {
    RawClient a(server_->port()), b(server_->port());
    while (server_->stats().connections_open < 2) system_env().sleep_ms(1);
    RawClient c(server_->port());
    const std::string refused = c.read_all();
    EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused;
    EXPECT_NE(refused.find("\r\nX-Request-Id: "), std::string::npos) << refused;
    EXPECT_NE(refused.find(R"("reason":"ConnectionLimitReached","requestId":")"), std::string::npos) << refused;
  }
  while (server_->stats().connections_open > 0) system_env().sleep_ms(1);
  gate_.open();
  RawClient d(server_->port());
  d.send(kGet);
  EXPECT_TRUE(d.read_response().ends_with("done"));
  EXPECT_EQ(server_->stats().connections_refused_total, 1u);
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
