// PostgreSQL ends in the middle of writes, or commits and cannot say so: who repeats with the same keys ends with one
// effect each, and the API finds the database again by itself.
#include <atomic>
#include <thread>

#include "tests/integration/api/commit_cutter.h"
#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

constexpr int kWrites = 1000;
constexpr int kClients = 20;
constexpr int64_t kCredit = 1'000'000'000;

// Of every kind that moves a wallet, and usage.
Ask write_of(int i) {
  const std::string n = std::to_string(i), call = "c" + std::to_string(i / 8);
  Ask ask{.method = "POST", .token = kAcmeToken, .key = "w" + n};
  switch (i % 8) {
    case 0:
      ask.path = "/v1/reservations";
      ask.body = R"({"callId":")" + call + R"(","amount":"0.05"})";
      break;
    case 1:
      ask.path = "/v1/reservations/" + call + "x/commit";  // without a hold: billed directly
      ask.body = R"({"cost":"0.02"})";
      break;
    case 2:
      ask.path = "/v1/reservations";
      ask.body = R"({"callId":")" + call + R"(y","amount":"0.03"})";
      break;
    case 3:
      ask.path = "/v1/wallet/adjustments";
      ask.body = R"({"amount":"0.07","reason":"missed"})";
      ask.token = kAdminToken;
      ask.tenant = "shop/acme";
      break;
    case 4:
      ask.path = "/v1/usage";
      ask.body = R"({"id":"u)" + n + R"(","meter":"sms","units":1})";
      ask.key = "";
      break;
    default:
      ask.path = "/v1/deductions";
      ask.body = R"({"amount":"0.01"})";
  }
  return ask;
}

struct Writers {
  explicit Writers(uint16_t port) : port(port) {
    for (int i = 0; i < kClients; ++i) threads.emplace_back([this, i] { run(i); });
  }
  // Repeats each write until an answer comes that is final.
  void run(int client) {
    ApiClient connection(port);
    for (int i = client; i < kWrites; i += kClients) {
      for (int attempt = 0; attempt < 400; ++attempt) {
        const Answer answer = connection.send(write_of(i));
        if (answer.status >= 200 && answer.status < 300) {
          ++done;
          break;
        }
        EXPECT_EQ(answer.status, 503) << answer.body;
        EXPECT_NE(answer.head.find("Retry-After: 1"), std::string::npos) << answer.head;
        ++repeated;
        system_env().sleep_ms(25);
      }
    }
  }
  void until(int count) const {
    while (done < count) system_env().sleep_ms(1);
  }
  void join() {
    for (auto& thread : threads) thread.join();
  }
  const uint16_t port;
  std::atomic<int> done = 0, repeated = 0;
  std::vector<std::thread> threads;
};

void expect_one_effect_each(ApiWorld& world) {
  world.session.close();
  const int each = kWrites / 8;
  EXPECT_EQ(
      world.number("select count(*) from credit_transactions where idempotency_key like 'w%' or call_id like 'c%x'"),
      7 * each);
  EXPECT_EQ(world.number("select count(*) from credit_reservations where state = 'pending'"), 2 * each);
  EXPECT_EQ(world.number("select reserved_micros from wallets where tenant = 'shop/acme'"), each * 80'000);
  EXPECT_EQ(world.number("select count(*) from usage_records"), each);
  // An SMS costs 0.04, of the wallet.
  EXPECT_EQ(world.number("select balance_micros from wallets where tenant = 'shop/acme'"),
            kCredit + each * (-20'000 + 70'000 - 40'000 - 3 * 10'000));
  EXPECT_EQ(world.number("select count(*) from audit_log where action = 'wallet.adjust'"), each);
  EXPECT_EQ(world.number("select count(*) from ledger_audit()"), 0);
}

TEST(ApiRestart, PostgresKilledAndShutDownInTheMiddleOfAThousandWrites) {
  PostgresServer postgres;
  ApiWorld world({.postgres = &postgres});
  world.credit("shop/acme", kCredit);
  Writers writers(world.server->port());
  const auto restart = [&](const char* how, int at, void (PostgresServer::*end)()) {
    writers.until(at);
    (postgres.*end)();
    postgres.start();
    const int64_t back_ms = system_env().mono_ms();
    while (world.get("/v1/wallet").status != 200) system_env().sleep_ms(1);
    const int64_t answered_ms = system_env().mono_ms();
    while (world.server->not_ready()) system_env().sleep_ms(1);
    std::printf("%s: the API answers %ld ms after PostgreSQL does, is ready after %ld ms\n", how,
                static_cast<long>(answered_ms - back_ms), static_cast<long>(system_env().mono_ms() - back_ms));
    EXPECT_LT(system_env().mono_ms() - back_ms, 3'000);
  };
  restart("kill -9 of the postmaster", 200, &PostgresServer::kill);
  restart("fast shutdown", 450, &PostgresServer::stop);
  restart("kill -9 of the postmaster", 700, &PostgresServer::kill);
  writers.join();
  EXPECT_EQ(writers.done, kWrites);
  EXPECT_GT(writers.repeated, 0) << "nothing was in the middle of anything";
  std::printf("%d writes, %d sent again\n", writers.done.load(), writers.repeated.load());
  expect_one_effect_each(world);
}

// The clients hardly see it: the pool repeats by key what it cannot know.
TEST(ApiRestart, ConnectionsCutBetweenCommitAndItsAnswer) {
  std::unique_ptr<CommitCutter> cutter;
  ApiWorld world({.prepare = [&](ApiWorld& w) {
    const size_t host = w.url.find("127.0.0.1:") + 10, end = w.url.find('/', host);
    cutter = std::make_unique<CommitCutter>(static_cast<uint16_t>(std::stoi(w.url.substr(host, end - host))), 7);
    w.api_url.replace(host, end - host, std::to_string(cutter->port()));
  }});
  world.credit("shop/acme", kCredit);
  Writers writers(world.server->port());
  writers.join();
  cutter->stop_cutting();
  EXPECT_EQ(writers.done, kWrites);
  EXPECT_LT(writers.repeated, 10) << "five cuts in a row, no more";
  EXPECT_GT(cutter->cuts(), 30);
  EXPECT_GE(world.metric("tallygate_operator_api_in_doubt_total"), 30);
  std::printf("%d commits without an answer, %.0f told in doubt, %.0f rolled back\n", cutter->cuts(),
              world.metric("tallygate_operator_api_in_doubt_total"),
              world.metric("tallygate_operator_api_rollbacks_total"));
  expect_one_effect_each(world);
  world.server.reset();  // before what its connections go through
}

}  // namespace
}  // namespace tallygate::testing
