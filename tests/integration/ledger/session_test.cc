#include "operator/ledger/session.h"

#include <gtest/gtest.h>

#include "tests/integration/support/postgres_server.h"

namespace tallygate::ledger {
namespace {

TEST(Session, BoundsItsConnectionWhateverTheUrlSays) {
  EXPECT_EQ(with_connection_bounds("postgresql://u@h/d"),
            "postgresql://u@h/d?connect_timeout=5&keepalives_idle=10&keepalives_interval=5&keepalives_count=3"
            "&tcp_user_timeout=20000&application_name=tallygate-operator");
  EXPECT_EQ(with_connection_bounds("postgresql://u@h/d?sslmode=verify-full&connect_timeout=30"),
            "postgresql://u@h/d?sslmode=verify-full&connect_timeout=30&keepalives_idle=10&keepalives_interval=5"
            "&keepalives_count=3&tcp_user_timeout=20000&application_name=tallygate-operator");
  // A password may look like a parameter.
  EXPECT_EQ(
      with_connection_bounds("postgresql://u:connect_timeout=@h/d?application_name=mine").find("&connect_timeout=5"),
      57u);
}

TEST(Session, OfAUrlWithParametersConnects) {
  const std::string url = testing::PostgresServer::shared().create_database();
  Session plain(url), named(url + "&sslmode=disable&application_name=mine");
  EXPECT_EQ(plain.exec("select current_setting('application_name')")->text(0, 0), "tallygate-operator");
  EXPECT_EQ(named.exec("select current_setting('application_name')")->text(0, 0), "mine");
}

TEST(Session, AnAnswerThatIsLostLeavesTheOutcomeUnknown) {
  const std::string url = testing::PostgresServer::shared().create_database();
  Session session(url), other(url);
  ASSERT_TRUE(session.autocommit("select $1::int", {1}));
  ASSERT_TRUE(other.exec("create table seen (n int)"));
  const auto lost = session.autocommit(
      "insert into seen select 1 where pg_terminate_backend(pg_backend_pid()) and $1 = 1 returning n", {1});
  ASSERT_FALSE(lost);
  EXPECT_TRUE(lost.error().errc == Errc::kTimeout || lost.error().errc == Errc::kUnavailable) << lost.error().message;
  EXPECT_EQ(session.autocommit("select $1::int", {7})->integer(0, 0), 7) << "the next statement has a new connection";
}

TEST(Session, AutocommitCommitsByItself) {
  const std::string url = testing::PostgresServer::shared().create_database();
  Session session(url), other(url);
  ASSERT_TRUE(session.exec("create table kept (n int)"));
  ASSERT_TRUE(session.autocommit("insert into kept values ($1)", {3}));
  EXPECT_EQ(other.exec("select n from kept")->integer(0, 0), 3);
  const auto refused = session.autocommit("insert into kept values ($1)", {"x"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errc, Errc::kInvalid);
  EXPECT_TRUE(session.connected());
}

// As a process that was stopped in the middle, or a machine that is gone: the others must not wait for it.
TEST(Session, ATransactionWhoseClientSleepsHoldsNoLockForLong) {
  const std::string url = testing::PostgresServer::shared().create_database();
  Session sleeper(url), other(url);
  ASSERT_TRUE(other.exec("create table counted (n int)") && other.exec("insert into counted values (1)"));
  const auto slept = sleeper.transact([&](Transaction& transaction) -> Result<void> {
    EXPECT_TRUE(transaction.exec("update counted set n = 2"));
    EXPECT_TRUE(other.exec("update counted set n = n + 10")) << "it waits until the sleeper's lock is gone";
    return {};
  });
  EXPECT_FALSE(slept) << "its transaction was rolled back";
  EXPECT_EQ(other.exec("select n from counted")->integer(0, 0), 11);
  EXPECT_TRUE(sleeper.exec("update counted set n = 5")) << "the next one has a new connection";
}

}  // namespace
}  // namespace tallygate::ledger
