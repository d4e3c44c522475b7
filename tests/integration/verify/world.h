// A deployment in full: a migrated database, a Redis with epochs and a publication, Stripe with a meter and a customer.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "operator/escrow/epoch_keeper.h"
#include "operator/publish/publisher.h"
#include "operator/verify/verify.h"
#include "tests/integration/billing/stripe_emulator.h"
#include "tests/integration/support/postgres_server.h"
#include "tests/integration/support/redis_server.h"
#include "tests/unit/publish/sample.h"

namespace tallygate::testing {

class VerifyWorld {
 public:
  VerifyWorld()
      : url(PostgresServer::shared().create_database()), session(url), redis(system_env(), server.endpoint()) {
    open_epochs();
    customer = stripe().create_customer();
    publish();
  }

  // One for the binary: its state is only added to, but for what a test puts back.
  static StripeEmulator& stripe() {
    static StripeEmulator emulator;
    static const bool made = (emulator.create_meter("api_calls"), true);
    EXPECT_TRUE(made);
    return emulator;
  }

  void open_epochs() {
    escrow::EpochKeeperOptions options;
    options.database_url = url;
    options.redis = server.endpoint();
    options.interval_ms = 20;
    escrow::EpochKeeper keeper(system_env(), options);
    keeper.start();
    for (int i = 0; i < 500 && keeper.counters().shards_ready < redis_contract::kShards; ++i) system_env().sleep_ms(20);
    EXPECT_EQ(keeper.counters().shards_ready, redis_contract::kShards);
    keeper.stop();
  }

  void publish() {
    plan::Compiled compiled;
    publish::add_tenant(compiled, "shop/acme");
    compiled.billing[0].stripe_customer_id = customer;
    compiled.billing[0].meters = {meter("api_calls")};
    offer(compiled);
  }
  static plan::MeterPrice meter(const std::string& name) {
    plan::MeterPrice price;
    price.meter = *MeterName::parse(name);
    price.settlement = tenant::Settlement::kInvoice;
    price.prices.per_units = 1000;
    price.prices.tiers = {{std::nullopt, 400'000}};
    return price;
  }
  void offer(const plan::Compiled& compiled) {
    metrics::Registry registry;
    publish::PublisherOptions options;
    options.database_url = url;
    options.redis = server.endpoint();
    publish::Publisher publisher(system_env(), options, registry);
    publisher.offer(std::make_shared<const plan::Compiled>(compiled), system_env().mono_ns());
    const auto done = publisher.run_once();
    EXPECT_TRUE(done) << (done ? "" : done.error().message);
  }

  verify::Deployment deployment() const {
    return {url, server.endpoint(), billing::StripeOptions{stripe().base(), key, "2025-06-30.basil"}, 50};
  }
  verify::Report verify() const { return verify::verify(system_env(), deployment(), *http_); }

  void sql(const std::string& text) {
    const auto done = session.exec(text);
    if (!done) throw std::runtime_error(done.error().message);
  }

  std::string url;
  ledger::Session session;
  RedisServer server;
  redis::Client redis;
  std::string customer, key = StripeEmulator::kKey;

 private:
  std::unique_ptr<HttpClient> http_ = make_curl_client();
};

// The row of that check; outcome kOk and no name where there is none.
inline verify::Row row_of(const verify::Report& report, const std::string& check) {
  for (const auto& row : report.rows()) {
    if (row.check == check) return row;
  }
  return {};
}

// The report says that this, and only things of this kind, is not right.
inline void expect_fault(const verify::Report& report, const std::string& check, verify::Outcome outcome,
                         const std::string& detail) {
  const verify::Row row = row_of(report, check);
  EXPECT_EQ(row.outcome, outcome) << report.table();
  EXPECT_NE(row.detail.find(detail), std::string::npos) << report.table();
  EXPECT_FALSE(row.fix.empty()) << report.table();
  EXPECT_FALSE(report.all_right());
}

}  // namespace tallygate::testing
