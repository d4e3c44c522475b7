#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "core/http/server.h"
#include "tests/unit/core_http/raw_client.h"

namespace tallygate::http {
namespace {

constexpr const char* kGet = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";

class DrainTest : public testing::Test {
 protected:
  DrainTest() {
    ServerOptions options;
    options.host = "127.0.0.1";
    options.io_threads = 2;
    Router router;
    router.add("GET", "/slow", [this](const Request&) {
      entered_.set_value();
      released_.wait();
      return text_response(200, "done");
    });
    server_ = std::move(*Server::start(options, std::move(router), system_env()));
  }
  std::promise<void> entered_, release_;
  std::shared_future<void> released_ = release_.get_future().share();
  std::unique_ptr<Server> server_;
};

TEST_F(DrainTest, RequestsUnderWayEndAndIdleConnectionsClose) {
  RawClient idle(server_->port()), busy(server_->port());
  busy.send(kGet);
  entered_.get_future().wait();
  std::thread drainer([this] { server_->drain(10'000); });
  EXPECT_TRUE(idle.at_end());
  EXPECT_FALSE(RawClient(server_->port()).connected()) << "the listener closes first";
  release_.set_value();
  const std::string answer = busy.read_all();
  EXPECT_TRUE(answer.ends_with("done")) << answer;
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  busy.close_now();
  drainer.join();
  EXPECT_EQ(server_->stats().connections_open, 0u);
}

TEST_F(DrainTest, TheGraceIsBounded) {
  RawClient busy(server_->port());
  busy.send(kGet);
  entered_.get_future().wait();
  std::thread releaser([this] {
    system_env().sleep_ms(600);  // long after the grace
    release_.set_value();
  });
  server_->drain(50);
  EXPECT_EQ(busy.read_all(), "");
  releaser.join();
  server_->drain(50);  // again: nothing happens
}

TEST_F(DrainTest, AServerThatIsDroppedClosesEverything) {
  RawClient idle(server_->port()), half(server_->port());
  half.send("GET /slow HT");
  server_.reset();
  EXPECT_TRUE(idle.at_end());
  EXPECT_TRUE(half.at_end());
  release_.set_value();
}

// The port is closed when drain() returns, also where nobody was connected.
TEST(Drain, OfAnIdleServerClosesThePortBeforeItReturns) {
  for (int i = 0; i < 200; ++i) {
    auto server = Server::start({.host = "127.0.0.1"}, Router(), system_env());
    ASSERT_TRUE(server) << server.error().message;
    const uint16_t port = (*server)->port();
    (*server)->drain(i % 2 == 0 ? 0 : 100);
    ASSERT_FALSE(RawClient(port).connected()) << "after " << i << " rounds";
  }
}

}  // namespace
}  // namespace tallygate::http
