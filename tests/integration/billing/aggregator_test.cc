#include "operator/billing/aggregator.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <thread>
#include <vector>

#include "tests/integration/billing/world.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kMinute_s = 1'794'999'960;  // the start of a minute

class AggregatorTest : public ::testing::Test {
 protected:
  AggregatorTest() {
    env.set_wall_ns((kMinute_s + 90) * 1'000'000'000);
    world.add_tenant("shop/acme");
    world.add_meter("shop/acme", "api_calls", "cus_acme");
  }
  billing::AggregateRun run(billing::AggregatorOptions options = {}) {
    billing::Aggregator aggregator(env, world.url, options, [] { return true; }, world.registry);
    const auto done = aggregator.run_once();
    EXPECT_TRUE(done) << (done ? "" : done.error().message);
    return done.value_or(billing::AggregateRun{});
  }
  int64_t units() { return world.number("select coalesce(sum(units), 0)::bigint from usage_aggregates"); }

  ManualEnv env;
  BillingWorld world;
};

TEST_F(AggregatorTest, OneAggregateAMinuteWithItsPosting) {
  world.add_usage("shop/acme", "api_calls", kMinute_s - 30, 60, 2);
  const auto done = run();
  EXPECT_EQ(done.records, 60);
  EXPECT_EQ(done.aggregates, 2);
  EXPECT_EQ(units(), 120);
  EXPECT_EQ(world.balance("unbilled", "api_calls"), 120);
  EXPECT_EQ(world.balance("consumed", "api_calls"), -120);
  EXPECT_EQ(world.number("select count(*) from usage_records where aggregate_id is null"), 0);
  EXPECT_EQ(run().records, 0);
}

TEST_F(AggregatorTest, OnlyMinutesThatAreOver) {
  env.set_wall_ns((kMinute_s + 63) * 1'000'000'000);  // 3 s after the minute's end: within the lateness
  world.add_usage("shop/acme", "api_calls", kMinute_s, 60, 1);
  EXPECT_EQ(run().records, 0);
  env.set_wall_ns((kMinute_s + 65) * 1'000'000'000);
  world.add_usage("shop/acme", "api_calls", kMinute_s + 60, 5, 1);
  EXPECT_EQ(run().records, 60);
}

TEST_F(AggregatorTest, LateUsageIsAFurtherRevision) {
  world.add_usage("shop/acme", "api_calls", kMinute_s, 10, 1);
  run();
  world.add_usage("shop/acme", "api_calls", kMinute_s + 20, 5, 3);
  run();
  EXPECT_EQ(world.number("select count(*) from usage_aggregates"), 2);
  EXPECT_EQ(world.number("select units from usage_aggregates where revision = 1"), 15);
  EXPECT_EQ(world.balance("unbilled"), 25);
}

TEST_F(AggregatorTest, AShortIntervalTakesOpenMinutesInRevisions) {
  const billing::AggregatorOptions demo{.interval_ms = 2'000};
  env.set_wall_ns((kMinute_s + 10) * 1'000'000'000);
  world.add_usage("shop/acme", "api_calls", kMinute_s, 20, 1);
  EXPECT_EQ(run(demo).records, 10);
  env.set_wall_ns((kMinute_s + 30) * 1'000'000'000);
  EXPECT_EQ(run(demo).records, 10);
  EXPECT_EQ(world.number("select max(revision) from usage_aggregates"), 1);
  EXPECT_EQ(units(), 20);
}

TEST_F(AggregatorTest, UsageOfAnUnknownTenantWaitsForIt) {
  world.add_usage("shop/new", "api_calls", kMinute_s, 10, 1);
  world.add_usage("shop/acme", "api_calls", kMinute_s, 10, 1);
  EXPECT_EQ(run().records, 10);
  world.add_tenant("shop/new");
  EXPECT_EQ(run().records, 10);
  EXPECT_EQ(units(), 20);
}

TEST_F(AggregatorTest, WhoSettlesSaysWhereItGoes) {
  world.add_meter("shop/acme", "sms", "cus_acme", "wallet");
  world.add_meter("shop/acme", "logins", "cus_acme", "none");
  for (const char* meter : {"api_calls", "logins", "gone"}) world.add_usage("shop/acme", meter, kMinute_s, 5, 1);
  world.add_usage("shop/acme", "sms", kMinute_s, 5, 1, "{sms$}");
  run();
  EXPECT_EQ(world.balance("unbilled", "api_calls"), 5);
  EXPECT_EQ(world.balance("prepaid", "sms"), 5);
  EXPECT_EQ(world.balance("free", "logins"), 5);
  EXPECT_EQ(world.balance("unbilled", "gone"), 5);
  EXPECT_EQ(world.number("select count(*) from usage_aggregates where not outboxed"), 2);
}

// A new plan settles a meter otherwise: what was booked before is settled as it was booked, what comes after as the plan says.
TEST_F(AggregatorTest, ANewPlanChangesNothingForWhatIsBooked) {
  world.add_meter("shop/acme", "sms", "cus_acme", "wallet");
  const auto plan = [&](const std::string& calls, const std::string& sms) {
    const auto meter = [](const std::string& name, const std::string& settlement) {
      return R"({"meter":")" + name + R"(","settlement":")" + settlement +
             R"(","currency":"GBP","per_units":1,"tiers":[{"price_micros":1}],"stripe_customer_id":"cus_acme"})";
    };
    world.rows("select upsert_tenants($1, now())",
               {R"([{"id":"shop/acme","shard":0,"version":2,"suspended":false,"doc":{},"wallet":null,"limits":[],"meters":[)" +
                meter("api_calls", calls) + "," + meter("sms", sms) + "]}]"});
  };
  world.add_usage("shop/acme", "sms", kMinute_s, 5, 1, "{sms$}");   // the wallet paid
  world.add_usage("shop/acme", "api_calls", kMinute_s, 7, 1);      // an invoice will
  plan("wallet", "invoice");
  EXPECT_EQ(world.balance("prepaid", "sms"), 5);
  EXPECT_EQ(world.balance("unbilled", "api_calls"), 7);
  // Admitted under the old plan, booked under the new one: the wallet is charged for neither.
  world.add_usage("shop/acme", "sms", kMinute_s + 10, 3, 1, "{sms$}");
  world.add_usage("shop/acme", "api_calls", kMinute_s + 10, 2, 1);
  world.add_usage("shop/acme", "api_calls", kMinute_s + 20, 4, 1, "{api_calls$}");  // under the new one
  run();
  EXPECT_EQ(world.balance("unbilled", "sms"), 3);
  EXPECT_EQ(world.balance("prepaid", "sms"), 5);
  EXPECT_EQ(world.balance("unbilled", "api_calls"), 9);
  EXPECT_EQ(world.balance("prepaid", "api_calls"), 4);
  EXPECT_EQ(world.number("select count(*) from usage_records where aggregate_id is null"), 0);
  plan("wallet", "invoice");  // again: nothing changes
  EXPECT_EQ(units(), 21);
}

TEST_F(AggregatorTest, NoUnitsNoTransferButTheRecordsAreDone) {
  world.add_usage("shop/acme", "api_calls", kMinute_s, 5, 0);
  EXPECT_EQ(run().records, 5);
  EXPECT_EQ(world.number("select count(*) from ledger_transfers"), 0);
  EXPECT_EQ(world.number("select count(*) from usage_aggregates where not outboxed"), 0);
}

TEST_F(AggregatorTest, ExactlyOnceWithFourAtOnceWhileUsageArrives) {
  constexpr int kRuns = 15, kBatch = 200;
  const billing::AggregatorOptions small{.interval_ms = 60'000, .lateness_ms = 5'000, .batch_records = 130};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      metrics::Registry registry;
      ManualEnv own;
      own.set_wall_ns((kMinute_s + 900) * 1'000'000'000);
      billing::Aggregator aggregator(own, world.url, small, [] { return true; }, registry);
      for (int run = 0; run < kRuns; ++run) {
        const auto done = aggregator.run_once();
        EXPECT_TRUE(done) << (done ? "" : done.error().message);
      }
    });
  }
  for (int i = 0; i < kRuns; ++i) world.add_usage("shop/acme", "api_calls", kMinute_s + i, kBatch, 3);
  for (auto& thread : threads) thread.join();
  env.set_wall_ns((kMinute_s + 900) * 1'000'000'000);
  run();
  const int64_t expected = int64_t{kRuns} * kBatch * 3;
  EXPECT_EQ(units(), expected);
  EXPECT_EQ(world.balance("unbilled"), expected);
  EXPECT_EQ(world.balance("consumed"), -expected);
  EXPECT_EQ(world.number("select count(*) from usage_records where aggregate_id is null"), 0);
  // Each aggregate is the sum of the records that name it.
  EXPECT_EQ(world.number("select count(*) from usage_aggregates a where units <>"
                         " (select sum(r.units) from usage_records r where r.aggregate_id = a.id)"),
            0);
}

TEST_F(AggregatorTest, AnAbortedTransactionLeavesNothing) {
  world.add_usage("shop/acme", "api_calls", kMinute_s, 10, 1);
  const auto aborted = world.session.transact([&](ledger::Transaction& work) -> Result<void> {
    const auto done = work.exec("select * from aggregate_usage(now(), $1, 1000)",
                                {ledger::timestamp_text((kMinute_s + 60) * 1'000'000'000)});
    EXPECT_TRUE(done);
    return fail(Errc::kUnavailable, "the process dies here");
  });
  EXPECT_FALSE(aborted);
  EXPECT_EQ(units(), 0);
  EXPECT_EQ(run().records, 10);
  EXPECT_EQ(world.balance("unbilled"), 10);
}

// A route that was priced at 2^53 - 1 units by mistake, say: its sum is more than 64 bits hold.
TEST_F(AggregatorTest, UsageTooLargeToSumIsFlaggedAndStopsNobodyElse) {
  constexpr int64_t kMost = 9'007'199'254'740'991;
  world.add_tenant("shop/other");
  world.add_meter("shop/other", "api_calls", "cus_other");
  for (int i = 0; i < 18; ++i) world.add_usage("shop/acme", "api_calls", kMinute_s, 60, kMost);
  world.add_usage("shop/acme", "api_calls", kMinute_s - 60, 60, kMost);  // a minute that is within the bound
  world.add_usage("shop/acme", "emails", kMinute_s, 5, 1);
  world.add_usage("shop/other", "api_calls", kMinute_s, 60, 2);
  const auto done = run();
  EXPECT_EQ(done.records, 60 + 5 + 60);
  EXPECT_EQ(done.aggregates, 3);
  EXPECT_EQ(world.number("select units from usage_aggregates where tenant = 'shop/other'"), 120);
  EXPECT_EQ(world.number("select units from usage_aggregates where meter = 'emails'"), 5);
  EXPECT_EQ(world.number("select count(*) from usage_records where flag = 'too-large' and aggregate_id is null"
                         " and tenant = 'shop/acme' and meter = 'api_calls'"),
            18 * 60);
  EXPECT_NE(world.registry.text().find("tallygate_operator_usage_too_large_records_total 1080"), std::string::npos);
  EXPECT_EQ(run().records, 0);
  // What comes later in that minute is counted by itself, as late usage is.
  world.add_usage("shop/acme", "api_calls", kMinute_s + 1, 3, 1);
  EXPECT_EQ(run().records, 3);
}

TEST_F(AggregatorTest, TakesALargeBacklog) {
  for (int i = 0; i < 50; ++i) {
    const std::string tenant = "shop/t" + std::to_string(i);
    world.add_tenant(tenant);
    world.add_meter(tenant, "api_calls", "cus_x");
    world.add_usage(tenant, "api_calls", kMinute_s - 3600, 2'000, 1);
  }
  const int64_t begin_ms = system_env().mono_ms();
  EXPECT_EQ(run().records, 100'000);
  const int64_t took_ms = system_env().mono_ms() - begin_ms;
  std::printf("aggregated 100,000 records in %ld ms\n", took_ms);
  EXPECT_EQ(units(), 100'000);
}

}  // namespace
}  // namespace tallygate::testing
