#include "operator/billing/outbox.h"

#include <gtest/gtest.h>

#include <map>

#include "operator/billing/submitter.h"
#include "tests/integration/billing/world.h"

namespace tallygate::testing {
namespace {

constexpr int64_t kMinute_s = 1'794'999'960;

class OutboxTest : public ::testing::Test {
 protected:
  OutboxTest() : outbox(env, world.session) {
    env.set_wall_ns((kMinute_s + 600) * 1'000'000'000);
    for (const char* tenant : {"shop/acme", "shop/globex"}) world.add_tenant(tenant);
    world.add_meter("shop/acme", "api_calls", "cus_acme");
    world.add_meter("shop/globex", "api_calls", "");
  }
  billing::Enqueued enqueue() { return outbox.enqueue(1'000).value(); }
  std::vector<billing::Submission> claim(int64_t per_key = 100) { return outbox.claim(100, per_key, 60'000).value(); }
  int64_t record(const billing::Outcome& outcome) { return outbox.record({&outcome, 1}).value(); }

  ManualEnv env;
  BillingWorld world;
  billing::Outbox outbox;
};

TEST_F(OutboxTest, AnAggregateBecomesOneRow) {
  world.add_aggregate("shop/acme", "api_calls", kMinute_s, 42);
  EXPECT_EQ(enqueue().taken, 1);
  EXPECT_EQ(enqueue().taken, 0);
  const auto claimed = claim();
  ASSERT_EQ(claimed.size(), 1u);
  EXPECT_EQ(claimed[0].event.event_name, "api_calls");
  EXPECT_EQ(claimed[0].event.customer, "cus_acme");
  EXPECT_EQ(claimed[0].event.value, 42);
  EXPECT_EQ(claimed[0].event.timestamp_s, kMinute_s);
  EXPECT_EQ(claimed[0].event.identifier, billing::event_identifier("shop/acme", "cus_acme", "api_calls", kMinute_s, 0));
  EXPECT_EQ(claimed[0].attempts, 1);
  EXPECT_EQ(claimed[0].unknown_since_s, 0);
}

TEST_F(OutboxTest, WithoutACustomerItIsHeldUntilThereIsOne) {
  world.add_aggregate("shop/globex", "api_calls", kMinute_s, 42);
  EXPECT_EQ(enqueue().held, 1);
  EXPECT_TRUE(claim().empty());
  EXPECT_EQ(world.text("select last_error from meter_submissions"), "the tenant has no Stripe customer");
  EXPECT_EQ(outbox.release_held(100).value(), 0);
  world.rows("update tenant_meters set stripe_customer_id = 'cus_globex' where tenant = 'shop/globex'");
  EXPECT_EQ(outbox.release_held(100).value(), 1);
  const auto claimed = claim();
  ASSERT_EQ(claimed.size(), 1u);
  EXPECT_EQ(claimed[0].event.identifier,
            billing::event_identifier("shop/globex", "cus_globex", "api_calls", kMinute_s, 0));
}

TEST_F(OutboxTest, AMeterThatLeftThePlanIsHeld) {
  world.add_aggregate("shop/acme", "gone", kMinute_s, 1);
  EXPECT_EQ(enqueue().held, 1);
  EXPECT_EQ(world.text("select last_error from meter_submissions"), "the meter is not in the tenant's plan");
}

TEST_F(OutboxTest, WhatIsClaimedIsNobodyElsesUntilItsLeaseEnds) {
  world.add_aggregate("shop/acme", "api_calls", kMinute_s, 1);
  enqueue();
  EXPECT_EQ(claim().size(), 1u);
  EXPECT_TRUE(claim().empty());
  env.advance_ms(60'001);
  const auto again = claim();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].attempts, 2);
  EXPECT_GT(again[0].unknown_since_s, 0) << "the first attempt was begun and never recorded";
}

TEST_F(OutboxTest, ASuccessorTakesOverAtOnce) {
  world.add_aggregate("shop/acme", "api_calls", kMinute_s, 1);
  enqueue();
  claim();
  EXPECT_EQ(outbox.take_over().value(), 1);
  EXPECT_EQ(claim().size(), 1u);
}

TEST_F(OutboxTest, NoKeyTakesMoreThanItsShare) {
  world.add_meter("shop/acme", "tokens", "cus_acme");
  for (int i = 0; i < 20; ++i) world.add_aggregate("shop/acme", "api_calls", kMinute_s - 60 * i, 1);
  world.add_aggregate("shop/acme", "tokens", kMinute_s, 1);
  enqueue();
  EXPECT_EQ(claim(4).size(), 5u);
}

TEST_F(OutboxTest, DeliveryPostsOnceHoweverOftenItIsRecorded) {
  world.add_aggregate("shop/acme", "api_calls", kMinute_s, 42);
  enqueue();
  billing::Outcome outcome;
  outcome.id = claim()[0].id;
  outcome.state = billing::Outcome::State::kDelivered;
  EXPECT_EQ(record(outcome), 1);
  EXPECT_EQ(record(outcome), 0);
  EXPECT_EQ(world.balance("billed"), 42);
  EXPECT_EQ(world.balance("unbilled"), 0);
  outcome.state = billing::Outcome::State::kPending;
  record(outcome);
  EXPECT_EQ(world.in_state("delivered"), 1) << "delivered stays delivered";
}

// The ledger was restored from a backup and recovered: what it forms anew may be at Stripe already. A repetition counts
// once for a day only; and usage that came later must not be taken for what the lost ledger had sent under that number.
TEST_F(OutboxTest, AfterARecoveryWhatTheLostLedgerMayHaveSentIsToldApart) {
  const auto add = [&](int64_t minute_s, int64_t revision) {
    world.rows(
        "insert into usage_aggregates (tenant, meter, minute, revision, units, requests, created_at) values "
        "('shop/acme', 'api_calls', to_timestamp($1::bigint), $2::integer, 5, 1, clock_timestamp())",
        {minute_s, revision});
    world.rows("select post_aggregates(array[(select max(id) from usage_aggregates)], now())");
  };
  const auto identifier = [](int64_t minute_s, int64_t revision, int64_t recovered = 0) {
    return billing::event_identifier("shop/acme", "cus_acme", "api_calls", minute_s, revision, recovered);
  };
  const int64_t minute_s = kMinute_s - 60;
  add(kMinute_s, 0);
  enqueue();
  add(minute_s, 0);
  enqueue();
  world.rows("update meter_submissions set state = 'delivered' where identifier = $1", {identifier(minute_s, 0)});
  world.rows(
      "select ledger_recover('{\"generation\": 0, \"mark\": 5, \"shards\": []}'::jsonb, 60, 'ann', 'test', "
      "clock_timestamp())");
  add(minute_s, 1);
  add(minute_s, 2);
  enqueue();
  std::map<std::string, bool> may_be_there;
  for (const auto& one : claim()) may_be_there[one.event.identifier] = one.unknown_since_s > 0;
  EXPECT_EQ(may_be_there, (std::map<std::string, bool>{{identifier(kMinute_s, 0), true},
                                                       {identifier(minute_s, 1), true},
                                                       {identifier(minute_s, 2, 1), false}}));
  const int64_t next_s = world.number("select extract(epoch from now())::bigint / 60 * 60 + 60");
  add(next_s, 0);
  add(next_s, 1);
  enqueue();
  for (const auto& one : claim()) {
    EXPECT_EQ(one.unknown_since_s, 0);
    EXPECT_EQ(one.event.identifier.find("-g"), std::string::npos) << "a minute that no lost ledger knew";
  }
}

TEST_F(OutboxTest, TheFirstUnknownOutcomeIsRemembered) {
  world.add_aggregate("shop/acme", "api_calls", kMinute_s, 1);
  enqueue();
  const int64_t first_s = env.wall_s();
  billing::Outcome outcome;
  outcome.id = claim()[0].id;
  outcome.outcome_unknown = true;
  record(outcome);
  env.advance_ms(3'600'000);
  EXPECT_EQ(claim()[0].unknown_since_s, first_s);
  outcome.outcome_unknown = false;  // a later attempt that certainly had no effect says nothing of the first
  record(outcome);
  env.advance_ms(23 * 3'600'000);
  const auto last = claim();
  EXPECT_EQ(last[0].unknown_since_s, first_s);
  EXPECT_FALSE(billing::refuse_to_send(last[0], env.wall_s()).empty());
}

TEST_F(OutboxTest, GivenBackWithoutACallIsNoAttempt) {
  world.add_aggregate("shop/acme", "api_calls", kMinute_s, 1);
  enqueue();
  billing::Outcome outcome;
  outcome.id = claim()[0].id;
  outcome.sent = false;
  outcome.error = std::string("with a NUL \0 and \xff bytes", 25);
  record(outcome);
  EXPECT_EQ(claim()[0].attempts, 1);
}

TEST_F(OutboxTest, Backlog) {
  world.add_aggregate("shop/acme", "api_calls", kMinute_s, 1);
  world.add_aggregate("shop/globex", "api_calls", kMinute_s, 1);
  enqueue();
  const auto backlog = outbox.backlog().value();
  EXPECT_EQ(backlog.waiting, 1);
  EXPECT_EQ(backlog.held, 1);
  EXPECT_EQ(backlog.dead, 0);
  EXPECT_EQ(backlog.oldest_event_s, kMinute_s);
}

}  // namespace
}  // namespace tallygate::testing
