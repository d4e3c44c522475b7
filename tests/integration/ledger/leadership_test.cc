// Who leads, by the lease in a real ledger: taken, kept, lost without a word, released.
#include "operator/ledger/leadership.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <vector>

#include "operator/ledger/session.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {
namespace {

using ledger::Leadership;

// The system's clocks, shifted: the wall one a machine's that is wrong, the monotonic one's of a process that slept.
class ShiftedEnv final : public Env {
 public:
  int64_t mono_ns() override { return system_env().mono_ns() + mono_shift_ms * 1'000'000; }
  int64_t wall_ns() override { return system_env().wall_ns() + wall_shift_s * 1'000'000'000; }
  void random_bytes(void* out, size_t size) override { system_env().random_bytes(out, size); }
  void sleep_ms(int64_t ms) override { system_env().sleep_ms(ms); }
  std::atomic<int64_t> mono_shift_ms = 0, wall_shift_s = 0;
};

// An operator, as far as it leads.
struct Member {
  explicit Member(const std::string& url) : leadership(clock, url) {}
  ShiftedEnv machine;
  LedgerClock clock{machine};
  Leadership leadership;
  bool leads() const { return leadership.is_leader(); }
};

// Between a client and PostgreSQL: forwards until told not to, and then keeps every connection open in silence.
class SilentProxy {
 public:
  explicit SilentProxy(int to_port) : to_port_(to_port), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~SilentProxy() {
    stopping_ = true;
    thread_.join();
    for (const int fd : ends_) ::close(fd);
    ::close(listener_);
  }
  std::atomic<bool> silent = false;
  int port = 0;

 private:
  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }
  void run() {
    while (!stopping_) {
      if (silent) {
        system_env().sleep_ms(5);
        continue;
      }
      std::vector<pollfd> watched{{listener_, POLLIN, 0}};
      for (const int fd : ends_) watched.push_back({fd, POLLIN, 0});
      if (::poll(watched.data(), watched.size(), 20) <= 0 || silent) continue;
      for (size_t i = 1; i < watched.size(); ++i) {
        if (watched[i].revents != 0) forward(i - 1);
      }
      if (watched[0].revents != 0) accept_one();
    }
  }
  // Ends come in pairs: an even place and the odd one after it.
  void forward(size_t from) {
    char bytes[16'384];
    const ssize_t n = ::recv(ends_[from], bytes, sizeof bytes, MSG_DONTWAIT);
    const size_t to = from ^ 1;
    if (n > 0) {
      (void)!::send(ends_[to], bytes, static_cast<size_t>(n), MSG_NOSIGNAL);
    } else if (n == 0) {
      ::shutdown(ends_[to], SHUT_RDWR);
    }
  }
  void accept_one() {
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(to_port_);
    EXPECT_EQ(::connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ends_.push_back(client);
    ends_.push_back(server);
  }
  const int to_port_;
  const int listener_;
  std::vector<int> ends_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

class LeadershipTest : public ::testing::Test {
 protected:
  static bool eventually(const std::function<bool()>& done, int64_t within_ms = 10'000) {
    const int64_t until_ms = system_env().mono_ms() + within_ms;
    while (!done()) {
      if (system_env().mono_ms() > until_ms) return false;
      system_env().sleep_ms(3);
    }
    return true;
  }
  bool lead(Member& member) {
    member.leadership.start();
    return eventually([&] { return member.leads(); });
  }
  int64_t number(const std::string& sql) {
    const auto rows = session.exec(sql);
    return rows && !rows->empty() ? rows->integer(0, 0) : -1;
  }
  // "postgresql://…@127.0.0.1:PORT/…"
  std::string url_by(int port) const {
    const size_t colon = url.rfind(':');
    const size_t slash = url.find('/', colon);
    return url.substr(0, colon + 1) + std::to_string(port) + url.substr(slash);
  }
  int server_port() const { return std::stoi(url.substr(url.rfind(':') + 1)); }

  std::string url = PostgresServer::shared().create_database();
  ledger::Session session{url};
};

TEST_F(LeadershipTest, OneAtATimeAndTheNextLeadsWhenItEnds) {
  Member first(url), second(url);
  ASSERT_TRUE(lead(first));
  second.leadership.start();
  ASSERT_TRUE(eventually([&] { return second.leadership.is_standby(); }));
  system_env().sleep_ms(2 * Leadership::kLease_ms);
  EXPECT_TRUE(first.leads());
  EXPECT_FALSE(second.leads());
  EXPECT_EQ(number("select term from leadership"), 1) << "renewed, not taken anew";
  first.leadership.stop();
  EXPECT_FALSE(first.leads());
  EXPECT_EQ(number("select count(*) from leadership where expires_at <= clock_timestamp()"), 1) << "released";
  EXPECT_TRUE(eventually([&] { return second.leads(); }));
  EXPECT_EQ(second.leadership.term(), 2);
}

TEST_F(LeadershipTest, ALeaderThatIsCutOffInSilenceLeadsNoMoreBeforeTheNextDoes) {
  SilentProxy proxy(server_port());
  Member first(url_by(proxy.port)), second(url);
  ASSERT_TRUE(lead(first));
  second.leadership.start();
  ASSERT_TRUE(eventually([&] { return second.leadership.is_standby(); }));
  proxy.silent = true;
  while (!second.leads()) {
    system_env().sleep_ms(1);
  }
  EXPECT_FALSE(first.leads()) << "by its own clock alone: it hears nothing";
  EXPECT_TRUE(eventually([&] { return !first.leadership.is_standby(); })) << "it does not know who leads";
  proxy.silent = false;
  EXPECT_TRUE(eventually([&] { return first.leadership.is_standby(); })) << "it hears of its successor";
  EXPECT_TRUE(second.leads());
  EXPECT_FALSE(first.leads());
}

TEST_F(LeadershipTest, AProcessThatSleptIsNoLeaderBeforeItsThreadRuns) {
  Member only(url);
  ASSERT_TRUE(lead(only));
  only.machine.mono_shift_ms = Leadership::kHold_ms;
  EXPECT_FALSE(only.leads());
  EXPECT_TRUE(eventually([&] { return only.leads(); })) << "nobody else led meanwhile";
}

TEST_F(LeadershipTest, ARenewalThatFailsIsNoLostReign) {
  Member only(url);
  ASSERT_TRUE(lead(only));
  const std::string theirs =
      " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and query like "
      "'%o_leads%'";
  for (int i = 0; i < 3; ++i) {
    const int64_t before = number("select max(pid)" + theirs);
    ASSERT_EQ(number("select count(pg_terminate_backend(pid))" + theirs), 1);
    bool led = true;
    const int64_t until_ms = system_env().mono_ms() + 2 * Leadership::kInterval_ms;
    while (system_env().mono_ms() < until_ms) led = led && only.leads();
    EXPECT_TRUE(led) << "what the renewal before it gave still counts";
    ASSERT_TRUE(eventually([&] {
      const int64_t now = number("select coalesce(max(pid), 0)" + theirs);
      return now != 0 && now != before;
    }));
  }
  EXPECT_EQ(only.leadership.term(), 1);
}

TEST_F(LeadershipTest, NobodyLeadsWhilePostgresIsAway) {
  PostgresServer server;
  Member only(server.create_database());
  ASSERT_TRUE(lead(only));
  server.kill();
  const int64_t start_ms = system_env().mono_ms();
  ASSERT_TRUE(eventually([&] { return !only.leads(); }));
  EXPECT_LE(system_env().mono_ms() - start_ms, Leadership::kHold_ms);
  system_env().sleep_ms(2 * Leadership::kInterval_ms);
  EXPECT_FALSE(only.leads());
  server.start();
  EXPECT_TRUE(eventually([&] { return only.leads(); }));
}

TEST_F(LeadershipTest, AnExpiryThatAWrongClockWroteBindsNobody) {
  ASSERT_EQ(
      number("update leadership set holder = 'gone', term = 7, expires_at = clock_timestamp() + interval '1 hour' "
             "returning term"),
      7);
  Member next(url);
  EXPECT_TRUE(lead(next));
  EXPECT_EQ(next.leadership.term(), 8);
}

TEST_F(LeadershipTest, TheLedgersTimeIsLearnedAndAWrongClockSaid) {
  Member member(url);
  member.machine.wall_shift_s = 3600;
  ASSERT_TRUE(lead(member));
  const auto off_ms = [&] { return std::abs(member.clock.wall_ms() - system_env().wall_ms()); };
  EXPECT_LT(off_ms(), 1'000) << "the server's clock is this machine's";
  EXPECT_NE(member.clock.machine_fault().find("ahead of the ledger's"), std::string::npos);
  member.machine.wall_shift_s = -90;
  EXPECT_LT(off_ms(), 1'000);
  EXPECT_NE(member.clock.machine_fault().find("behind the ledger's"), std::string::npos);
}

}  // namespace
}  // namespace tallygate::testing
