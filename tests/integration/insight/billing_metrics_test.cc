// The billing metrics say what the ledger says: on a real ledger, by the functions that the pump, the API, the aggregator and the
// submitter call.
#include "operator/insight/billing_metrics.h"

#include <cmath>
#include <random>
#include <sstream>

#include "operator/billing/aggregator.h"
#include "operator/plan/calendar.h"
#include "tests/integration/billing/world.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kNow_s = 1'795'262'400;  // 2026-11-21 12:00 UTC
constexpr int64_t kDay_s = 86'400;

// A meter as the publisher writes it. `tiers` in JSON; prices in micros per `per_units`.
std::string meter_json(const std::string& meter, const std::string& settlement, const std::string& tiers, int64_t per_units = 1) {
  return R"({"meter":")" + meter + R"(","settlement":")" + settlement + R"(","currency":"GBP","per_units":)" +
         std::to_string(per_units) + R"(,"tiers":)" + tiers + R"(,"stripe_customer_id":"cus_1"})";
}

class BillingMetricsTest : public ::testing::Test {
 protected:
  BillingMetricsTest() { env.set_wall_ns(kNow_s * 1'000'000'000); }

  void publish(const std::string& tenant, const std::string& plan, const std::string& meters, const std::string& limits = "[]",
               const std::string& period = R"({"months":1,"anchor":0})") {
    world.rows("select upsert_tenants($1, $2)",
               {R"([{"id":")" + tenant + R"(","shard":0,"version":1,"suspended":false,"doc":{"plan":")" + plan +
                    R"("},"wallet":{"currency":"GBP","debt_limit_micros":0},"meters":[)" + meters + R"(],"limits":)" + limits +
                    R"(,"period":)" + period + "}]",
                ledger::timestamp_text(env.wall_ns())});
  }
  void aggregate() {
    metrics::Registry own;
    billing::Aggregator aggregator(env, world.url, {}, [] { return true; }, own);
    ASSERT_TRUE(aggregator.run_once());
  }
  // Usage that an app reports: booked, and charged to the wallet where the meter is the wallet's.
  void report(const std::string& tenant, const std::string& meter, int64_t units, bool wallet, int64_t second_s = kNow_s - 600) {
    world.rows("select book_direct_usage($1, 0, $2::jsonb, $3)",
               {tenant,
                R"([{"id":"u)" + std::to_string(++reported_) + R"(","fingerprint":"f","meter":")" + meter + R"(","units":)" +
                    std::to_string(units) + R"(,"second":)" + std::to_string(second_s) + R"(,"dims":"{}","buckets":[)" +
                    (wallet ? '"' + meter + "$\"" : "") + "]}]",
                ledger::timestamp_text(env.wall_ns())});
  }
  std::unique_ptr<insight::BillingMetrics> make(insight::BillingMetricsOptions options = {}) {
    options.slow_interval_ms = 0;
    return std::make_unique<insight::BillingMetrics>(env, world.url, options, [this] { return leads; }, world.registry);
  }
  // The sum of the samples of this name that have all these labels; −1: there is none.
  double told(insight::BillingMetrics& metrics, const std::string& name, const std::vector<std::string>& labels = {}) {
    const auto done = metrics.refresh();
    EXPECT_TRUE(done) << (done ? "" : done.error().message);
    return scraped(name, labels);
  }
  double scraped(const std::string& name, const std::vector<std::string>& labels = {}) {
    std::istringstream lines(world.registry.text());
    double sum = 0;
    bool found = false;
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with(name + "{") && !line.starts_with(name + " ")) continue;
      bool all = true;
      for (const auto& label : labels) all = all && line.find(label) != std::string::npos;
      if (!all) continue;
      found = true;
      sum += std::stod(line.substr(line.rfind(' ')));
    }
    return found ? sum : -1;
  }

  ManualEnv env;
  BillingWorld world;
  bool leads = true;
  int reported_ = 0;
  const std::string kTiers = R"([{"up_to":1000,"price_micros":0},{"price_micros":400000}])";
};

TEST_F(BillingMetricsTest, UnitsAndMoneyFromBookingToBilling) {
  const auto metrics = make();
  for (const char* tenant : {"shop/a", "shop/b"}) publish(tenant, "std", meter_json("calls", "invoice", kTiers, 1000));
  EXPECT_EQ(told(*metrics, "tallygate_operator_booked_units_total", {"plan=\"std\"", "meter=\"calls\""}), 0) << "from the start";
  EXPECT_EQ(scraped("tallygate_operator_billed_amount_total", {"currency=\"GBP\""}), 0);
  for (const char* tenant : {"shop/a", "shop/b"}) world.add_usage(tenant, "calls", kNow_s - 600, 90, 10);
  aggregate();
  EXPECT_EQ(told(*metrics, "tallygate_operator_booked_units_total"), 1800);
  EXPECT_EQ(scraped("tallygate_operator_booked_amount_total"), 0) << "each tenant has 1,000 free";
  for (const char* tenant : {"shop/a", "shop/b"}) world.add_usage(tenant, "calls", kNow_s - 500, 60, 10);
  aggregate();
  EXPECT_EQ(told(*metrics, "tallygate_operator_booked_units_total", {"settlement=\"invoice\""}), 3000);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_booked_amount_total"), 0.4) << "2 × 500 of 0.40 per 1,000";
  EXPECT_EQ(scraped("tallygate_operator_submitted_units_total"), 0);

  world.rows(
      "select enqueue_submissions((select jsonb_agg(jsonb_build_object('aggregate_id', id, 'identifier', id::text, 'tenant', tenant,"
      " 'meter', meter, 'event_name', meter, 'customer', 'cus_1', 'value', units, 'event_time', extract(epoch from minute)::bigint,"
      " 'held', '')) from usage_aggregates), now())");
  EXPECT_EQ(told(*metrics, "tallygate_operator_submitted_units_total"), 3000);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_submitted_amount_total"), 0.4);
  EXPECT_EQ(scraped("tallygate_operator_billed_units_total"), 0);
  const std::string delivered =
      "select record_attempts((select jsonb_agg(jsonb_build_object('id', id, 'state', 'delivered', 'error', '', 'unknown', false,"
      " 'sent', true, 'next', 0)) from meter_submissions where tenant = 'shop/a'), now())";
  world.rows(delivered);
  world.rows(delivered);  // said twice
  EXPECT_EQ(told(*metrics, "tallygate_operator_billed_units_total"), 1500);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_billed_amount_total"), 0.2);
  EXPECT_EQ(world.balance("billed"), 1500);
}

TEST_F(BillingMetricsTest, TiersStartAnewWithTheBillingPeriod) {
  const auto metrics = make();
  // Periods begin at the 21st, 00:00: a day's usage before it and one after it are both within the free tier.
  publish("shop/a", "std", meter_json("calls", "invoice", kTiers, 1000), "[]",
          R"({"months":1,"anchor":)" + std::to_string(kNow_s - 12 * 3600 - 61 * kDay_s) + "}");
  world.add_usage("shop/a", "calls", kNow_s - kDay_s, 1, 900);
  world.add_usage("shop/a", "calls", kNow_s - 3600, 1, 900);
  aggregate();
  EXPECT_EQ(told(*metrics, "tallygate_operator_booked_units_total"), 1800);
  EXPECT_EQ(scraped("tallygate_operator_booked_amount_total"), 0);
  // Late usage of the period before: its tier goes on there.
  world.add_usage("shop/a", "calls", kNow_s - kDay_s + 60, 1, 600);
  aggregate();
  EXPECT_DOUBLE_EQ(told(*metrics, "tallygate_operator_booked_amount_total"), 0.2);
  EXPECT_EQ(world.number("select count(*) from usage_periods"), 2);
}

TEST_F(BillingMetricsTest, WhatWasAggregatedBeforeTheRowOfItsPeriodIsCounted) {
  const auto metrics = make();
  publish("shop/a", "std", meter_json("calls", "invoice", kTiers, 1000));
  world.add_usage("shop/a", "calls", kNow_s - 7200, 1, 900);
  aggregate();
  world.rows("delete from usage_periods");  // as a ledger that is older than them
  world.add_usage("shop/a", "calls", kNow_s - 3600, 1, 600);
  aggregate();
  EXPECT_DOUBLE_EQ(told(*metrics, "tallygate_operator_booked_amount_total"), 0.2);
}

TEST_F(BillingMetricsTest, PeriodsAreThoseOfTheCalendar) {
  for (const char* anchor : {"1970-01-01 00:00:00+00", "2026-01-31 13:14:15+00", "2024-02-29 00:00:00+00", "2026-12-30 23:59:59+00"}) {
    const int64_t anchor_s = world.number("select extract(epoch from $1::timestamptz)::bigint", {anchor});
    for (const auto& [interval, months] : {std::pair{manifest::Interval::kMonth, 1}, std::pair{manifest::Interval::kYear, 12}}) {
      const plan::Calendar calendar{"UTC", interval, anchor_s};
      for (int64_t n = -20; n < 40; ++n) {
        const int64_t start_s = plan::period_start(calendar, n), end_s = plan::period_start(calendar, n + 1);
        for (const int64_t at_s : {start_s, (start_s + end_s) / 2, end_s - 1}) {
          ASSERT_EQ(world.number("select extract(epoch from period_start($1, $2, to_timestamp($3)))::bigint", {anchor, months, at_s}),
                    start_s)
              << anchor << " + " << n << " × " << months << " months, at " << at_s;
        }
      }
    }
  }
}

// The wallet is charged as usage is booked, the metric's money is made as it is aggregated: in other pieces, at other times, across
// plans with other prices and with corrections. They agree to the micro.
TEST_F(BillingMetricsTest, TheWalletsMoneyIsWhatWasCharged) {
  const auto metrics = make();
  const std::string uneven = R"([{"up_to":37,"price_micros":7},{"up_to":100,"price_micros":1001},{"price_micros":333}])";
  std::mt19937 random(11);
  std::map<std::string, int> ids;
  for (int step = 0; step < 60; ++step) {
    const std::string tenant = step % 2 ? "shop/a" : "shop/b";
    if (step < 2 || step % 15 == 0) {
      publish(tenant, step % 30 == 0 ? "odd" : "even", meter_json("sms", "wallet", step % 30 == 0 ? uneven : R"([{"price_micros":500}])", 3));
    }
    if (step < 2) continue;
    report(tenant, "sms", static_cast<int64_t>(random() % 9), true);
    if (step % 20 == 7) {
      world.rows("select o_status from correct_usage($1, 0, $2, 'f', $3, 1, 'r', 'a', '', '-infinity', $4)",
                 {tenant, "c" + std::to_string(step), "u" + std::to_string(reported_), ledger::timestamp_text(env.wall_ns())});
    }
    if (random() % 4 == 0) aggregate();
  }
  aggregate();
  const double micros = static_cast<double>(world.number(
      "select sum(p.amount)::bigint from ledger_postings p join ledger_accounts a on a.id = p.account where a.kind = 'revenue'"));
  const auto net = [&](const std::string& what) {
    return told(*metrics, "tallygate_operator_" + what + "_total") - scraped("tallygate_operator_" + what + "_taken_off_total");
  };
  EXPECT_GT(micros, 0);
  EXPECT_EQ(std::llround(net("billed_amount") * 1e6), std::llround(micros));
  EXPECT_EQ(std::llround(net("booked_amount") * 1e6), std::llround(micros));
  EXPECT_EQ(net("billed_units"), static_cast<double>(world.number("select sum(booked)::bigint from escrow_accounts where wallet")));
  EXPECT_GT(scraped("tallygate_operator_billed_units_total", {"plan=\"even\""}), 0);
  EXPECT_GT(scraped("tallygate_operator_billed_units_total", {"plan=\"odd\""}), 0);
  EXPECT_EQ(std::llround((scraped("tallygate_operator_wallet_out_amount_total", {"kind=\"usage\""}) -
                          scraped("tallygate_operator_wallet_in_amount_total", {"kind=\"usage\""})) * 1e6),
            std::llround(micros));
}

TEST_F(BillingMetricsTest, ACorrectionLowersNoCounter) {
  const auto metrics = make();
  publish("shop/a", "std", meter_json("calls", "invoice", R"([{"price_micros":1000000}])"));
  report("shop/a", "calls", 10, false);
  aggregate();
  EXPECT_EQ(told(*metrics, "tallygate_operator_booked_amount_total"), 10);
  world.rows("select o_status from correct_usage('shop/a', 0, 'c', 'f', 'u1', 4, 'r', 'a', '', '-infinity', $1)",
             {ledger::timestamp_text(env.wall_ns())});
  aggregate();
  EXPECT_EQ(told(*metrics, "tallygate_operator_booked_units_total"), 10);
  EXPECT_EQ(scraped("tallygate_operator_booked_units_taken_off_total"), 6);
  EXPECT_EQ(scraped("tallygate_operator_booked_amount_total"), 10);
  EXPECT_EQ(scraped("tallygate_operator_booked_amount_taken_off_total"), 6);
}

TEST_F(BillingMetricsTest, UsageThatNobodyCanCountStopsNoTotals) {
  const auto metrics = make();
  publish("shop/a", "std", meter_json("calls", "invoice", R"([{"price_micros":9007199254740991}])"));
  for (int minute = 0; minute < 20; ++minute) {
    world.add_usage("shop/a", "calls", (kNow_s / 60 - 30 + minute) * 60, 60, 9'007'199'254'740'991);
  }
  aggregate();
  EXPECT_DOUBLE_EQ(told(*metrics, "tallygate_operator_booked_units_total"), 20. * 60 * 9'007'199'254'740'991);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_booked_amount_total"), 20. * 1'152'921'504'606'846'976 / 1e6) << "bounded by aggregate";
}

TEST_F(BillingMetricsTest, ANewPlanIsCountedFromItsFirstUnitOn) {
  const auto metrics = make();
  const auto meters = meter_json("calls", "invoice", R"([{"price_micros":1}])");
  for (int i = 0; i < 30; ++i) publish("shop/t" + std::to_string(i), "old", meters);
  for (int i = 0; i < 30; ++i) world.add_usage("shop/t" + std::to_string(i), "calls", kNow_s - 30, 1, 1);
  std::string all;  // all in one call: more than are looked at one by one
  for (int i = 0; i < 30; ++i) {
    all += (i ? "," : "") + std::string(R"({"id":"shop/t)") + std::to_string(i) +
           R"(","shard":0,"version":2,"suspended":false,"doc":{"plan":"new"},"wallet":null,"limits":[],"meters":[)" + meters + "]}";
  }
  world.rows("select upsert_tenants($1, now())", {"[" + all + "]"});
  world.add_usage("shop/t0", "calls", kNow_s - 30, 1, 5);
  env.advance_ms(120'000);
  aggregate();
  EXPECT_EQ(told(*metrics, "tallygate_operator_booked_units_total", {"plan=\"old\""}), 30);
  EXPECT_EQ(scraped("tallygate_operator_booked_units_total", {"plan=\"new\""}), 5);
}

TEST_F(BillingMetricsTest, OnlyTheLeaderTellsAndItsSuccessorSaysTheSame) {
  publish("shop/a", "std", meter_json("calls", "invoice", kTiers, 1000));
  world.add_usage("shop/a", "calls", kNow_s - 600, 10, 5);
  aggregate();
  {
    const auto metrics = make();
    EXPECT_EQ(scraped("tallygate_operator_booked_units_total"), -1) << "nothing was read yet";
    EXPECT_EQ(told(*metrics, "tallygate_operator_booked_units_total"), 50);
    leads = false;
    EXPECT_EQ(scraped("tallygate_operator_booked_units_total"), -1);
    EXPECT_EQ(scraped("tallygate_operator_tenants"), -1);
    leads = true;
  }
  EXPECT_EQ(scraped("tallygate_operator_booked_units_total"), -1);
  const auto successor = make();
  EXPECT_EQ(told(*successor, "tallygate_operator_booked_units_total"), 50);
}

TEST_F(BillingMetricsTest, MovementsOfWalletsByKindAndNoneIsSkipped) {
  publish("shop/a", "std", "");
  publish("shop/b", "std", "");
  const auto metrics = make({.rollup_batch = 2});
  const auto credit = [](ledger::Transaction& work, const std::string& tenant, const std::string& key, int64_t micros) {
    EXPECT_TRUE(work.exec("select add_wallet_credits($1, $2, null, 'GBP', $3, '', now())", {tenant, key, micros}));
  };
  const std::vector<std::string> of_credit{"kind=\"credit\"", "currency=\"GBP\""};
  EXPECT_EQ(told(*metrics, "tallygate_operator_wallet_movements_total", of_credit), 0);
  ASSERT_TRUE(world.session.transact([&](ledger::Transaction& work) -> Result<void> {
    credit(work, "shop/a", "first", 500'000);  // makes the house's accounts, which the others would wait for
    return {};
  }));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(metrics->refresh());
  EXPECT_EQ(scraped("tallygate_operator_wallet_movements_total", of_credit), 1);
  // One that has taken its number is not done yet while later ones are: the roll-up waits for it.
  ledger::Session slow(world.url);
  ASSERT_TRUE(slow.transact([&](ledger::Transaction& work) -> Result<void> {
    credit(work, "shop/a", "slow", 1'000'000);
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(world.session.transact([&](ledger::Transaction& fast) -> Result<void> {
        credit(fast, "shop/b", "fast" + std::to_string(i), 2'500'000);
        return {};
      }));
      EXPECT_TRUE(work.exec("select 1"));  // an idle one is ended
    }
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(told(*metrics, "tallygate_operator_wallet_movements_total", of_credit), 1);
      EXPECT_TRUE(work.exec("select 1"));
    }
    return {};
  }));
  world.rows("select check_balance_and_deduct_asset_cost('shop/b', 'p', null, null, 500000, '', now())");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(metrics->refresh());
  EXPECT_EQ(scraped("tallygate_operator_wallet_movements_total", of_credit), 7);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_wallet_in_amount_total", of_credit), 14);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_wallet_out_amount_total", {"kind=\"purchase\""}), 0.5);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_wallet_balance_amount", {"currency=\"GBP\""}), 13.5);
  EXPECT_EQ(scraped("tallygate_operator_wallets"), 2);
}

TEST_F(BillingMetricsTest, TenantsOneByOneTheLargestFirst) {
  const std::string limits =
      R"([{"limit_name":"calls-month","meter":"calls","amount":100,"capacity":100,"cap":"hard","window_kind":"month"},)"
      R"({"limit_name":"calls-day","meter":"calls","amount":50,"capacity":9007199254740991,"cap":"soft","window_kind":"day"},)"
      R"({"limit_name":"calls-minute","meter":"calls","amount":5,"capacity":5,"cap":"hard","window_kind":"minute"}])";
  const auto meters = meter_json("calls", "invoice", R"([{"price_micros":1000000}])");
  const auto use = [&](const std::string& tenant, int64_t units) {
    for (const auto& [limit, days] : {std::pair{"calls-month", 30}, std::pair{"calls-day", 1}}) {
      const int64_t start_s = days == 1 ? kNow_s - kDay_s / 2 : kNow_s - 15 * kDay_s, length_s = days * kDay_s;
      world.rows(
          "insert into escrow_accounts (tenant, bucket, name, wallet, window_start, window_end, booked, created_at) values ($1, $2, "
          "$3, false, to_timestamp($4), to_timestamp($5), $6, now())",
          {tenant, std::string(limit) + "@" + std::to_string(start_s) + "+" + std::to_string(length_s), limit, start_s,
           start_s + length_s, units});
    }
    world.add_usage(tenant, "calls", kNow_s - 600, 1, units);
  };
  const std::vector<std::pair<std::string, int64_t>> uses{{"shop/a", 100}, {"shop/b", 60}, {"shop/c", 10}, {"shop/d", 1}};
  for (const auto& [tenant, units] : uses) publish(tenant, "std", meters, limits);
  for (const auto& [tenant, units] : uses) use(tenant, units);
  aggregate();
  auto none = make();
  EXPECT_EQ(told(*none, "tallygate_operator_tenant_usage_units"), -1) << "off by default";
  EXPECT_EQ(scraped("tallygate_operator_tenants", {"state=\"ok\""}), 2);
  EXPECT_EQ(scraped("tallygate_operator_tenants", {"state=\"soft-over\""}), 1);
  EXPECT_EQ(scraped("tallygate_operator_tenants", {"state=\"hard\""}), 1);
  EXPECT_EQ(scraped("tallygate_operator_tenants", {"state=\"grace\""}), 0);
  none.reset();

  const auto metrics = make({.tenants = 2});
  const std::string usage = "tallygate_operator_tenant_usage_units";
  EXPECT_EQ(told(*metrics, usage, {"tenant=\"shop/a\"", "limit=\"calls-month\"", "meter=\"calls\""}), 100);
  EXPECT_EQ(scraped(usage, {"tenant=\"shop/b\"", "limit=\"calls-day\""}), 60);
  EXPECT_EQ(scraped(usage, {"tenant=\"other\"", "limit=\"calls-month\""}), 11);
  EXPECT_EQ(scraped(usage, {"calls-minute"}), -1) << "known to Redis alone";
  EXPECT_EQ(scraped("tallygate_operator_tenant_limit_units", {"tenant=\"other\"", "limit=\"calls-month\""}), 200);
  EXPECT_EQ(scraped("tallygate_operator_tenant_limit_state", {"tenant=\"shop/a\"", "limit=\"calls-month\"", "state=\"hard\""}), 1);
  EXPECT_EQ(scraped("tallygate_operator_tenant_limit_state", {"tenant=\"shop/b\"", "limit=\"calls-day\"", "state=\"soft-over\""}), 1);
  EXPECT_EQ(scraped("tallygate_operator_tenant_limit_state", {"tenant=\"other\""}), -1);
  EXPECT_DOUBLE_EQ(scraped("tallygate_operator_tenant_projected_units", {"tenant=\"shop/b\"", "limit=\"calls-day\""}), 120);
  EXPECT_EQ(scraped("tallygate_operator_tenant_balance_amount", {"tenant=\"shop/a\"", "currency=\"GBP\""}), 0);

  world.rows(R"(select remove_tenants('["shop/a"]', now()))");
  EXPECT_EQ(told(*metrics, usage, {"tenant=\"shop/a\""}), -1) << "a tenant that is gone has no series";
  EXPECT_EQ(scraped("tallygate_operator_tenants"), 3);
  EXPECT_EQ(scraped("tallygate_operator_booked_units_total"), 171) << "what it used stays counted";
}

TEST_F(BillingMetricsTest, SidecarsBySoftware) {
  const auto metrics = make();
  for (const auto& [shard, pod, software, last] :
       {std::tuple{0, "a", "1.0", "null"}, std::tuple{1, "a", "1.0", "null"}, std::tuple{0, "b", "1.1", "null"},
        std::tuple{0, "c", "1.1", "3"}}) {
    world.rows("insert into incarnations (shard, incarnation, first_epoch, last_epoch, boot_id, pod, software, registered_at) values "
               "($1, $2 || '.x', 1, " + std::string(last) + ", '', $2, $3, now())", {shard, pod, software});
  }
  EXPECT_EQ(told(*metrics, "tallygate_operator_sidecars", {"software=\"1.0\""}), 1);
  EXPECT_EQ(scraped("tallygate_operator_sidecars", {"software=\"1.1\""}), 1);
}

}  // namespace
}  // namespace tallygate::testing
