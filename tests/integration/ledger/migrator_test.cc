#include "operator/ledger/migrator.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "tests/integration/support/postgres_server.h"

namespace tallygate::ledger {
namespace {

using testing::PostgresServer;

TEST(Migrator, AppliesEachMigrationOnce) {
  Session session(PostgresServer::shared().create_database(false));
  EXPECT_EQ(check_schema(session).error().errc, Errc::kConflict);
  const auto first = migrate(session);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->size(), embedded_migrations().size());
  const auto second = migrate(session);
  ASSERT_TRUE(second);
  EXPECT_TRUE(second->empty());
  EXPECT_TRUE(check_schema(session));
}

TEST(Migrator, RefusesAChangedFile) {
  Session session(PostgresServer::shared().create_database(false));
  const std::array<Migration, 1> before = {Migration{"0001_a", "create table a (x int)"}};
  const std::array<Migration, 1> after = {Migration{"0001_a", "create table a (x bigint)"}};
  ASSERT_TRUE(migrate(session, before));
  const auto result = migrate(session, after);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().errc, Errc::kConflict);
  EXPECT_NE(result.error().message.find("0001_a was changed"), std::string::npos) << result.error().message;
}

TEST(Migrator, RefusesASchemaThatIsNewerThanTheProgram) {
  Session session(PostgresServer::shared().create_database(false));
  const std::array<Migration, 2> newer = {Migration{"0001_a", "select 1"}, Migration{"0002_b", "select 1"}};
  ASSERT_TRUE(migrate(session, newer));
  const auto result = migrate(session, std::span(newer).first(1));
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("0002_b"), std::string::npos);
}

TEST(Migrator, LeavesNothingOfAMigrationThatFails) {
  Session session(PostgresServer::shared().create_database(false));
  const std::array<Migration, 2> bad = {Migration{"0001_a", "create table a (x int)"},
                                        Migration{"0002_b", "create table b (x int); select no_such_thing()"}};
  const auto result = migrate(session, bad);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("0002_b"), std::string::npos);
  const auto rows = session.exec("select to_regclass('a') is not null, to_regclass('b') is not null");
  ASSERT_TRUE(rows);
  EXPECT_TRUE(rows->boolean(0, 0));
  EXPECT_FALSE(rows->boolean(0, 1));
}

TEST(Migrator, ManyAtOnceApplyEachMigrationOnce) {
  const std::string url = PostgresServer::shared().create_database(false);
  std::array<size_t, 6> applied{};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < applied.size(); ++i) {
    threads.emplace_back([&, i] {
      Session session(url);
      const auto names = migrate(session);
      applied[i] = names ? names->size() : 1000;
    });
  }
  for (auto& thread : threads) thread.join();
  size_t total = 0;
  for (const size_t n : applied) total += n;
  EXPECT_EQ(total, embedded_migrations().size());
}

}  // namespace
}  // namespace tallygate::ledger
