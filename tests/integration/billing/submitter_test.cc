// The submitter against the Stripe emulator with each of its faults: what Stripe has is what the ledger says, once.
#include "operator/billing/submitter.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <set>
#include <utility>

#include "operator/billing/stripe_api.h"
#include "operator/billing/stripe_watch.h"
#include "tests/integration/billing/stripe_emulator.h"
#include "tests/integration/billing/world.h"

namespace tallygate::testing {
namespace {

constexpr int kTenants = 3;
constexpr int kMinutes = 6;
constexpr const char* kMeters[] = {"api_calls", "llm_tokens"};

class SubmitterTest : public ::testing::Test {
 protected:
  SubmitterTest() {
    for (const char* meter : kMeters) stripe.create_meter(meter);
    for (int i = 0; i < kTenants; ++i) {
      const std::string tenant = "shop/t" + std::to_string(i);
      customers.push_back(stripe.create_customer());
      world.add_tenant(tenant);
      for (const char* meter : kMeters) world.add_meter(tenant, meter, customers.back());
    }
  }

  // Each call's are of an hour of their own, so that every aggregate is new.
  void add_aggregates(int minutes = kMinutes) {
    const int64_t now_minute_s = system_env().wall_s() / 60 * 60 - 3600 * hours_++;
    for (int i = 0; i < kTenants; ++i) {
      for (const char* meter : kMeters) {
        for (int m = 1; m <= minutes; ++m) {
          const int64_t units = 1 + i + 10 * m;
          world.add_aggregate("shop/t" + std::to_string(i), meter, now_minute_s - 60 * m, units);
          expected[{meter, customers[static_cast<size_t>(i)]}] += units;
        }
      }
    }
  }

  std::unique_ptr<billing::Submitter> submitter(const std::string& key = StripeEmulator::kKey) {
    billing::SubmitterOptions options;
    options.interval_ms = 100;
    options.calls_per_second = 1000;
    options.blocked_pause_ms = 200;
    options.backoff = {20, 200};
    billing::StripeOptions api{stripe.base(), key, "2025-06-30.basil", 400};
    return std::make_unique<billing::Submitter>(
        system_env(), world.url, options, billing::stripe_sender(*http, api), [] { return true; }, world.registry);
  }

  // Until nothing waits. False after half a minute.
  bool settle() {
    for (int i = 0; i < 600; ++i) {
      const int64_t open = world.number(
          "select (select count(*) from meter_submissions where state in ('pending', 'sending'))"
          " + (select count(*) from usage_aggregates where not outboxed)");
      if (open == 0) return true;
      system_env().sleep_ms(50);
    }
    return false;
  }

  void expect_books_agree() {
    int64_t sum = 0;
    for (const auto& [key, units] : expected) {
      EXPECT_EQ(stripe.total(key.first, key.second), units) << key.first << " of " << key.second;
      sum += units;
    }
    EXPECT_EQ(world.balance("billed"), sum);
    EXPECT_EQ(world.balance("unbilled"), 0);
    EXPECT_EQ(world.in_state("dead"), 0);
    EXPECT_EQ(world.number("select count(*) from ledger_transfers where kind = 'delivery'"),
              world.in_state("delivered"));
  }

  BillingWorld world;
  StripeEmulator stripe;
  std::unique_ptr<HttpClient> http = make_http_client();
  std::vector<std::string> customers;
  std::map<std::pair<std::string, std::string>, int64_t> expected;

 private:
  int64_t hours_ = 0;
};

TEST_F(SubmitterTest, DeliversEverythingOnce) {
  add_aggregates(30);
  const auto running = submitter();
  const int64_t begin_ms = system_env().mono_ms();
  running->start();
  EXPECT_TRUE(settle());
  const int64_t took_ms = system_env().mono_ms() - begin_ms;
  running->stop();
  expect_books_agree();
  EXPECT_EQ(stripe.counter("lock_timeouts"), 0) << "one call at a time per customer and meter";
  std::printf("%d events in %ld ms\n", 30 * kTenants * 2, took_ms);
}

TEST_F(SubmitterTest, EachFaultInTurn) {
  const auto running = submitter();
  running->start();
  for (const char* kind : {"429", "409", "500_before", "500_after", "timeout_before", "timeout_after", "reset_before",
                           "reset_after", "slow"}) {
    SCOPED_TRACE(kind);
    stripe.fault(std::string(R"({"kind": ")") + kind + R"(", "count": 4, "seconds": 0.8, "path": "meter_events"})");
    add_aggregates(1);
    EXPECT_TRUE(settle());
    stripe.clear_faults();
    expect_books_agree();
  }
  running->stop();
}

TEST_F(SubmitterTest, AllFaultsAtOnce) {
  for (const char* kind : {"429", "409", "500_before", "500_after", "reset_before", "reset_after", "timeout_after"}) {
    stripe.fault(std::string(R"({"kind": ")") + kind +
                 R"(", "count": null, "probability": 0.08, "seconds": 0.6, "path": "meter_events"})");
  }
  add_aggregates(20);
  const auto running = submitter();
  running->start();
  EXPECT_TRUE(settle());
  running->stop();
  stripe.clear_faults();
  expect_books_agree();
}

TEST_F(SubmitterTest, ARestartInTheMiddleLosesAndRepeatsNothing) {
  stripe.settings(R"({"processing_ms": 5})");
  add_aggregates(20);
  for (int i = 0; i < 6; ++i) {
    const auto running = submitter();
    running->start();
    system_env().sleep_ms(60);
    running->stop();
  }
  const auto last = submitter();
  last->start();
  EXPECT_TRUE(settle());
  last->stop();
  expect_books_agree();
}

TEST_F(SubmitterTest, TwoAtOnceStillBillOnce) {
  add_aggregates(10);
  const auto one = submitter(), other = submitter();
  one->start();
  other->start();
  EXPECT_TRUE(settle());
  one->stop();
  other->stop();
  expect_books_agree();
}

TEST_F(SubmitterTest, ARefusedKeyBlamesNoEvent) {
  add_aggregates(2);
  {
    const auto refused = submitter("pk_not_a_secret_key");
    refused->start();
    for (int i = 0; i < 200 && refused->status().blocked.empty(); ++i) system_env().sleep_ms(20);
    EXPECT_FALSE(refused->status().blocked.empty());
    refused->stop();
  }
  EXPECT_EQ(world.in_state("dead"), 0);
  const auto running = submitter();
  running->start();
  EXPECT_TRUE(settle());
  EXPECT_TRUE(running->status().blocked.empty());
  running->stop();
  expect_books_agree();
}

TEST_F(SubmitterTest, WhatStripeRefusesIsPutAsideWithItsError) {
  const int64_t minute_s = system_env().wall_s() / 60 * 60 - 60;
  world.add_meter("shop/t0", "no_such_meter", customers[0]);
  world.add_aggregate("shop/t0", "no_such_meter", minute_s, 5);
  world.add_aggregate("shop/t0", "api_calls", minute_s - 40 * 86'400, 7);
  stripe.settings(R"({"identifier_window_s": 86400})");
  const auto running = submitter();
  running->start();
  EXPECT_TRUE(settle());
  running->stop();
  EXPECT_EQ(world.number("select count(*) from meter_submissions where state = 'dead' and last_error like '%35 days%'"),
            1);
  EXPECT_EQ(world.balance("billed", "api_calls"), 0);
}

TEST_F(SubmitterTest, AnUnreachableStripeIsWaitedFor) {
  add_aggregates(1);
  billing::SubmitterOptions options;
  options.interval_ms = 100;
  options.backoff = {20, 100};
  billing::StripeOptions nowhere{"http://127.0.0.1:9", StripeEmulator::kKey, "2025-06-30.basil", 300};
  {
    billing::Submitter lost(
        system_env(), world.url, options, billing::stripe_sender(*http, nowhere), [] { return true; }, world.registry);
    lost.start();
    system_env().sleep_ms(600);
    lost.stop();
  }
  EXPECT_EQ(world.in_state("dead"), 0);
  EXPECT_EQ(world.number("select count(*) from meter_submissions where unknown_since is not null"), 0)
      << "nothing was sent, and that is known";
  const auto running = submitter();
  running->start();
  EXPECT_TRUE(settle());
  running->stop();
  expect_books_agree();
}

TEST_F(SubmitterTest, AStandbySendsNothing) {
  add_aggregates(1);
  billing::SubmitterOptions options;
  options.interval_ms = 50;
  billing::StripeOptions api{stripe.base(), StripeEmulator::kKey, "2025-06-30.basil", 400};
  billing::Submitter standby(
      system_env(), world.url, options, billing::stripe_sender(*http, api), [] { return false; }, world.registry);
  standby.start();
  system_env().sleep_ms(300);
  standby.stop();
  EXPECT_EQ(world.number("select count(*) from meter_submissions"), 0);
}

// Stripe answers 200 for what it will never bill: usage waits, with the reason, until somebody has mended that.
TEST_F(SubmitterTest, UsageOfAnArchivedMeterOrADeletedCustomerIsHeld) {
  const auto watched = [&] {
    billing::SubmitterOptions options;
    options.interval_ms = 300;
    options.calls_per_second = 1000;
    billing::StripeOptions api{stripe.base(), StripeEmulator::kKey, "2025-06-30.basil", 2'000};
    auto watch = std::make_unique<billing::StripeWatch>(
        system_env(), *http, api, billing::StripeWatchOptions{.meters_kept_ms = 20, .customers_kept_ms = 20});
    return std::make_unique<billing::Submitter>(
        system_env(), world.url, options, billing::stripe_sender(*http, api), [] { return true; }, world.registry,
        std::move(watch));
  };
  const auto wait_for = [&](const std::string& sql, int64_t count) {
    bool met = false;  // what is held is looked at again and again
    for (int i = 0; i < 800 && !met; ++i) {
      met = world.number(sql) == count;
      if (!met) system_env().sleep_ms(20);
    }
    EXPECT_TRUE(met) << sql;
  };
  stripe.deactivate_meter("llm_tokens");
  stripe.delete_customer(customers[0]);
  add_aggregates(2);
  auto submitter = watched();
  submitter->start();
  // t0 has no customer, llm_tokens no meter: left are two tenants' api_calls.
  wait_for("select count(*) from meter_submissions where state = 'delivered'", 4);
  wait_for("select count(*) from meter_submissions where last_error like 'meter llm_tokens is inactive at Stripe%'", 6);
  wait_for("select count(*) from meter_submissions where last_error like 'customer % was deleted at Stripe%'", 2);
  EXPECT_NE(submitter->status().doubtful, "");
  EXPECT_EQ(world.in_state("dead"), 0);
  EXPECT_EQ(stripe.total("llm_tokens", customers[1]), 0);
  // Mended: what was held goes out, to whom the manifest names now.
  stripe.reactivate_meter("llm_tokens");
  const std::string other = stripe.create_customer();
  world.rows("update tenant_meters set stripe_customer_id = $1 where tenant = 'shop/t0'", {other});
  for (const char* meter : kMeters) expected[{meter, other}] = std::exchange(expected[{meter, customers[0]}], 0);
  wait_for("select count(*) from meter_submissions where state <> 'delivered'", 0);
  expect_books_agree();
  submitter->stop();
}

TEST_F(SubmitterTest, WhatWasTakenBetweenTwoLooksIsNamed) {
  billing::StripeOptions api{stripe.base(), StripeEmulator::kKey, "2025-06-30.basil", 2'000};
  billing::StripeWatch watch(system_env(), *http, api, {.meters_kept_ms = 0, .customers_kept_ms = 0});
  const billing::MeterEvent event{"api_calls", customers[1], 7, "i", 0};
  EXPECT_EQ(watch.look(event), "");
  watch.taken(event);
  EXPECT_TRUE(watch.look_back(4).empty());
  watch.taken(event);
  watch.taken(event);
  stripe.deactivate_meter("api_calls");
  const auto doubts = watch.look_back(4);
  ASSERT_EQ(doubts.size(), 1u);
  EXPECT_NE(doubts[0].find("2 events of 14 units"), std::string::npos) << doubts[0];
  EXPECT_NE(watch.look(event), "");
  // Of nobody, and of an account that cannot be asked.
  stripe.reactivate_meter("api_calls");
  EXPECT_NE(watch.look({"api_calls", "cus_nobody", 1, "i", 0}).find("no customer cus_nobody"), std::string::npos);
  EXPECT_NE(watch.look({"api_calls", "../meters", 1, "i", 0}), "");
  EXPECT_NE(watch.look({"unknown", customers[1], 1, "i", 0}).find("no meter unknown"), std::string::npos);
  api.api_base = "http://127.0.0.1:1";
  billing::StripeWatch blind(system_env(), *http, api);
  EXPECT_EQ(blind.look({"unknown", "cus_nobody", 1, "i", 0}), "") << "holds nothing up";
}

}  // namespace
}  // namespace tallygate::testing
