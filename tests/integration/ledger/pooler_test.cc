// A pooler between us and the ledger: what is in a session of the server is not ours then. And a server that takes no
// writes.
#include "operator/ledger/pooler.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/env.h"
#include "tests/integration/support/pg_bouncer.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::ledger {
namespace {

using testing::PgBouncer;
using testing::PostgresServer;

TEST(Pooler, IsFoundWhereTransactionsShareSessions) {
  const std::string url = PostgresServer::shared().create_database(false);
  EXPECT_TRUE(refuse_pooler(url, "--database-url"));
  for (const bool round_robin : {false, true}) {
    PgBouncer transaction(url, "transaction", round_robin), session(url, "session", round_robin);
    const auto refused = refuse_pooler(transaction.url(), "--api-database-url", "; or give --api-database-pooled");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().errc, Errc::kConflict);
    EXPECT_EQ(refused.error().message,
              "--api-database-url leads through a pooler that gives each transaction another session "
              "(pool_mode=transaction): use the server itself, or a pooler with pool_mode=session; or give "
              "--api-database-pooled");
    const auto kept = refuse_pooler(session.url(), "--database-url");
    EXPECT_TRUE(kept) << kept.error().message;
  }
}

TEST(Pooler, IsFoundWhileOthersUseItToo) {
  const std::string url = PostgresServer::shared().create_database(false);
  PgBouncer pooler(url, "transaction", true);
  std::atomic<bool> stop = false;
  std::vector<std::thread> others;
  for (int i = 0; i < 4; ++i) {
    others.emplace_back([&] {
      Session session(pooler.url());
      while (!stop) EXPECT_TRUE(session.exec("select pg_sleep(0.002)"));
    });
  }
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(refuse_pooler(pooler.url(), "--database-url"));
  stop = true;
  for (auto& other : others) other.join();
}

TEST(Pooler, NobodyThereIsNotAPooler) {
  const auto away = refuse_pooler("postgresql://nobody@127.0.0.1:1/none", "--database-url");
  ASSERT_FALSE(away);
  EXPECT_EQ(away.error().errc, Errc::kUnavailable);
}

// Each transaction has what it needs, whoever had the session before, and leaves nothing to who has it next.
TEST(Pooler, ASessionThroughItSaysInEachTransactionWhatItNeeds) {
  const std::string url = PostgresServer::shared().create_database();
  PgBouncer pooler(url, "transaction", false, 1);
  const std::string setup = "set local statement_timeout = 4321; set local role tallygate_api";
  Session ours(pooler.url(), setup, Session::Through::kPooler), others(pooler.url());
  constexpr const char* kState =
      "select current_user, current_setting('statement_timeout'), current_setting('jit'), current_setting('TimeZone'), "
      "$1::int";
  for (int i = 0; i < 3; ++i) {
    for (const bool alone : {false, true}) {
      const auto state = alone ? ours.autocommit(kState, {i}) : ours.exec(kState, {i});
      ASSERT_TRUE(state) << state.error().message;
      EXPECT_EQ(state->text(0, 0), "tallygate_api");
      EXPECT_EQ(state->text(0, 1), "4321ms");
      EXPECT_EQ(state->text(0, 2), "off");
      EXPECT_EQ(state->text(0, 3), "UTC");
      EXPECT_EQ(state->integer(0, 4), i);
    }
    const auto left = others.exec(kState, {i});
    ASSERT_TRUE(left) << left.error().message;
    EXPECT_EQ(left->text(0, 0), "tallygate");
    EXPECT_EQ(left->text(0, 1), "0");
  }
  EXPECT_EQ(others.exec("select count(*) from pg_prepared_statements")->integer(0, 0), 0);
}

TEST(ReadOnly, IsFoundAndAnotherConnectionMayBeBetter) {
  const std::string url = PostgresServer::shared().create_database();
  const std::string name = url.substr(url.rfind('/') + 1, url.find('?') - url.rfind('/') - 1);
  Session owner(url);
  ASSERT_TRUE(owner.exec("select 1"));
  Session fine(url);
  EXPECT_TRUE(refuse_read_only(fine));
  ASSERT_TRUE(owner.exec("alter database " + name + " set default_transaction_read_only = on"));
  Session standby(url);
  const auto refused = refuse_read_only(standby);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errc, Errc::kUnavailable);
  EXPECT_NE(refused.error().message.find("takes no writes"), std::string::npos);
  EXPECT_FALSE(standby.connected());
  const auto written = standby.exec("create table t (n int)");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().errc, Errc::kUnavailable);
  EXPECT_FALSE(standby.connected());
  ASSERT_TRUE(owner.exec("alter database " + name + " reset default_transaction_read_only"));
  EXPECT_TRUE(standby.exec("create table t (n int)")) << "the next connection";
}

TEST(ErrorClasses, SayWhetherWaitingHelps) {
  Session session(PostgresServer::shared().create_database(false));
  const std::pair<const char*, Errc> kTable[] = {
      {"25006", Errc::kUnavailable}, {"25P03", Errc::kUnavailable}, {"25P04", Errc::kUnavailable},
      {"25P02", Errc::kInternal},    {"25001", Errc::kInternal},    {"53100", Errc::kUnavailable},
      {"53200", Errc::kUnavailable}, {"53300", Errc::kUnavailable}, {"53400", Errc::kUnavailable},
      {"57P01", Errc::kUnavailable}, {"57P03", Errc::kUnavailable}, {"57014", Errc::kUnavailable},
      {"58000", Errc::kUnavailable}, {"58030", Errc::kUnavailable}, {"58P01", Errc::kUnavailable},
      {"55P03", Errc::kUnavailable}, {"40001", Errc::kUnavailable}, {"40P01", Errc::kUnavailable},
      {"22012", Errc::kInvalid},     {"23505", Errc::kInvalid},     {"P0001", Errc::kInvalid},
      {"42501", Errc::kInternal}};
  for (const auto& [state, errc] : kTable) {
    const auto raised =
        session.exec("do $$ begin raise exception 'boom' using errcode = '" + std::string(state) + "'; end $$");
    ASSERT_FALSE(raised);
    EXPECT_EQ(raised.error().errc, errc) << state << ": " << raised.error().message;
  }
}

}  // namespace
}  // namespace tallygate::ledger
