// Which address of several is the app's, on real sockets.
#include "sidecar/main/upstream_resolver.h"

#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include <gtest/gtest.h>

namespace tallygate::sidecar {
namespace {

// An app on a port of one loopback address, or just the port.
class App {
 public:
  explicit App(const char* ip, uint16_t port = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const int one = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const auto address = proxy::parse_address(std::string(ip) + ":" + std::to_string(port));
    EXPECT_EQ(bind(fd_, address->get(), address->size), 0);
    EXPECT_EQ(listen(fd_, 8), 0);
    sockaddr_in bound{};
    socklen_t size = sizeof bound;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&bound), &size);
    port_ = ntohs(bound.sin_port);
  }
  ~App() { ::close(fd_); }
  uint16_t port() const { return port_; }

 private:
  int fd_;
  uint16_t port_ = 0;
};

// What a resolver has said, to be awaited.
class Said {
 public:
  void found(const proxy::Address& address) {
    const std::lock_guard lock(mutex_);
    last_ = proxy::to_string(address.get());
  }
  bool becomes(const std::string& wanted) {
    for (int i = 0; i < 3000; ++i) {
      {
        const std::lock_guard lock(mutex_);
        if (last_ == wanted) return true;
      }
      usleep(10'000);
    }
    return false;
  }

 private:
  std::mutex mutex_;
  std::string last_;
};

UpstreamResolver::LookUp answers(const std::vector<std::string>& texts) {
  return [texts](std::string_view) -> Result<std::vector<proxy::Address>> {
    std::vector<proxy::Address> all;
    for (const auto& text : texts) all.push_back(*proxy::parse_address(text));
    return all;
  };
}

TEST(UpstreamResolver, TakesTheAddressWhereTheAppListensAndFollowsIt) {
  auto app = std::make_unique<App>("127.0.0.2");
  const uint16_t port = app->port();
  const std::string first = "127.0.0.1:" + std::to_string(port), second = "127.0.0.2:" + std::to_string(port);
  std::atomic<uint64_t> failures = 0;
  Said said;
  UpstreamResolver resolver(
      "app:1", [&] { return failures.load(); }, answers({first, second}));
  resolver.start([&](const proxy::Address& a) { said.found(a); }, [](const Error&) {});
  EXPECT_TRUE(said.becomes(second));
  app.reset();
  const App moved("127.0.0.1", port);
  ++failures;  // a request could not be served
  EXPECT_TRUE(said.becomes(first));
}

// Some name servers turn the answers round each time.
TEST(UpstreamResolver, KeepsTheAddressInUseWhateverTheOrder) {
  const App one("127.0.0.1");
  const App two("127.0.0.2", one.port());
  const std::string port = ":" + std::to_string(one.port());
  std::atomic<int> asked = 0;
  std::atomic<uint64_t> failures = 0;
  std::mutex mutex;
  std::vector<std::string> found;
  UpstreamResolver resolver(
      "app:1", [&] { return failures.load(); },
      [&](std::string_view) -> Result<std::vector<proxy::Address>> {
        std::vector all{*proxy::parse_address("127.0.0.1" + port), *proxy::parse_address("127.0.0.2" + port)};
        if (++asked % 2 == 0) std::reverse(all.begin(), all.end());
        ++failures;  // a connection failed, elsewhere or for a moment
        return all;
      });
  resolver.start(
      [&](const proxy::Address& a) {
        const std::lock_guard lock(mutex);
        found.push_back(proxy::to_string(a.get()));
      },
      [](const Error&) {});
  for (int i = 0; i < 3000 && asked < 2; ++i) usleep(10'000);
  resolver.stop();
  ASSERT_GE(asked, 2);
  const std::lock_guard lock(mutex);
  for (const std::string& address : found) EXPECT_EQ(address, "127.0.0.1" + port);
}

TEST(UpstreamResolver, GoesOnWhereNobodyAnswersYet) {
  uint16_t port;
  {
    const App gone("127.0.0.1");
    port = gone.port();
  }
  const std::string first = "127.0.0.1:" + std::to_string(port), second = "127.0.0.2:" + std::to_string(port);
  Said said;
  UpstreamResolver resolver(
      "app:1", [] { return 0; }, answers({first, second}));
  resolver.start([&](const proxy::Address& a) { said.found(a); }, [](const Error&) {});
  EXPECT_TRUE(said.becomes(first));
  const App late("127.0.0.2", port);
  EXPECT_TRUE(said.becomes(second));
}

TEST(UpstreamResolver, AsksAgainUntilTheNameIsKnown) {
  std::atomic<int> asked = 0, failed = 0;
  Said said;
  UpstreamResolver resolver(
      "app:1", [] { return 0; },
      [&](std::string_view name) -> Result<std::vector<proxy::Address>> {
        EXPECT_EQ(name, "app:1");
        if (++asked < 2) return fail(Errc::kUnavailable, "no such host");
        return std::vector{*proxy::parse_address("127.0.0.1:9")};
      });
  resolver.start([&](const proxy::Address& a) { said.found(a); }, [&](const Error&) { ++failed; });
  EXPECT_TRUE(said.becomes("127.0.0.1:9"));
  EXPECT_EQ(failed, 1);
}

// As one does whose name servers are away.
TEST(UpstreamResolver, StopsInTheMiddleOfALookUp) {
  struct Gate {
    std::mutex mutex;
    std::condition_variable wake;
    bool asked = false, open = false, passed = false;
  };
  const auto gate = std::make_shared<Gate>();
  std::atomic<int> said = 0;
  {
    UpstreamResolver resolver(
        "app:1", [] { return 0; },
        [gate](std::string_view) -> Result<std::vector<proxy::Address>> {
          std::unique_lock lock(gate->mutex);
          gate->asked = true;
          gate->wake.notify_all();
          gate->wake.wait(lock, [&] { return gate->open; });
          gate->passed = true;
          gate->wake.notify_all();
          return std::vector{*proxy::parse_address("127.0.0.1:9")};
        });
    resolver.start([&](const proxy::Address&) { ++said; }, [&](const Error&) { ++said; });
    std::unique_lock lock(gate->mutex);
    gate->wake.wait(lock, [&] { return gate->asked; });
    lock.unlock();
    resolver.stop();
  }
  std::unique_lock lock(gate->mutex);
  gate->open = true;
  gate->wake.notify_all();
  gate->wake.wait(lock, [&] { return gate->passed; });
  EXPECT_EQ(said, 0);
}

TEST(LookUp, EveryForm) {
  EXPECT_EQ(proxy::look_up("127.0.0.1:80")->size(), 1U);
  EXPECT_EQ(proxy::to_string(proxy::look_up("[::1]:80")->front().get()), "[::1]:80");
  EXPECT_EQ(proxy::to_string(proxy::look_up(":80")->front().get()), "[::]:80");
  EXPECT_EQ(proxy::to_string(proxy::look_up(":80")->back().get()), "0.0.0.0:80");
  EXPECT_EQ(proxy::look_up("localhost:80")->front().text, "localhost:80");
  EXPECT_EQ(proxy::look_up("no-such-host.invalid:80").error().errc, Errc::kUnavailable);
  for (const char* bad : {"127.0.0.1", "127.0.0.1:99999", ":65536", "localhost:http", "localhost:", "localhost:-1"}) {
    EXPECT_EQ(proxy::look_up(bad).error().errc, Errc::kInvalid) << bad;
  }
}

TEST(UpstreamList, IsThePodsAddressesInTheirOrder) {
  const auto both = proxy::look_up("[10.0.0.1,fd00::1]:8080");
  ASSERT_TRUE(both) << both.error().message;
  ASSERT_EQ(both->size(), 2u);
  EXPECT_EQ(both->at(0).text, "10.0.0.1:8080");
  EXPECT_EQ(proxy::to_string(both->at(0).get()), "10.0.0.1:8080");
  EXPECT_EQ(proxy::to_string(both->at(1).get()), "[fd00::1]:8080");
  const auto one = proxy::look_up("[10.0.0.1]:8080");  // a pod that has one only
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ(proxy::to_string(one->at(0).get()), "10.0.0.1:8080");
  for (const char* bad : {"[10.0.0.1,]:8080", "[,10.0.0.1]:8080", "[10.0.0.1,app]:8080", "[10.0.0.1,fd00::1]:99999", "[10.0.0.1,fd00::1]"}) {
    EXPECT_FALSE(proxy::look_up(bad)) << bad;
  }
}

TEST(UpstreamList, TheAppsAddressIsTheOneThatTakesAConnection) {
  const App app("127.0.0.2");
  Said said;
  const std::string port = std::to_string(app.port());
  UpstreamResolver resolver("[127.0.0.9,127.0.0.2]:" + port, [] { return uint64_t{0}; });
  resolver.start([&](const proxy::Address& address) { said.found(address); }, [](const Error&) {});
  EXPECT_TRUE(said.becomes("127.0.0.2:" + port));
  resolver.stop();
}

}  // namespace
}  // namespace tallygate::sidecar
