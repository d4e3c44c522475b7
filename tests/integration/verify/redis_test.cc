// Each damage of Redis has a row of its own.
#include <thread>

#include "tests/integration/verify/world.h"

namespace tallygate::testing {
namespace {

using verify::Outcome;

TEST(VerifyRedis, PolicyThatEvictsIsWrong) {
  VerifyWorld world;
  ASSERT_TRUE(redis::Client::check(world.redis.call({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"})));
  expect_fault(world.verify(), "redis: maxmemory-policy", Outcome::kWrong, "allkeys-lru");
}

TEST(VerifyRedis, WipedEpochIsMissing) {
  VerifyWorld world;
  ASSERT_TRUE(redis::Client::check(world.redis.call({"DEL", redis_contract::epoch_key(7)})));
  const auto report = world.verify();
  expect_fault(report, "redis: epochs", Outcome::kMissing, "shard 7 (ledger: 1)");
  EXPECT_EQ(report.count(Outcome::kMissing) + report.count(Outcome::kWrong), 1) << report.table();
}

TEST(VerifyRedis, EpochOfAnotherLedgerIsWrong) {
  VerifyWorld world;
  ASSERT_TRUE(redis::Client::check(world.redis.call({"HSET", redis_contract::epoch_key(63), "n", "9"})));
  expect_fault(world.verify(), "redis: epochs", Outcome::kWrong, "shard 63 (9, ledger: 1)");
}

TEST(VerifyRedis, AnotherLedgersServerIsWrong) {
  VerifyWorld world;
  ASSERT_TRUE(redis::Client::check(world.redis.call({"HSET", redis_contract::ledger_key(0), "id", "another"})));
  expect_fault(world.verify(), "redis: ledger", Outcome::kWrong, "another");
}

TEST(VerifyRedis, RestartedServerHasNeitherEpochsNorPublication) {
  VerifyWorld world;
  world.server.kill();
  world.server.start();
  const auto report = world.verify();
  expect_fault(report, "redis: epochs", Outcome::kMissing, "and 59 more");
  expect_fault(report, "redis: publication", Outcome::kMissing, "none in Redis");
}

TEST(VerifyRedis, PublicationThatIsNotTheLedgersIsWrong) {
  VerifyWorld world;
  ASSERT_TRUE(redis::Client::check(world.redis.call({"HSET", redis_contract::meta_key(), "generation", "other"})));
  expect_fault(world.verify(), "redis: publication", Outcome::kWrong, "generation 'other'");
}

TEST(VerifyRedis, DocumentThatIsGoneIsTold) {
  VerifyWorld world;
  ASSERT_TRUE(redis::Client::check(world.redis.call({"DEL", redis_contract::tenant_key("shop/acme")})));
  expect_fault(world.verify(), "redis: publication", Outcome::kWrong, "shop/acme");
}

TEST(VerifyRedis, OperatorThatIsJustPublishingIsGivenTime) {
  VerifyWorld world;
  auto deployment = world.deployment();
  deployment.settle_ms = 1500;
  world.sql("update publication set version = version + 1");
  std::thread publisher([&] {
    system_env().sleep_ms(300);
    redis::Client late(system_env(), world.server.endpoint());
    late.call({"HINCRBY", redis_contract::meta_key(), "version", "1"});
  });
  const auto http = make_curl_client();
  const auto report = verify::verify(system_env(), deployment, *http);
  publisher.join();
  EXPECT_TRUE(report.all_right()) << report.table();
}

TEST(VerifyRedis, UserWhoMayNotRunScriptsIsTold) {
  VerifyWorld world;
  ASSERT_TRUE(redis::Client::check(world.redis.call({"ACL", "SETUSER", "default", "-script"})));
  expect_fault(world.verify(), "redis: script lease", Outcome::kWrong, "does not load");
}

TEST(VerifyRedis, ServerThatIsAwayIsOneRow) {
  VerifyWorld world;
  world.server.kill();
  const auto report = world.verify();
  expect_fault(report, "redis: reachable", Outcome::kMissing, "");
  EXPECT_EQ(row_of(report, "redis: everything else").outcome, Outcome::kSkipped);
}

}  // namespace
}  // namespace tallygate::testing
