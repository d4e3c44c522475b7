// Databases that cannot be, or are not, this program's: the reason first, and the fix that fits it.
#include <gtest/gtest.h>

#include "operator/ledger/migrator.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::ledger {
namespace {

using testing::PostgresServer;

class SchemaAsFound : public ::testing::Test {
 protected:
  SchemaAsFound() : url_(PostgresServer::shared().create_database(false)) {}
  void make(const std::string& sql) {
    Session session(url_);
    const auto done = session.exec(sql);
    ASSERT_TRUE(done) << done.error().message;
  }
  std::string database() const {
    const size_t begin = url_.rfind('/') + 1;
    return url_.substr(begin, url_.find('?') - begin);
  }
  // What `migrate` and the start say; both are to be the same where neither can help.
  std::string of_migrate() {
    Session session(url_);
    const auto done = migrate(session);
    return done ? "" : done.error().message;
  }
  std::string of_start() {
    Session session(url_);
    const auto done = check_schema(session);
    return done ? "" : done.error().message;
  }
  void expect_both(const std::string& reason, const std::string& fix) {
    for (const std::string& said : {of_migrate(), of_start()}) {
      EXPECT_TRUE(said.starts_with(reason)) << said;
      EXPECT_NE(said.find(fix), std::string::npos) << said;
      EXPECT_EQ(said.find("tallygate-operator migrate"), std::string::npos) << said << ": it would not help";
    }
  }

  const std::string url_;
};

TEST_F(SchemaAsFound, AnEmptyOneIsToBeMigrated) {
  EXPECT_NE(of_start().find("run `tallygate-operator migrate`, or start with --migrate"), std::string::npos);
}

TEST_F(SchemaAsFound, AnothersTablesOrViewsAreTold) {
  make("create table tenants (id int primary key)");
  expect_both("another application lives in schema public", "give the ledger a database of its own");
  make("drop table tenants");
  make("create view tenants as select 1 as id");
  expect_both("another application lives in schema public", "give the ledger a database of its own");
}

// Of any other relation only migrating finds out.
TEST_F(SchemaAsFound, ARelationOfAnothersIsToldWhenItIsMet) {
  make("create table epochs (id int)");
  const std::string said = of_migrate();
  EXPECT_NE(said.find("\"epochs\" already exists"), std::string::npos) << said;
  EXPECT_NE(said.find("give the ledger a database of its own"), std::string::npos) << said;
}

TEST_F(SchemaAsFound, ARoleThatMayCreateNothingIsTold) {
  make("revoke create on schema public from public");
  PostgresServer::shared().admin("alter database " + database() + " owner to postgres");
  expect_both("role tallygate may create nothing in schema public", "GRANT CREATE ON SCHEMA public TO tallygate");
}

TEST_F(SchemaAsFound, AReadOnlyDatabaseIsTold) {
  PostgresServer::shared().admin("alter database " + database() + " set default_transaction_read_only = on");
  expect_both("the database is read-only", "default_transaction_read_only");
  Session session(url_);
  EXPECT_EQ(check_writable(session).error().errc, Errc::kConflict);
  PostgresServer::shared().admin("alter database " + database() + " reset default_transaction_read_only");
  Session other(url_);
  EXPECT_TRUE(check_writable(other));
}

TEST_F(SchemaAsFound, ANewerSchemaIsTold) {
  const Migration mine[] = {{"0001_a", "select 1"}};
  const Migration newer[] = {{"0001_a", "select 1"}, {"0002_b", "select 1"}};
  Session session(url_);
  ASSERT_TRUE(migrate(session, newer));
  for (const auto& said : {migrate(session, mine).error().message, check_schema(session, mine).error().message}) {
    EXPECT_TRUE(said.starts_with("the database has migration 0002_b")) << said;
    EXPECT_NE(said.find("run the version that made it, or a newer one"), std::string::npos) << said;
  }
}

}  // namespace
}  // namespace tallygate::ledger
