// The client of POST /v1/leases against servers that behave, that do not, and that are not there.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "sidecar/escrow/ledger_client.h"
#include "sidecar/escrow/ledger_wire.h"
#include "tests/integration/sidecar/world.h"

namespace tallygate::testing {
namespace {

using sidecar::LedgerClient;

// Answers each connection's requests in turn with the texts of `script`, sent as pieces; after the last it hangs up. An
// empty text hangs up at once, "wait" says nothing.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::vector<std::vector<std::string>> connections) : connections_(std::move(connections)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    socklen_t size = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~ScriptedServer() {
    stopping_ = true;
    shutdown(listener_, SHUT_RDWR);
    {
      std::lock_guard lock(mutex_);
      if (connection_ >= 0) shutdown(connection_, SHUT_RDWR);
    }
    thread_.join();
    close(listener_);
  }
  int port = 0;
  std::atomic<int> requests{0};
  std::string last_request;  // to be read after the answer came

 private:
  void run() {
    for (const auto& texts : connections_) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      set_connection(fd);
      const int one = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      if (!stopping_) serve(fd, texts);
      set_connection(-1);
      close(fd);
      if (stopping_) return;
    }
  }
  void set_connection(int fd) {
    std::lock_guard lock(mutex_);
    connection_ = fd;
  }
  void serve(int fd, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      std::string in;
      char bytes[4096];
      while (in.find("\r\n\r\n") == std::string::npos || !in.ends_with('}')) {
        const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) return;
        in.append(bytes, static_cast<size_t>(n));
      }
      last_request = in;
      ++requests;
      if (text.empty()) return;
      if (text == "wait") {
        while (!stopping_ && recv(fd, bytes, 1, 0) > 0) {
        }
        return;
      }
      for (size_t at = 0; at < text.size(); at += 7) {
        send(fd, text.data() + at, std::min<size_t>(7, text.size() - at), MSG_NOSIGNAL);
        usleep(100);
      }
    }
  }
  std::vector<std::vector<std::string>> connections_;
  int listener_ = -1;
  std::mutex mutex_;
  int connection_ = -1;  // under mutex_
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

std::string ok(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

class Client : public ::testing::Test {
 protected:
  Client() : folder(make_temporary_folder()) { std::ofstream(folder + "/token") << "tgs_the_token\n"; }
  ~Client() override {
    std::remove((folder + "/token").c_str());
    rmdir(folder.c_str());
  }
  LedgerClient& client(int port, sidecar::LedgerClientOptions options = {}) {
    sidecar::LedgerEndpoint endpoint;
    endpoint.address.host = "127.0.0.1";
    endpoint.address.port = port;
    endpoint.address.scheme = "http";
    endpoint.host = "ledger:1";
    endpoint.path = "/base";
    endpoint.token_file = folder + "/token";
    client_ = std::make_unique<LedgerClient>(loop, endpoint, options);
    return *client_;
  }
  // The body, or "errc: message".
  std::string post(LedgerClient& to, const std::string& body = "{}") {
    std::string out;
    bool inside = true;
    to.post("shop/acme", body, [&](Result<std::string> result) {
      EXPECT_FALSE(inside) << "never from inside";
      EXPECT_TRUE(out.empty()) << "once";
      out = result ? *result : std::string(to_string(result.error().errc)) + ": " + result.error().message;
    });
    inside = false;
    for (int i = 0; i < 2000 && out.empty(); ++i) loop.run_once(5);
    return out;
  }
  EventLoop loop{system_env()};
  std::string folder;
  std::unique_ptr<LedgerClient> client_;
};

TEST_F(Client, KeepsItsConnectionAndSaysWhoItIs) {
  ScriptedServer server({{ok("1"), ok("2"), ok("3")}});
  LedgerClient& c = client(server.port);
  for (const char* expected : {"1", "2", "3"}) EXPECT_EQ(post(c, "{\"a\":1}"), expected);
  EXPECT_EQ(
      server.last_request,
      "POST /base/v1/leases HTTP/1.1\r\nHost: ledger:1\r\nAuthorization: Bearer tgs_the_token\r\nTallygate-Tenant: "
      "shop/acme\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
  EXPECT_TRUE(c.answers());
}

TEST_F(Client, ReadsChunkedAnswersAndThoseThatEndWithTheConnection) {
  ScriptedServer server({{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"},
                         {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end"}});
  LedgerClient& c = client(server.port);
  EXPECT_EQ(post(c), "abcdef");
  EXPECT_EQ(post(c), "to the end");
}

TEST_F(Client, WaitsPastInterimAnswers) {
  const std::string interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
  ScriptedServer server({{interim + ok("1"), interim + interim + ok("2"), "HTTP/1.1 101 Switching Protocols\r\n\r\n"}});
  LedgerClient& c = client(server.port);
  EXPECT_EQ(post(c), "1");
  EXPECT_EQ(post(c), "2");
  EXPECT_NE(post(c).find("unreadable"), std::string::npos);
}

// A disk that takes half a line: what stands in the file afterwards is that line, or nothing of it.
TEST_F(Client, ANoteIsWrittenWholeOrNotAtAll) {
  ScriptedServer server({{"wait"}});
  sidecar::LedgerLeases leases(loop, client(server.port), folder, "pod.a");
  const std::string member = "shop/acme|calls@1700000000+86400";
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit half = before;
  half.rlim_cur = 20;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &half), 0);
  leases.ask(member, 3, {"calls@1700000000+86400", 1, 2, 0}, [](Result<sidecar::LeaseAnswer>) {});
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(std::filesystem::file_size(folder + "/ledger-leases"), 0u);
  leases.ask(member, 4, {"calls@1700000000+86400", 1, 2, 0}, [](Result<sidecar::LeaseAnswer>) {});
  EXPECT_EQ(sidecar::LedgerLeases::read_notes(folder), (std::set<sidecar::LeaseNote>{{4, member}}));
  std::filesystem::remove(folder + "/ledger-leases");
}

TEST_F(Client, NotesThatAreNoneAreDropped) {
  std::ofstream(folder + "/ledger-leases")
      << "3 shop/acme|calls@1700000000+86400\n3 shop/acme|calls@17000\n3 shop/ac\n\n"
         "x shop/acme|sms$\n-1 shop/acme|sms$\n4 shop/acme|sms$\n5 shop/acme|sm";
  EXPECT_EQ(sidecar::LedgerLeases::read_notes(folder),
            (std::set<sidecar::LeaseNote>{{3, "shop/acme|calls@1700000000+86400"}, {4, "shop/acme|sms$"}}));
  std::filesystem::remove(folder + "/ledger-leases");
}

// An idle connection that the server ends just as a call goes out costs nothing but a second connection.
TEST_F(Client, SendsAgainWhereAnIdleConnectionWasEnded) {
  ScriptedServer server({{ok("1"), ""}, {ok("2")}});
  LedgerClient& c = client(server.port);
  EXPECT_EQ(post(c), "1");
  EXPECT_EQ(post(c), "2");
  EXPECT_EQ(server.requests, 3);
}

TEST_F(Client, WhatIsNoAnswerIsAnErrorAndABackoff) {
  for (const std::string& text : {std::string(""), std::string("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
                                  std::string("nonsense\r\n\r\n"),
                                  std::string("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
                                  std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
                                  std::string("HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n"),
                                  std::string("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
                                  std::string("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")}) {
    SCOPED_TRACE(text);
    ScriptedServer server({{text}, {ok("1")}});
    LedgerClient& c = client(server.port);
    // What was answered to with a refusal was not carried out; else nobody knows.
    const bool refused = text.starts_with("HTTP/1.1 401"), elsewhere = text.starts_with("HTTP/1.1 302");
    EXPECT_EQ(post(c).substr(0, 7), refused ? "invalid" : elsewhere ? "unavail" : "timeout");
    EXPECT_FALSE(c.usable());
    EXPECT_FALSE(c.answers());
    EXPECT_EQ(post(c).substr(0, 12), "unavailable:") << "at once, without asking";
    EXPECT_LE(server.requests, 1);
    for (int i = 0; i < 100 && !c.usable(); ++i) loop.run_once(5);
    EXPECT_EQ(post(c), "1");
    EXPECT_TRUE(c.answers());
  }
}

TEST_F(Client, ARefusedRequestIsNoOutage) {
  for (const std::string status : {"400", "403", "404", "410", "422", "429"}) {
    ScriptedServer server({{"HTTP/1.1 " + status + " No\r\nContent-Length: 3\r\n\r\nwhy", ok("1")}});
    LedgerClient& c = client(server.port);
    const std::string answer = post(c);
    EXPECT_NE(answer.find("answered " + status + ": why"), std::string::npos);
    EXPECT_TRUE(answer.starts_with(status == "429" ? "unavailable:" : "invalid:")) << answer;
    EXPECT_TRUE(c.usable());
    EXPECT_EQ(post(c), "1");
  }
}

TEST_F(Client, TooLongAnAnswerIsRefused) {
  ScriptedServer server({{ok(std::string(5000, 'x'))}});
  EXPECT_NE(post(client(server.port, {.answer_bytes_max = 1000})).find("too long"), std::string::npos);
}

TEST_F(Client, ASilentServerIsGivenUpInTimeAndTheBackoffGrowsToItsBound) {
  ScriptedServer server({{"wait"}});
  LedgerClient& c = client(server.port, {.call_timeout_ms = 100, .backoff_min_ms = 20, .backoff_max_ms = 80});
  const int64_t began_ms = loop.env().mono_ms();
  EXPECT_NE(post(c).find("in time"), std::string::npos);
  EXPECT_LT(loop.env().mono_ms() - began_ms, 500);
  int64_t longest_ms = 0;
  for (int i = 0; i < 5; ++i) {
    const int64_t since_ms = loop.env().mono_ms();
    for (int n = 0; n < 1000 && !c.usable(); ++n) loop.run_once(1);
    longest_ms = std::max(longest_ms, loop.env().mono_ms() - since_ms);
    post(c);
  }
  EXPECT_GE(longest_ms, 60);
  EXPECT_LT(longest_ms, 1000);
}

TEST_F(Client, NobodyListens) {
  int port = 0;
  { port = ScriptedServer({}).port; }
  LedgerClient& c = client(port);
  EXPECT_NE(post(c).find("cannot connect to http://127.0.0.1:"), std::string::npos);
}

TEST_F(Client, WithoutATokenNothingIsSent) {
  ScriptedServer server({{ok("1")}});
  for (const char* text : {"", "two words\n", "with\tcontrol"}) {
    std::ofstream(folder + "/token", std::ios::trunc) << text;
    EXPECT_NE(post(client(server.port)).find("holds no token"), std::string::npos) << text;
  }
  std::remove((folder + "/token").c_str());
  EXPECT_NE(post(client(server.port)).find("cannot read the token file"), std::string::npos);
  EXPECT_EQ(server.requests, 0);
  std::ofstream(folder + "/token") << "tgs_x";
  EXPECT_EQ(post(client(server.port)), "1");
}

TEST_F(Client, ManyCallsShareAFewConnectionsAndEachIsAnsweredOnce) {
  std::vector<std::vector<std::string>> script(1, std::vector<std::string>(50, ok("1")));
  ScriptedServer server(std::move(script));
  LedgerClient& c = client(server.port, {.connections_max = 1, .queue_max = 40});
  int answered = 0, refused = 0;
  for (int i = 0; i < 50; ++i) {
    c.post("shop/acme", "{}", [&](Result<std::string> result) {
      if (result)
        ++answered;
      else if (result.error().errc == Errc::kExhausted)
        ++refused;
    });
  }
  for (int i = 0; i < 1000 && answered + refused < 50; ++i) loop.run_once(5);
  EXPECT_EQ(answered, 40);
  EXPECT_EQ(refused, 10);
}

TEST(LedgerWire, RefusesWhatDoesNotFitTheRequest) {
  sidecar::LeaseRequest request;
  request.buckets.push_back({"sms$", 1, 2, 0});
  const std::string good =
      R"({"status":"GRANT","epoch":3,"version":4,"suspended":false,"buckets":[{"bucket":"sms$","granted":2,"returned":0,"remaining":5,"used":0,"dry":""}],"closed":[]})";
  const auto answer = sidecar::lease_answer(request, good);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->buckets[0].granted, 2);
  EXPECT_EQ(answer->epoch, 3);
  const auto changed = [&](const std::string& what, const std::string& with) {
    std::string text = good;
    text.replace(text.find(what), what.size(), with);
    return text;
  };
  for (const std::string& bad :
       {std::string(), std::string("null"), std::string("[]"), std::string("{}"), good.substr(0, good.size() - 1),
        changed("GRANT", "YES"), changed("\"epoch\":3", "\"epoch\":-3"), changed("\"epoch\":3", "\"epoch\":\"3\""),
        changed("sms$", "calls$"), changed("\"granted\":2", "\"granted\":-1"),
        changed("\"granted\":2", "\"granted\":9007199254740992"), changed("\"granted\":2", "\"granted\":1.5"),
        changed("\"granted\":2", "\"granted\":99999999999999999999"), changed("\"closed\":[]", "\"closed\":1"),
        changed("\"buckets\":", "\"buckets\":[],\"x\":")}) {
    EXPECT_FALSE(sidecar::lease_answer(request, bad)) << bad;
  }
  request.closed.push_back({"sms$", 2, 5});
  const auto closed = changed("\"closed\":[]", R"("closed":[{"bucket":"sms$","epoch":2,"absorbed":4}])");
  EXPECT_EQ(sidecar::lease_answer(request, closed)->absorbed, std::vector<int64_t>{4});
  EXPECT_FALSE(sidecar::lease_answer(
      request, changed("\"closed\":[]", R"("closed":[{"bucket":"sms$","epoch":2,"absorbed":6}])")))
      << "more than was spent";
}

TEST(LedgerWire, BoundedDepthAndLongLists) {
  sidecar::LeaseRequest request;
  for (int i = 0; i < 1000; ++i) request.closed.push_back({"sms$", i, 5});
  std::string list;
  for (int i = 0; i < 20'000; ++i) {
    list += (i > 0 ? "," : "") + std::string(R"({"bucket":"sms$","epoch":)") + std::to_string(i) + R"(,"absorbed":3})";
  }
  const auto answer_with = [](const std::string& closed, const std::string& tenant) {
    return R"({"status":"WAIT","epoch":3,"version":4,"buckets":[],"closed":[)" + closed + R"(],"tenant":)" + tenant +
           "}";
  };
  const auto answer = sidecar::lease_answer(request, answer_with(list, "{}"));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->absorbed, std::vector<int64_t>(1000, 3));
  const auto deep =
      sidecar::lease_answer(request, answer_with("", std::string(100'000, '[') + std::string(100'000, ']')));
  ASSERT_FALSE(deep);
  EXPECT_NE(deep.error().message.find("deeper"), std::string::npos) << deep.error().message;
  EXPECT_TRUE(sidecar::lease_answer(request, answer_with("", std::string(20, '[') + std::string(20, ']'))));
  const std::string text = "\"" + std::string(100, '[') + "\\\"" + std::string(100, '{') + "\"";
  EXPECT_TRUE(sidecar::lease_answer(request, answer_with("", text))) << "in a text it is no nesting";
}

}  // namespace
}  // namespace tallygate::testing
