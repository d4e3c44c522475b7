// The operator over servers that are not as they must be: what /readyz, /health, metrics and the log say, and that it
// goes on by itself once they are.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/integration/operator/operator_process.h"
#include "tests/integration/redis/scratch_redis.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {
namespace {

class OperatorAsFound : public ::testing::Test {
 protected:
  OperatorAsFound() : url_(PostgresServer::shared().create_database()), admin_(system_env(), redis_.endpoint()) {}
  void allow(std::vector<std::string> rules) {
    redis::Command command{"ACL", "SETUSER", "limited", "reset", "on", ">word", "~*", "&*", "+@all"};
    command.insert(command.end(), rules.begin(), rules.end());
    ASSERT_TRUE(redis::Client::check(admin_.call(command)).has_value());
  }
  void start(const std::string& database_url) {
    op_.start({"run", "--source=dir:" + folder_.path(), "--admin=127.0.0.1:0", "--stripe=disabled",
               "--aggregate-interval=200ms"},
              {"TALLYGATE_REDIS_URL=redis://limited:word@127.0.0.1:" + std::to_string(redis_.port()),
               "TALLYGATE_DATABASE_URL=" + database_url});
  }
  // Until the answer has all of these; what it was at last.
  std::string until(const std::string& path, const std::vector<std::string>& parts) {
    std::string body;
    for (int i = 0; i < 500; ++i) {
      body = op_.get(path).body;
      if (std::ranges::all_of(parts, [&](const auto& part) { return body.find(part) != body.npos; })) return "";
      system_env().sleep_ms(20);
    }
    return path + " is at last " + body;
  }
  std::string database() const {
    const size_t begin = url_.rfind('/') + 1;
    return url_.substr(begin, url_.find('?') - begin);
  }

  const std::string url_;
  ScratchRedis redis_;
  redis::Client admin_;
  ManifestFolder folder_;
  OperatorProcess op_;
};

// It used to be ready, with every service "ok".
TEST_F(OperatorAsFound, UsageThatCannotBeBookedIsToldAndNotReady) {
  allow({});
  start(url_);
  ASSERT_TRUE(op_.wait_ready()) << op_.log();
  EXPECT_EQ(op_.metric("tallygate_operator_failing_seconds{part=\"booking\"}"), 0);
  allow({"-xreadgroup"});
  EXPECT_EQ(until("/health", {"\"status\":\"degraded\"", "usage is not booked since ", "ACL SETUSER … +xreadgroup"}),
            "");
  EXPECT_GT(op_.metric("tallygate_operator_failing_seconds{part=\"booking\"}"), 0);
  EXPECT_EQ(op_.metric("tallygate_operator_failing_seconds{part=\"aggregation\"}"), 0);
  EXPECT_EQ(until("/readyz", {"\"ready\":false", "+xreadgroup"}), "");
  allow({});
  EXPECT_TRUE(op_.wait_ready()) << op_.get("/readyz").body;
  EXPECT_EQ(until("/health", {"\"backgroundJobs\":{\"status\":\"ok\""}), "");
}

TEST_F(OperatorAsFound, ARedisThatBarsInfoIsToldAndNoEpochIsSpent) {
  allow({"-info"});
  start(url_);
  EXPECT_EQ(until("/readyz", {"{\"check\":\"redis\",\"reason\":\"INFO is barred", "+info"}), "");
  EXPECT_EQ(until("/health", {"\"redis\":{\"status\":\"down\",\"detail\":\"INFO is barred"}), "");
  EXPECT_EQ(until("/readyz", {"{\"check\":\"epochs\",\"reason\":\"not every shard has an open epoch: Redis"}), "");
  EXPECT_FALSE(op_.wait_line({"service cannot be used as it is", "\"service\":\"redis\"", "+info"}).empty());
  EXPECT_EQ(op_.log().find("service is away"), std::string::npos);
  EXPECT_EQ(op_.metric("tallygate_operator_service_up{service=\"redis\"}"), 0);
  EXPECT_EQ(op_.metric("tallygate_operator_epochs_opened_total"), 0);
  allow({});
  EXPECT_TRUE(op_.wait_ready()) << op_.get("/readyz").body;
  EXPECT_EQ(op_.metric("tallygate_operator_epochs_opened_total"), 64) << "once";
}

TEST_F(OperatorAsFound, AUserThatMayNotSubscribeIsToldAndServes) {
  allow({"-subscribe"});
  start(url_);
  ASSERT_TRUE(op_.wait_ready()) << op_.log();
  EXPECT_EQ(until("/health", {"\"redis\":{\"status\":\"degraded\"", "heard up to a second late", "+subscribe"}), "");
  allow({});
  EXPECT_EQ(until("/health", {"\"redis\":{\"status\":\"ok\""}), "");
}

TEST_F(OperatorAsFound, TooFewConnectionsAreToldWithTheirNumber) {
  allow({});
  auto& server = PostgresServer::shared();
  server.admin("alter role tallygate connection limit 9");
  start(url_);
  EXPECT_EQ(until("/readyz", {"{\"check\":\"connections\"", "this operator needs 11 connections, and can have 9",
                              "the CONNECTION LIMIT of role tallygate is 9", "ALTER ROLE"}),
            "");
  EXPECT_EQ(until("/health", {"this operator needs 11 connections"}), "");
  server.admin("alter role tallygate connection limit -1");
  EXPECT_TRUE(op_.wait_ready()) << op_.get("/readyz").body;
  // It never holds more.
  ledger::Session session(url_);
  for (int i = 0; i < 25; ++i) {
    const auto rows = session.exec(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'");
    ASSERT_TRUE(rows);
    EXPECT_LE(rows->integer(0, 0), 11);
    system_env().sleep_ms(20);
  }
}

TEST_F(OperatorAsFound, ADatabaseThatBecomesReadOnlyIsTold) {
  allow({});
  PostgresServer::shared().admin("alter database " + database() + " set default_transaction_read_only = on");
  start(url_);
  EXPECT_EQ(until("/readyz", {"{\"check\":\"database\",\"reason\":\"the database is read-only"}), "");
  EXPECT_EQ(until("/health", {"\"database\":{\"status\":\"down\""}), "");
}

TEST_F(OperatorAsFound, ADatabaseThatIsNotThereRefusesAndIsNotAway) {
  allow({});
  std::string url = url_;
  start(url.replace(url.find(database()), database().size(), "nosuch"));
  EXPECT_FALSE(
      op_.wait_line({"service cannot be used as it is", "\"service\":\"database\"", "does not exist", "create it"})
          .empty());
  EXPECT_EQ(op_.log().find("service is away"), std::string::npos) << op_.log();
}

TEST_F(OperatorAsFound, AnothersDatabaseEndsTheStartWithTheReason) {
  const std::string url = PostgresServer::shared().create_database(false);
  ledger::Session session(url);
  ASSERT_TRUE(session.exec("create table tenants (id int)"));
  allow({});
  start(url);
  EXPECT_EQ(op_.wait(), 1);
  EXPECT_FALSE(
      op_.wait_line({"the operator cannot work with this database", "\"error\":\"another application lives in"}).empty());
  EXPECT_EQ(op_.log().find("operator migrate"), std::string::npos) << op_.log();
  const auto migrated = run_operator({"migrate"}, {"TALLYGATE_DATABASE_URL=" + url});
  EXPECT_EQ(migrated.code, 1);
  EXPECT_NE(migrated.output.find("another application lives in schema public"), std::string::npos) << migrated.output;
}

}  // namespace
}  // namespace tallygate::testing
