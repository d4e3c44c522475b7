// Corrected usage on its way: records with fewer units, aggregates below zero, and at Stripe what is booked, never
// below zero on the way there.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <thread>

#include "operator/billing/aggregator.h"
#include "operator/billing/outbox.h"
#include "operator/billing/stripe_api.h"
#include "operator/billing/submitter.h"
#include "tests/integration/billing/stripe_emulator.h"
#include "tests/integration/billing/world.h"

namespace tallygate::testing {
namespace {

constexpr const char* kTenant = "shop/acme";
constexpr int64_t kDayS = 86'400;

class CorrectionsTest : public ::testing::Test {
 protected:
  CorrectionsTest() : now_s(system_env().wall_s() / 60 * 60) {
    world.add_tenant(kTenant);
    world.add_meter(kTenant, "api_calls", "cus_1");
    world.add_meter(kTenant, "sms", "", "wallet");
    world.rows(
        "update tenant_meters set per_units = 7, tiers = '[{\"up_to\": 500, \"price_micros\": 0}, {\"up_to\": 3000, "
        "\"price_micros\": 1001}, {\"price_micros\": 333}]' where meter = 'sms'");
    world.rows("insert into wallets (tenant, currency) values ($1, 'GBP')", {kTenant});
    world.rows(
        "insert into tenant_limits (tenant, limit_name, meter, amount, capacity, cap, grace_duration_s, window_kind) "
        "values ($1, 'calls', 'api_calls', 100, 1000000, 'soft', 60, 'Day')",
        {kTenant});
  }

  static std::string bucket(const std::string& meter) { return meter == "sms" ? "sms$" : "calls@0+99999999999"; }

  void use(const std::string& id, const std::string& meter, int64_t units, int64_t second_s) {
    const std::string row = R"([{"id":")" + id + R"(","fingerprint":"f","meter":")" + meter + R"(","units":)" +
                            std::to_string(units) + R"(,"second":)" + std::to_string(second_s) +
                            R"(,"dims":"{}","buckets":[")" + bucket(meter) + R"("]}])";
    EXPECT_EQ(world.text("select status from book_direct_usage($1, 0, $2::jsonb, now())", {kTenant, row}), "new");
  }
  std::string correct(const std::string& id, const std::string& corrects, int64_t units) {
    return world.text(
        "select o_status from correct_usage($1, 0, $2, $3, $4, $5, 'wrong', 'test', 'r', now() - interval '35 days', "
        "now())",
        {kTenant, id, corrects + "/" + std::to_string(units), corrects, units});
  }
  int64_t booked(const std::string& meter) {
    return world.number("select coalesce(sum(booked), 0)::bigint from escrow_accounts where bucket = $1",
                        {bucket(meter)});
  }
  void aggregate() {
    billing::AggregatorOptions options;
    options.interval_ms = 1;
    options.lateness_ms = -600'000;
    billing::Aggregator aggregator(
        system_env(), world.url, options, [] { return true; }, world.registry);
    ASSERT_TRUE(aggregator.run_once());
  }
  // What a submitter does before it calls Stripe.
  void enqueue() {
    billing::Outbox outbox(system_env(), world.session);
    for (const bool done : {outbox.enqueue(1000).has_value(), outbox.release_held(1000).has_value(),
                            outbox.release_corrections(1000).has_value()}) {
      ASSERT_TRUE(done);
    }
  }
  // Delivers the pending ones with at least so many units, or all.
  void deliver(int64_t at_least = INT64_MIN) {
    world.rows(
        "select record_attempts(coalesce((select jsonb_agg(jsonb_build_object('id', id, 'state', 'delivered', 'error', "
        "'', 'unknown', false, 'sent', true, 'next', 0)) from meter_submissions where state = 'pending' and value >= "
        "$1), '[]'), now())",
        {at_least});
  }
  std::string held() { return world.text("select last_error from meter_submissions where state = 'held' order by id"); }
  int64_t delivered() {
    return world.number("select coalesce(sum(value), 0)::bigint from meter_submissions where state = 'delivered'");
  }
  void audit() {
    const auto rows = world.rows("select check_name || ' ' || detail from ledger_audit()");
    for (size_t i = 0; i < rows.size(); ++i) ADD_FAILURE() << rows.text(i, 0);
  }

  BillingWorld world;
  const int64_t now_s;
};

TEST_F(CorrectionsTest, CountAsWhatTheLastOneSays) {
  use("u", "sms", 2000, now_s);
  const int64_t cost = world.number("select balance_micros from wallets");
  EXPECT_EQ(cost, -world.number("select rated(tiers, per_units, 2000)::bigint from tenant_meters where meter = 'sms'"));
  EXPECT_EQ(correct("a", "u", 400), "new");
  EXPECT_EQ(booked("sms"), 400);
  EXPECT_EQ(world.number("select balance_micros from wallets"), 0) << "the first 500 are free";
  EXPECT_EQ(correct("a", "u", 400), "duplicate");
  EXPECT_EQ(correct("a", "u", 401), "mismatch");
  EXPECT_EQ(correct("b", "u", 3000), "new");
  EXPECT_EQ(correct("c", "u", 2000), "new");
  EXPECT_EQ(correct("d", "u", 2000), "new") << "changes nothing, and is known all the same";
  EXPECT_EQ(booked("sms"), 2000);
  EXPECT_EQ(world.number("select balance_micros from wallets"), cost);
  // Booked units come back to where they were: each charge is posted all the same.
  EXPECT_EQ(correct("e", "u", 0), "new");
  use("v", "sms", 2000, now_s);
  EXPECT_EQ(world.number("select balance_micros from wallets"), cost);
  EXPECT_EQ(correct("f", "nobody's", 1), "unknown");
  EXPECT_EQ(world.text("select actor || ' ' || reason || ' ' || (details ->> 'units') from audit_log order by id"),
            "test wrong 400");
  audit();
}

TEST_F(CorrectionsTest, GiveCapacityBackAndEndAGraceThatNeverWas) {
  use("u", "api_calls", 150, now_s);
  EXPECT_EQ(world.number("select count(*) from escrow_accounts where crossed_at is not null"), 1);
  EXPECT_EQ(correct("a", "u", 90), "new");
  EXPECT_EQ(world.number("select count(*) from escrow_accounts where crossed_at is not null"), 0);
  EXPECT_EQ(world.number("select available(id, now()) from escrow_accounts"), 1'000'000 - 90);
}

TEST_F(CorrectionsTest, OfWhatIsTooOldOrSettledOtherwiseAreRefused) {
  use("old", "api_calls", 10, now_s - 35 * kDayS - 60);
  EXPECT_EQ(correct("a", "old", 1), "too_old");
  use("paid", "sms", 1000, now_s);
  world.rows("update tenant_meters set settlement = 'invoice' where meter = 'sms'");
  EXPECT_EQ(correct("b", "paid", 1), "settled_otherwise");
  // What went to Stripe and what nobody bills: the difference would not follow it there.
  use("billed", "api_calls", 1000, now_s);
  aggregate();
  world.rows("update tenant_meters set settlement = 'none' where meter = 'api_calls'");
  EXPECT_EQ(correct("c", "billed", 1), "settled_otherwise");
  EXPECT_EQ(world.number("select count(*) from usage_corrections"), 0);
}

TEST_F(CorrectionsTest, OfOneUsageAtOnceWaitForEachOther) {
  use("u", "api_calls", 1000, now_s);
  std::vector<std::thread> threads;
  std::atomic<int> fresh = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      ledger::Session session(world.url);
      for (int k = 0; k < 10; ++k) {
        // Every id is tried by two threads.
        const std::string id = "c" + std::to_string(i / 2 * 10 + k);
        const auto rows = session.exec(
            "select o_status from correct_usage($1, 0, $2, 'f' || $2, 'u', $3, 'wrong', 'test', 'r', now() - interval "
            "'35 days', now())",
            {kTenant, id, int64_t{100} * (i / 2) + k});
        ASSERT_TRUE(rows) << rows.error().message;
        fresh += rows->text(0, 0) == "new" ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(fresh, 40);
  const int64_t last = world.number(
      "select units from usage_corrections c where not exists (select from usage_corrections n where n.previous_units "
      "= "
      "c.units and n.seq > c.seq) order by seq desc limit 1");
  EXPECT_EQ(booked("api_calls"), last);
  EXPECT_EQ(world.number("select sum(units)::bigint from usage_records"), last);
  EXPECT_EQ(world.number("select 1000 + sum(units - previous_units)::bigint from usage_corrections"), last);
}

TEST_F(CorrectionsTest, WithinAMinuteThatIsNotAggregatedNothingGoesBelowZero) {
  use("u", "api_calls", 10, now_s);
  EXPECT_EQ(correct("a", "u", 3), "new");
  aggregate();
  EXPECT_EQ(world.number("select units from usage_aggregates"), 3);
}

TEST_F(CorrectionsTest, GoToStripeOnlyAfterWhatTheyTakeOff) {
  use("u", "api_calls", 10, now_s);
  aggregate();
  EXPECT_EQ(correct("a", "u", 4), "new");
  aggregate();
  EXPECT_EQ(world.number("select units from usage_aggregates where revision = 1"), -6);
  EXPECT_EQ(world.balance("unbilled"), 4);
  enqueue();
  EXPECT_EQ(world.in_state("pending"), 1);
  EXPECT_EQ(held(), "waits until the usage that it corrects is delivered");
  deliver();
  enqueue();
  EXPECT_EQ(world.in_state("held"), 0);
  EXPECT_EQ(world.text("select value || ' ' || stripe_customer_id from meter_submissions where state = 'pending' and "
                       "event_time = to_timestamp($1::bigint)",
                       {now_s}),
            "-6 cus_1");
  deliver();
  EXPECT_EQ(delivered(), 4);
  EXPECT_EQ(world.balance("billed"), 4);
  EXPECT_EQ(world.balance("unbilled"), 0);
}

TEST_F(CorrectionsTest, FollowTheCustomerWhoWasBilled) {
  use("u", "api_calls", 10, now_s);
  aggregate();
  enqueue();
  deliver();
  world.rows("update tenant_meters set stripe_customer_id = 'cus_2' where meter = 'api_calls'");
  EXPECT_EQ(correct("a", "u", 0), "new");
  aggregate();
  enqueue();
  EXPECT_EQ(world.text("select stripe_customer_id from meter_submissions where state = 'pending'"), "cus_1");
}

TEST_F(CorrectionsTest, OfAnInvoicedPeriodAreTakenOffTheCurrentOne) {
  const int64_t last_period_s = now_s - 10 * kDayS;
  world.rows(
      "insert into subscriptions (id, tenant, customer_id, plan, status, current_period_start) values ('sub', $1, "
      "'cus_1', 'p', 'active', to_timestamp($2::bigint))",
      {kTenant, now_s - 5 * kDayS});
  use("u", "api_calls", 100, last_period_s);
  aggregate();
  enqueue();
  deliver();
  EXPECT_EQ(correct("a", "u", 70), "new");
  use("v", "api_calls", 20, now_s - kDayS);
  aggregate();
  enqueue();
  deliver();
  enqueue();
  EXPECT_EQ(held(), "the corrected usage is invoiced: taken off once the current period has as much");
  use("w", "api_calls", 10, now_s);
  aggregate();
  enqueue();
  deliver();
  enqueue();
  EXPECT_EQ(world.in_state("held"), 0);
  EXPECT_EQ(world.number("select count(*) from meter_submissions where state = 'pending' and value = -30 and "
                         "event_time > now() - interval '5 minutes'"),
            1);
  // What the current period has left is taken off already: its own usage's correction waits for more.
  EXPECT_EQ(correct("b", "w", 0), "new");
  aggregate();
  enqueue();
  EXPECT_EQ(held(), "waits until the usage that it corrects is delivered");
  deliver();
  EXPECT_EQ(delivered(), 100);
}

// One tenant's corrections of an invoiced period may wait for ever: more of them than are looked at at once.
TEST_F(CorrectionsTest, ThatWaitHoldUpNoOthers) {
  world.rows(
      "insert into subscriptions (id, tenant, customer_id, plan, status, current_period_start) values ('sub', $1, "
      "'cus_1', 'p', 'active', to_timestamp($2::bigint))",
      {kTenant, now_s - 5 * kDayS});
  const std::string other = "shop/other";
  world.add_tenant(other);
  world.add_meter(other, "api_calls", "cus_2");
  for (const char* id : {"a", "b", "c"}) use(id, "api_calls", 10, now_s - (10 + id[0] - 'a') * kDayS);
  const std::string row = R"([{"id":"u","fingerprint":"f","meter":"api_calls","units":10,"second":)" +
                          std::to_string(now_s) + R"(,"dims":"{}","buckets":[]}])";
  world.rows("select book_direct_usage($1, 0, $2::jsonb, now())", {other, row});
  aggregate();
  enqueue();
  deliver();
  for (const std::string id : {"a", "b", "c"}) EXPECT_EQ(correct("c" + id, id, 0), "new");
  aggregate();
  world.rows("select correct_usage($1, 0, 'c', 'f', 'u', 4, 'wrong', 'test', 'r', now() - interval '35 days', now())",
             {other});
  aggregate();
  billing::Outbox outbox(system_env(), world.session);
  ASSERT_TRUE(outbox.enqueue(1000));
  ASSERT_EQ(world.in_state("held"), 4);
  int64_t released = 0;
  for (int i = 0; i < 4 && released == 0; ++i) {
    const auto done = outbox.release_corrections(2);
    ASSERT_TRUE(done);
    released += *done;
  }
  EXPECT_EQ(released, 1);
  EXPECT_EQ(world.text("select tenant || value from meter_submissions where state = 'pending'"), other + "-6");
}

// Random usage and corrections, aggregated and submitted in between: booked = Σ, the wallet = R(Σ), the postings sum to
// zero, and what Stripe has is what is booked; in no minute did it ever have less than nothing.
TEST_F(CorrectionsTest, AtRandomEverythingAgreesToTheUnit) {
  StripeEmulator stripe;
  stripe.create_meter("api_calls");
  const std::string customer = stripe.create_customer();
  world.rows("update tenant_meters set stripe_customer_id = $1 where meter = 'api_calls'", {customer});
  const auto http = make_http_client();
  billing::SubmitterOptions options;
  options.interval_ms = 20;
  options.calls_per_second = 1000;
  options.backoff = {5, 20};
  std::map<int64_t, int64_t> at_stripe;
  std::atomic<int> below_zero = 0;
  const auto to_stripe = billing::stripe_sender(*http, {stripe.base(), StripeEmulator::kKey, "2025-06-30.basil", 2000});
  std::set<std::string> seen;
  const auto send = [&](const billing::MeterEvent& event, int64_t attempt) -> billing::Answer {
    // One meter and customer: one call at a time.
    const auto answer = to_stripe(event, attempt);
    if (answer.status == 200 && seen.insert(event.identifier).second) {
      below_zero += (at_stripe[event.timestamp_s] += event.value) < 0 ? 1 : 0;
    }
    return answer;
  };
  billing::Submitter submitter(
      system_env(), world.url, options, send, [] { return true; }, world.registry);
  submitter.start();

  std::mt19937_64 random(20261126);
  std::map<std::string, int64_t> truth;
  const auto sum_of = [&](char first) {
    int64_t sum = 0;
    for (const auto& [id, units] : truth) sum += id.front() == first ? units : 0;
    return sum;
  };
  for (int i = 0; i < 400; ++i) {
    const bool wallet = random() % 2 == 0;
    if (truth.empty() || random() % 3 == 0) {
      const std::string id = (wallet ? "s" : "a") + std::to_string(i);
      truth[id] = 1 + static_cast<int64_t>(random() % 400);
      use(id, wallet ? "sms" : "api_calls", truth[id], now_s - 60 * static_cast<int64_t>(random() % 5));
    } else {
      auto at = truth.begin();
      std::advance(at, random() % truth.size());
      const int64_t units = random() % 4 == 0 ? 0 : static_cast<int64_t>(random() % 500);
      EXPECT_EQ(correct("c" + std::to_string(i), at->first, units), "new");
      at->second = units;
    }
    if (random() % 20 == 0) aggregate();
  }
  aggregate();
  EXPECT_EQ(booked("api_calls"), sum_of('a'));
  EXPECT_EQ(booked("sms"), sum_of('s'));
  EXPECT_EQ(world.number("select balance_micros from wallets"),
            -world.number("select rated(tiers, per_units, $1)::bigint from tenant_meters where meter = 'sms'",
                          {sum_of('s')}));
  audit();
  const auto open = [&] {
    return world.number(
        "select (select count(*) from meter_submissions where state <> 'delivered')"
        " + (select count(*) from usage_aggregates where not outboxed)");
  };
  for (int i = 0; i < 600 && open() > 0; ++i) system_env().sleep_ms(50);
  submitter.stop();
  EXPECT_EQ(open(), 0) << held();
  EXPECT_EQ(stripe.total("api_calls", customer), sum_of('a'));
  EXPECT_EQ(world.balance("billed", "api_calls"), sum_of('a'));
  EXPECT_EQ(world.balance("unbilled", "api_calls"), 0);
  EXPECT_EQ(world.balance("prepaid", "sms"), sum_of('s'));
  EXPECT_EQ(below_zero, 0);
  EXPECT_GT(world.number("select count(*) from meter_submissions where value < 0"), 5) << "the test has a point";
  audit();
}

}  // namespace
}  // namespace tallygate::testing
