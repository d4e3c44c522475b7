// kill -9 of the API, and of its connections, in the middle of writes: who repeats with the same keys ends with one
// effect each.
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/integration/api/world.h"

namespace tallygate::testing {
namespace {

constexpr int kWrites = 1000;
constexpr int kClients = 20;

// Beside this test's own program.
std::string server_program() {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "api_test_server").string();
}

Ask write_of(int i) {
  const std::string n = std::to_string(i);
  if (i % 3 == 0)
    return {.method = "POST",
            .path = "/v1/deductions",
            .body = R"({"amount":"0.01"})",
            .token = kAcmeToken,
            .key = "w" + n};
  if (i % 3 == 1) {
    return {.method = "POST",
            .path = "/v1/reservations",
            .body = R"({"callId":"c)" + n + R"(","amount":"0.01"})",
            .token = kAcmeToken,
            .key = "w" + n};
  }
  return {.method = "POST",
          .path = "/v1/reservations/d" + n + "/commit",
          .body = R"({"cost":"0.01"})",
          .token = kAcmeToken,
          .key = "w" + n};
}

// Repeats each write until an answer comes that is final.
void write_all(uint16_t port, int client, std::atomic<int>& done, std::atomic<int>& repeated) {
  auto connection = std::make_unique<ApiClient>(port);
  for (int i = client; i < kWrites; i += kClients) {
    for (int attempt = 0; attempt < 400; ++attempt) {
      const Answer answer = connection->send(write_of(i));
      if (answer.status == 200 || answer.status == 201) {
        ++done;
        break;
      }
      ++repeated;
      system_env().sleep_ms(25);
      connection = std::make_unique<ApiClient>(port);
    }
  }
}

TEST(ApiKilled, InTheMiddleOfAThousandWritesEachHasOneEffectAfterItsRepetition) {
  const std::string url = PostgresServer::shared().create_database();
  const std::string folder = make_temporary_folder();
  const std::string tokens = write_service_tokens(folder);
  ledger::Session session(url);
  publish_tenants(session, *sample_manifests(system_env().wall_s()));
  ASSERT_TRUE(session.exec("select add_wallet_credits('shop/acme', 'seed', null, 'GBP', 1000000000, '', now())"));
  const int port = free_port();
  std::atomic<int> done = 0, repeated = 0;
  ChildProcess server;
  const auto start = [&](ChildProcess& process) {
    process.start({server_program(), url, std::to_string(port), tokens, "8"}, {});
    for (int i = 0; i < 400 && !http::RawClient(static_cast<uint16_t>(port)).connected(); ++i)
      system_env().sleep_ms(25);
  };
  start(server);
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i)
    clients.emplace_back([&, i] { write_all(static_cast<uint16_t>(port), i, done, repeated); });
  for (const int at : {150, 400, 650}) {
    while (done < at) system_env().sleep_ms(1);
    server.signal(SIGKILL);
    server.wait();
    start(server);
  }
  // And the database cuts every connection, between COMMIT and its answer too.
  while (done < 800) system_env().sleep_ms(1);
  for (int i = 0; i < 5; ++i) {
    (void)session.exec(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = "
        "current_database()");
    system_env().sleep_ms(20);
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(done, kWrites);
  EXPECT_GT(repeated, 0) << "nothing was in the middle of anything";
  const auto number = [&](const std::string& sql) { return session.exec(sql)->integer(0, 0); };
  EXPECT_EQ(number("select count(*) from credit_transactions where idempotency_key like 'w%'"), kWrites);
  EXPECT_EQ(number("select balance_micros from wallets where tenant = 'shop/acme'"), 1'000'000'000 - 667 * 10'000);
  EXPECT_EQ(number("select reserved_micros from wallets where tenant = 'shop/acme'"), 333 * 10'000);
  EXPECT_EQ(number("select count(*) from ledger_audit()"), 0);
  RecordProperty("repeated", repeated.load());
  std::printf("%d writes, %d sent again\n", done.load(), repeated.load());
  std::remove(tokens.c_str());
  std::remove(folder.c_str());
}

}  // namespace
}  // namespace tallygate::testing
