// A ledger that was restored from a backup answers nothing, not even in the second before anybody has found out: a
// restored server is a new connection, and each is asked how far its ledger is.
#include <gtest/gtest.h>

#include "operator/api/pool.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::api {
namespace {

struct Restored : ::testing::Test {
  std::string url = testing::PostgresServer::shared().create_database();
  std::shared_ptr<ledger::History> history = std::make_shared<ledger::History>();
  ledger::Session session{url};
  ledger::HistoryStore store{system_env(), session};
  Pool pool{system_env(), {.database_url = url, .deadline_ms = 2000, .history = history}};

  Result<ledger::Rows> ask() { return pool.exec("select 1", {}, system_env().mono_ms() + 2000); }
  ledger::Mark look() { return store.look().value().mark; }
};

TEST_F(Restored, ANewConnectionToLessThanWasKnownAnswersNothing) {
  history->heard(look());
  EXPECT_TRUE(ask()) << "as far as it is known to be";
  history->heard({0, look().mark + 7});
  EXPECT_TRUE(ask()) << "the connection of before: whoever has it open has no other ledger";
  ASSERT_TRUE(
      session.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                   "and pid <> pg_backend_pid()"));
  const auto refused = ask();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errc, Errc::kUnavailable);
  EXPECT_NE(refused.error().message.find("gone back"), std::string::npos) << refused.error().message;
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(store.advance({}));
  EXPECT_TRUE(ask()) << "it was another's commit that had not come here yet";
}

TEST_F(Restored, WhereItIsFoundNothingIsAnsweredUntilItIsRecovered) {
  EXPECT_TRUE(ask());
  history->set_behind("test");
  EXPECT_FALSE(ask());
  EXPECT_NE(pool.trouble(), "") << "not ready";
  history->set_behind("");
  EXPECT_TRUE(ask());
  // Found by another process, and this one has just started.
  ASSERT_TRUE(store.found_behind("test"));
  Pool fresh(system_env(), {.database_url = url, .deadline_ms = 500, .history = std::make_shared<ledger::History>()});
  EXPECT_FALSE(fresh.exec("select 1", {}, system_env().mono_ms() + 500));
}

}  // namespace
}  // namespace tallygate::api
