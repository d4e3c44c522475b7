// What a Redis that cannot be used as it is says of itself, and that no epoch is spent on it.
#include <gtest/gtest.h>

#include "operator/escrow/epoch_keeper.h"
#include "operator/escrow/fitness.h"
#include "operator/ledger/session.h"
#include "tests/integration/redis/scratch_redis.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {
namespace {

using escrow::Trial;

class RedisAsFound : public ::testing::Test {
 protected:
  RedisAsFound() : admin_(system_env(), server_.endpoint()) {}
  redis::Endpoint limited() const {
    redis::Endpoint endpoint = server_.endpoint();
    endpoint.user = "limited";
    endpoint.password = "word";
    return endpoint;
  }
  // A user that may do everything but for these rules.
  void allow(std::vector<std::string> rules) {
    redis::Command command{"ACL", "SETUSER", "limited", "reset", "on", ">word", "~*", "&*", "+@all"};
    command.insert(command.end(), rules.begin(), rules.end());
    ASSERT_TRUE(redis::Client::check(admin_.call(command)).has_value());
  }
  void configure(const std::string& name, const std::string& value) {
    ASSERT_TRUE(redis::Client::check(admin_.call({"CONFIG", "SET", name, value})).has_value());
  }
  static std::string why(const redis::Endpoint& endpoint) {
    redis::Client client(system_env(), endpoint);
    const auto answer = escrow::unfit(client, Trial::kWhole);
    return answer ? *answer : "away: " + answer.error().message;
  }
  static bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

  ScratchRedis server_;
  redis::Client admin_;
};

TEST_F(RedisAsFound, AUserThatLacksSomethingIsToldWhichRule) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {{{"-info"}, "+info"},
                                                                    {{"-hset"}, "+hset"},
                                                                    {{"-time"}, "+time"},
                                                                    {{"-evalsha"}, "+evalsha"},
                                                                    {{"-publish"}, "+publish"},
                                                                    {{"-set"}, "+set"},
                                                                    {{"-xreadgroup"}, "+xreadgroup"},
                                                                    {{"-hgetall"}, "+hgetall"},
                                                                    {{"resetchannels"}, "&tg:*"},
                                                                    {{"resetkeys", "~other:*"}, "~tg:*"}};
  for (const auto& [rules, fix] : cases) {
    allow(rules);
    const std::string said = why(limited());
    EXPECT_TRUE(has(said, "ACL SETUSER … " + fix)) << rules[0] << ": " << said;
  }
  allow({});
  EXPECT_EQ(why(limited()), "");
  // As the chart's README has it.
  allow({"-@all", "resetkeys", "~tg:*", "resetchannels", "&tg:*", "+@read", "+@write", "+@scripting", "+@pubsub",
         "+@transaction", "+@connection", "+info", "+time", "+xreadgroup"});
  EXPECT_EQ(why(limited()), "") << "nothing else is asked for";
}

TEST_F(RedisAsFound, AServerThatTakesNoWritesIsTold) {
  EXPECT_EQ(why(server_.endpoint()), "");
  configure("maxmemory", "1");
  EXPECT_TRUE(has(why(server_.endpoint()), "raise maxmemory")) << why(server_.endpoint());
  configure("maxmemory", "0");
  configure("min-replicas-to-write", "1");
  EXPECT_TRUE(has(why(server_.endpoint()), "min-replicas-to-write")) << why(server_.endpoint());
  configure("min-replicas-to-write", "0");
  ASSERT_TRUE(admin_.call({"REPLICAOF", "10.1.2.3", "6380"}).has_value());
  EXPECT_TRUE(has(why(server_.endpoint()), "it is a replica of 10.1.2.3:6380")) << why(server_.endpoint());
  ASSERT_TRUE(admin_.call({"REPLICAOF", "NO", "ONE"}).has_value());
  EXPECT_EQ(why(server_.endpoint()), "");
  EXPECT_TRUE(admin_.call({"KEYS", "*"})->elements.empty()) << "the trial leaves nothing behind";
}

TEST_F(RedisAsFound, BarredCommandsAreTold) {
  for (const char* command : {"INFO", "EVAL", "EVALSHA", "XREADGROUP"}) {
    ScratchRedis barred({"--rename-command", command, "nobody-knows"});
    const std::string said = why(barred.endpoint());
    EXPECT_TRUE(has(said, "rename-command")) << command << ": " << said;
  }
}

TEST_F(RedisAsFound, AServerOfAClusterThatLacksKeysIsTold) {
  ScratchRedis cluster({"--cluster-enabled", "yes", "--cluster-port", std::to_string(free_port())});
  EXPECT_TRUE(has(why(cluster.endpoint()), "must hold all slots")) << why(cluster.endpoint());
  redis::Client client(system_env(), cluster.endpoint());
  ASSERT_TRUE(redis::Client::check(client.call({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"})).has_value());
  const int64_t until_ms = system_env().mono_ms() + 10'000;
  while (!why(cluster.endpoint()).empty() && system_env().mono_ms() < until_ms) system_env().sleep_ms(50);
  EXPECT_EQ(why(cluster.endpoint()), "");
}

TEST_F(RedisAsFound, AServerThatIsAwayIsNoUnfitOne) {
  const redis::Endpoint endpoint = server_.endpoint();
  server_.kill();
  EXPECT_TRUE(why(endpoint).starts_with("away: ")) << why(endpoint);
}

// Each round used to take 64 numbers, four a second.
TEST_F(RedisAsFound, NoEpochIsSpentOnAServerThatCannotTakeIt) {
  const std::string url = PostgresServer::shared().create_database();
  ledger::Session session(url);
  const auto number = [&](const std::string& sql) {
    const auto rows = session.exec(sql);
    return rows ? rows->integer(0, 0) : -1;
  };
  const std::pair<std::vector<std::string>, std::string> cases[] = {{{"-info"}, "INFO is barred"},
                                                                    {{"-hset"}, "+hset"}};
  for (const auto& [rules, said] : cases) {
    allow(rules);
    escrow::EpochKeeperOptions options;
    options.database_url = url;
    options.redis = limited();
    options.interval_ms = 20;
    escrow::EpochKeeper keeper(system_env(), options);
    keeper.start();
    const int64_t until_ms = system_env().mono_ms() + 10'000;
    while (keeper.counters().failures < 4 && system_env().mono_ms() < until_ms) system_env().sleep_ms(5);
    ASSERT_GE(keeper.counters().failures.load(), 4);
    EXPECT_EQ(number("select count(*) from epochs"), 0);
    const auto trouble = keeper.standing().trouble();
    ASSERT_TRUE(trouble);
    EXPECT_TRUE(has(trouble->why, said)) << trouble->why;
  }
  allow({});
  escrow::EpochKeeperOptions options;
  options.database_url = url;
  options.redis = limited();
  escrow::EpochKeeper keeper(system_env(), options);
  keeper.start();
  const int64_t until_ms = system_env().mono_ms() + 10'000;
  while (keeper.counters().shards_ready < 64 && system_env().mono_ms() < until_ms) system_env().sleep_ms(5);
  EXPECT_EQ(keeper.counters().shards_ready.load(), 64);
  EXPECT_EQ(number("select max(number) from shard_epochs"), 1) << "once";
  EXPECT_FALSE(keeper.standing().trouble());
}

}  // namespace
}  // namespace tallygate::testing
