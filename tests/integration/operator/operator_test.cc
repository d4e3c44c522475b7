// The operator as one process: from files to Redis, from usage to Stripe, through loss, death and restart.
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/redis_contract/keys.h"
#include "tests/integration/billing/stripe_emulator.h"
#include "tests/integration/billing/world.h"
#include "tests/integration/operator/operator_process.h"
#include "tests/integration/support/redis_server.h"

namespace tallygate::testing {
namespace {

constexpr char kPlan[] = R"(apiVersion: billing.tallygate.dev/v1alpha1
kind: BillingPlan
metadata: {name: standard-v1}
spec:
  displayName: Standard
  family: standard
  pricing:
    currency: GBP
    basePrice: "49.00"
    meters:
    - {name: api_calls, unit: call, aggregation: Sum, settlement: Invoice, perUnits: 1000, tiers: [{price: "0.40"}]}
  limits:
  - {name: calls-month, meter: api_calls, amount: 1000, window: Month, cap: Hard}
)";

std::string tenant_yaml(const std::string& name, const std::string& customer, int amount = 1000) {
  return "apiVersion: billing.tallygate.dev/v1alpha1\nkind: BillingTenant\nmetadata: {name: " + name +
         ", namespace: shop}\nspec:\n  displayName: " + name +
         "\n  planRef: {name: standard-v1}\n  allowedNamespaces: {from: Same}\n  billing:\n    email: b@" + name +
         ".example\n    interval: Month\n    timeZone: UTC\n    stripe: {customerID: " + customer +
         "}\n  identity: {externalIDs: [" + name +
         "]}\n  limitOverrides: [{name: calls-month, amount: " + std::to_string(amount) + "}]\n";
}

class OperatorTest : public ::testing::Test {
 protected:
  OperatorTest() : client(system_env(), redis.endpoint()) { folder.write("plan.yaml", kPlan); }
  void start(std::vector<std::string> more = {}, const std::string& fault = "") {
    std::vector<std::string> args{"run", "--source=dir:" + folder.path(), "--admin=127.0.0.1:0",
                                  "--aggregate-interval=200ms", "--submit-interval=200ms"};
    args.insert(args.end(), more.begin(), more.end());
    std::vector<std::string> environment{"TALLYGATE_REDIS_URL=redis://127.0.0.1:" + std::to_string(redis.port()),
                                         "TALLYGATE_DATABASE_URL=" + world.url, "STRIPE_API_BASE=" + stripe().base(),
                                         std::string("STRIPE_API_KEY=") + StripeEmulator::kKey};
    if (!fault.empty()) environment.push_back("TALLYGATE_FAULT=" + fault);
    op.start(args, environment);
  }
  StripeEmulator& stripe() {
    if (!stripe_) stripe_ = std::make_unique<StripeEmulator>();
    return *stripe_;
  }
  std::string document(const std::string& tenant) {
    const auto reply = client.call({"GET", redis_contract::tenant_key(tenant)});
    return reply && reply->is_text() ? reply->text : "";
  }
  template <class Condition>
  bool wait(Condition condition, int64_t timeout_ms = 10'000) {
    const int64_t until_ms = system_env().mono_ms() + timeout_ms;
    while (system_env().mono_ms() < until_ms) {
      if (condition()) return true;
      system_env().sleep_ms(5);
    }
    return condition();
  }

  BillingWorld world;
  RedisServer redis;
  redis::Client client;
  ManifestFolder folder;
  OperatorProcess op;

 private:
  std::unique_ptr<StripeEmulator> stripe_;
};

TEST_F(OperatorTest, StartsPublishesAndStopsInOrder) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  EXPECT_FALSE(document("shop/acme").empty());
  EXPECT_FALSE(op.wait_line({"\"msg\":\"published\"", "\"version\":1", "\"latency_ms\":"}).empty());
  const auto health = nlohmann::json::parse(op.get("/health").body);
  EXPECT_EQ(health["status"], "ok") << health.dump();
  for (const char* service : {"database", "redis", "backgroundJobs", "webhookQueue"}) {
    EXPECT_EQ(health["services"][service]["status"], "ok") << service;
  }
  for (const char* queue : {"active", "completed", "failed", "waiting"}) EXPECT_EQ(health["queueMetrics"][queue], 0);
  EXPECT_EQ(op.metric("tallygate_operator_leader"), 1);
  EXPECT_EQ(op.metric("tallygate_operator_shards_ready"), 64);
  const int64_t begin_ms = system_env().mono_ms();
  op.signal(SIGTERM);
  EXPECT_EQ(op.wait(), 0) << op.log();
  EXPECT_LT(system_env().mono_ms() - begin_ms, 10'000);
  EXPECT_EQ(op.log().find(StripeEmulator::kKey), std::string::npos) << "the key is never logged";
}

TEST_F(OperatorTest, AChangedFileIsInForceWithinASecond) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1", 1000));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  const int64_t begin_ms = system_env().mono_ms();
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1", 7000));
  EXPECT_TRUE(wait([&] { return document("shop/acme").find("7000") != std::string::npos; }));
  const int64_t took_ms = system_env().mono_ms() - begin_ms;
  EXPECT_EQ(world.number("select amount from tenant_limits where tenant = 'shop/acme'"), 7000);
  std::printf("a changed file is published %ld ms after it was saved\n", took_ms);
  folder.remove("acme.yaml");
  EXPECT_TRUE(wait([&] { return document("shop/acme").empty(); }));
}

TEST_F(OperatorTest, ABadFileKeepsTheLastGoodStateAndSaysSo) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1") + "  surprise: 1\n");
  const std::string line = op.wait_line({"\"msg\":\"manifest fault\"", "acme.yaml", "surprise"});
  ASSERT_FALSE(line.empty()) << op.log();
  const auto fault = nlohmann::json::parse(line);
  for (const char* field : {"file", "line", "field", "reason", "message", "fix"})
    EXPECT_TRUE(fault.contains(field)) << field;
  EXPECT_TRUE(wait([&] { return op.metric("tallygate_operator_manifest_faults") >= 1; }));
  EXPECT_NE(op.get("/health").body.find("surprise"), std::string::npos);
  EXPECT_EQ(op.get("/readyz").status, 200);
  EXPECT_FALSE(document("shop/acme").empty());
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  EXPECT_TRUE(wait([&] { return op.metric("tallygate_operator_manifest_faults") == 0; }));
}

// What was last accepted is in the ledger: a restart with broken manifests serves as before.
TEST_F(OperatorTest, ABrokenManifestKeepsWhatWasAcceptedAlsoOverARestart) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  EXPECT_EQ(world.number("select count(*) from accepted_manifests"), 2);
  op.signal(SIGKILL);
  op.wait();
  std::string misspelt = kPlan;
  folder.write("plan.yaml", misspelt.replace(misspelt.find("BillingPlan"), 11, "BilingPlan"));
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1", 4321) + "  surprise: 1\n");
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  EXPECT_FALSE(op.wait_line({"manifest fault", "BilingPlan"}).empty());
  EXPECT_NE(document("shop/acme").find("1000"), std::string::npos);
  EXPECT_EQ(world.number("select count(*) from tenants where deleted_at is null"), 1);
  // Once it is right, the new version is in force.
  folder.write("plan.yaml", kPlan);
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1", 4321));
  EXPECT_TRUE(wait([&] { return document("shop/acme").find("4321") != std::string::npos; }));
}

TEST_F(OperatorTest, ASourceThatIsEmptyAfterARestartChangesNothingUntilThatIsAskedFor) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  op.signal(SIGTERM);
  EXPECT_EQ(op.wait(), 0);
  folder.remove("acme.yaml");
  folder.remove("plan.yaml");
  start();
  EXPECT_FALSE(op.wait_line({"the source of the manifests is not believed", "SourceLost", "--accept-removals"}).empty());
  EXPECT_TRUE(wait([&] { return op.get("/readyz").body.find("SourceLost") != std::string::npos; }));
  EXPECT_EQ(op.get("/readyz").status, 503);
  EXPECT_FALSE(document("shop/acme").empty());
  op.signal(SIGTERM);
  EXPECT_EQ(op.wait(), 0);
  start({"--accept-removals"});
  ASSERT_TRUE(op.wait_ready()) << op.log();
  EXPECT_TRUE(wait([&] { return document("shop/acme").empty(); }));
  EXPECT_EQ(world.number("select count(*) from accepted_manifests"), 0);
}

TEST_F(OperatorTest, FlushallHeals) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  (void)client.call({"FLUSHALL"});
  EXPECT_TRUE(wait([&] { return !document("shop/acme").empty(); }));
}

TEST_F(OperatorTest, WaitsForRedisAndIsNotReadyMeanwhile) {
  redis.kill();
  start();
  EXPECT_FALSE(op.wait_line({"\"msg\":\"listening\""}).empty());
  EXPECT_FALSE(op.wait_line({"service is away", "\"service\":\"redis\""}).empty());
  EXPECT_EQ(op.get("/healthz").status, 200);
  EXPECT_EQ(op.get("/readyz").status, 503);
  redis.start();
  EXPECT_TRUE(op.wait_ready()) << op.log();
}

TEST_F(OperatorTest, WaitsForPostgres) {
  PostgresServer::shared().stop();
  start();
  EXPECT_FALSE(op.wait_line({"service is away", "\"service\":\"database\""}).empty());
  EXPECT_EQ(op.get("/readyz").status, 503);
  PostgresServer::shared().start();
  EXPECT_TRUE(op.wait_ready()) << op.log();
}

TEST_F(OperatorTest, ARedisThatMayDropQuotaIsSaidAndOneThatMayDropAnyIsNotReady) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  const auto set_policy = [&](const std::string& policy, int level) {
    (void)client.call({"CONFIG", "SET", "maxmemory-policy", policy});
    return wait([&] { return op.metric("tallygate_operator_redis_may_evict") == level; });
  };
  EXPECT_EQ(op.metric("tallygate_operator_redis_may_evict"), 0);
  ASSERT_TRUE(set_policy("volatile-lru", 1));
  EXPECT_EQ(op.get("/readyz").status, 200);
  EXPECT_NE(op.get("/health").body.find("maxmemory-policy is 'volatile-lru'"), std::string::npos)
      << op.get("/health").body;
  for (const char* policy : {"allkeys-lru", "allkeys-random"}) {
    ASSERT_TRUE(set_policy(policy, 2));
    EXPECT_TRUE(wait([&] { return op.get("/readyz").body.find(policy) != std::string::npos; }));
    EXPECT_EQ(op.get("/readyz").status, 503);
    EXPECT_NE(op.get("/readyz").body.find("set it to noeviction"), std::string::npos);
    EXPECT_NE(op.get("/health").body.find("\"status\":\"degraded\""), std::string::npos);
  }
  ASSERT_TRUE(set_policy("noeviction", 0));
  EXPECT_TRUE(op.wait_ready());
}

TEST_F(OperatorTest, PendingMigrationsRefuseTheStartOrAreApplied) {
  world.url = PostgresServer::shared().create_database(false);
  start();
  EXPECT_EQ(op.wait(), 1);
  EXPECT_NE(op.log().find("tallygate-operator migrate"), std::string::npos) << op.log();
  start({"--migrate"});
  EXPECT_TRUE(op.wait_ready()) << op.log();
}

TEST_F(OperatorTest, UsageReachesStripeThroughDeathAtEachPoint) {
  stripe().create_meter("api_calls");
  const std::string customer = stripe().create_customer();
  folder.write("acme.yaml", tenant_yaml("acme", customer));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  op.signal(SIGKILL);
  op.wait();
  int64_t expected = 0;
  const int64_t first_s = system_env().wall_s() - 300;
  int round = 0;
  for (const char* fault :
       {"aggregator.after_commit:exit", "submitter.before_call:exit", "submitter.after_call:exit"}) {
    SCOPED_TRACE(fault);
    world.add_usage("shop/acme", "api_calls", first_s + 10 * round++, 10, 7);
    expected += 70;
    start({}, fault);
    EXPECT_EQ(op.wait(), 137) << op.log();
  }
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  EXPECT_TRUE(wait([&] { return world.balance("billed") == expected; })) << world.balance("billed");
  EXPECT_EQ(stripe().total("api_calls", customer), expected);
  EXPECT_EQ(world.balance("unbilled"), 0);
  EXPECT_EQ(op.metric("tallygate_operator_stripe_outbox_dead"), 0);
}

TEST_F(OperatorTest, WithoutStripeUsageIsKept) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start({"--stripe=disabled"});
  ASSERT_TRUE(op.wait_ready()) << op.log();
  world.add_usage("shop/acme", "api_calls", system_env().wall_s() - 60, 10, 1);
  EXPECT_TRUE(wait([&] { return world.balance("unbilled") == 10; }));
  EXPECT_EQ(world.number("select count(*) from usage_aggregates where not outboxed") > 0, true);
  EXPECT_FALSE(op.wait_line({"submission to Stripe is disabled"}).empty());
}

TEST_F(OperatorTest, AStandbyTakesOver) {
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1"));
  start();
  ASSERT_TRUE(op.wait_ready()) << op.log();
  OperatorProcess standby;
  standby.start(
      {"run", "--source=dir:" + folder.path(), "--admin=127.0.0.1:0", "--stripe=disabled"},
      {"TALLYGATE_REDIS_URL=redis://127.0.0.1:" + std::to_string(redis.port()), "TALLYGATE_DATABASE_URL=" + world.url});
  ASSERT_TRUE(standby.wait_ready());
  EXPECT_EQ(standby.metric("tallygate_operator_leader"), 0);
  op.signal(SIGKILL);
  op.wait();
  EXPECT_TRUE(wait([&] { return standby.metric("tallygate_operator_leader") == 1; }));
  folder.write("acme.yaml", tenant_yaml("acme", "cus_1", 4321));
  EXPECT_TRUE(wait([&] { return document("shop/acme").find("4321") != std::string::npos; }));
}

}  // namespace
}  // namespace tallygate::testing
