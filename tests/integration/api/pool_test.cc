// The API's connections where the server has no room for more, takes no writes, or is behind a pooler.
#include "operator/api/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/integration/api/world.h"
#include "tests/integration/support/pg_bouncer.h"

namespace tallygate::api {
namespace {

using testing::ApiWorld;
using testing::PgBouncer;
using testing::PostgresServer;

std::string name_of(const std::string& url) {
  return url.substr(url.rfind('/') + 1, url.find('?') - url.rfind('/') - 1);
}
int64_t soon_ms() { return system_env().mono_ms() + 4'000; }

struct PoolTest : ::testing::Test {
  std::string url = PostgresServer::shared().create_database();
  ledger::Session owner{url};
  // Of all but who has one already.
  void connections_max(int count) {
    ASSERT_TRUE(owner.exec("alter database " + name_of(url) + " connection limit " + std::to_string(count)));
  }
};

TEST_F(PoolTest, WhereThereIsNoRoomForMoreThoseThatAreThereServe) {
  Pool pool(system_env(), {.database_url = url, .connections_max = 8, .deadline_ms = 4'000});
  ASSERT_TRUE(pool.exec("select $1::int", {1}, soon_ms()));
  connections_max(1);
  std::atomic<int> served = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 3; ++k) {
        const auto rows = pool.exec("select $1::int, pg_sleep(0.01)", {k}, soon_ms());
        EXPECT_TRUE(rows) << rows.error().message;
        served += rows ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(served, 36);
  pool.check();
  EXPECT_EQ(pool.trouble(), "");
}

TEST_F(PoolTest, WithoutAnyConnectionItFailsInTime) {
  ASSERT_TRUE(owner.exec("select 1"));
  connections_max(0);
  Pool pool(system_env(), {.database_url = url, .connections_max = 4, .deadline_ms = 500});
  const auto refused = pool.exec("select $1::int", {1}, system_env().mono_ms() + 500);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errc, Errc::kUnavailable);
  connections_max(-1);
  EXPECT_TRUE(pool.exec("select $1::int", {1}, soon_ms()));
}

TEST_F(PoolTest, AServerThatTakesNoWritesIsNotReadyThoughReadsPass) {
  Pool pool(system_env(), {.database_url = url, .deadline_ms = 2'000});
  pool.check();
  EXPECT_EQ(pool.trouble(), "");
  ASSERT_TRUE(owner.exec("alter database " + name_of(url) + " set default_transaction_read_only = on"));
  ASSERT_TRUE(
      owner.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                 "and pid <> pg_backend_pid()"));
  const auto write = [&] {
    return pool.run([](ledger::Transaction& transaction) {
      return transaction
          .exec("insert into audit_log (at, tenant, actor, action) values (now(), null, 'test', 'test') returning 1")
          .map([](const auto&) {});
    });
  };
  const auto refused = write();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errc, Errc::kUnavailable) << refused.error().message;
  EXPECT_NE(pool.trouble(), "") << "who writes finds out";
  EXPECT_TRUE(pool.exec("select $1::int", {1}, soon_ms()));
  EXPECT_NE(pool.trouble(), "") << "who reads does not, and says nothing of it";
  pool.check();
  EXPECT_NE(pool.trouble().find("takes no writes"), std::string::npos) << pool.trouble();
  ASSERT_TRUE(owner.exec("alter database " + name_of(url) + " reset default_transaction_read_only"));
  pool.check();
  EXPECT_EQ(pool.trouble(), "") << "by another connection";
}

// As the API runs through a pooler: each write as the API's role and with its time-outs, and nothing in the session
// that the next one finds.
TEST(ApiThroughAPooler, EachTransactionIsTheApisOwn) {
  std::unique_ptr<PgBouncer> pooler;
  ApiWorld world({.prepare = [&](ApiWorld& before) {
    pooler = std::make_unique<PgBouncer>(before.url, "transaction", true);
    before.api_url = pooler->url();
    before.settings.database_pooled = true;
    const auto made = before.session.exec(
        "create table seen (role text, timeout text);"
        "create function see() returns trigger language plpgsql security definer as $$ begin insert into seen values "
        "(current_setting('role'), current_setting('statement_timeout')); return new; end $$;"
        "create trigger see before insert on credit_transactions for each row execute function see()");
    ASSERT_TRUE(made) << made.error().message;
  }});
  for (const char* tenant : {"shop/acme", "shop/globex"}) world.credit(tenant, 100'000'000);
  ASSERT_TRUE(world.session.exec("delete from seen"));
  std::atomic<int> done = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const std::string& token = i % 2 == 0 ? testing::kAcmeToken : testing::kGlobexToken;
      for (int k = 0; k < 6; ++k) {
        const std::string key = std::to_string(i) + "-" + std::to_string(k);
        const testing::Ask write{
            .method = "POST", .path = "/v1/deductions", .body = R"({"amount":"0.01"})", .token = token, .key = key};
        const testing::Ask read{.path = k % 2 == 0 ? "/v1/wallet" : "/v1/wallet/transactions", .token = token};
        const testing::Ask status{
            .method = "POST", .path = "/v1/status-check", .body = R"({"callId":"none"})", .token = token};
        done += world.send(write).status == 201 ? 1 : 0;
        done += world.send(read).status == 200 ? 1 : 0;
        done += world.send(status).status == 200 ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(done, 8 * 6 * 3);
  EXPECT_EQ(world.number("select count(*) from seen"), 48);
  EXPECT_EQ(world.number("select count(*) from seen where role = 'tallygate_api' and timeout = '5s'"), 48);
  ledger::Session next(pooler->url());
  EXPECT_EQ(next.exec("select current_setting('role') || current_setting('statement_timeout')")->text(0, 0), "none0");
}

}  // namespace
}  // namespace tallygate::api
