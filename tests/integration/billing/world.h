// A ledger with tenants and usage records, for the tests of billing.
#pragma once

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/ledger/session.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {

class BillingWorld {
 public:
  BillingWorld() : url(PostgresServer::shared().create_database()), session(url) {}

  ledger::Rows rows(const std::string& sql, const ledger::Params& params = {}) {
    auto rows = session.exec(sql, params);
    if (!rows) throw std::runtime_error(rows.error().message);
    return *rows;
  }
  int64_t number(const std::string& sql, const ledger::Params& params = {}) {
    const auto result = rows(sql, params);
    return result.empty() ? -1 : result.integer(0, 0);
  }
  std::string text(const std::string& sql, const ledger::Params& params = {}) {
    const auto result = rows(sql, params);
    return result.empty() ? "" : std::string(result.text(0, 0));
  }

  void add_tenant(const std::string& id) {
    rows("insert into tenants (id, shard, doc, version) values ($1, 0, '{}', 1)", {id});
  }
  void add_meter(const std::string& tenant, const std::string& meter, const std::string& customer,
                 const std::string& settlement = "invoice") {
    rows(
        "insert into tenant_meters (tenant, meter, settlement, currency, per_units, tiers, stripe_customer_id)"
        " values ($1, $2, $3, 'GBP', 1000, '[{\"price_micros\": 400000}]', $4)",
        {tenant, meter, settlement, customer});
  }
  // `count` records of `units` each, one a second from `second_s` on.
  void add_usage(const std::string& tenant, const std::string& meter, int64_t second_s, int64_t count, int64_t units,
                 const std::string& buckets = "{}") {
    rows(
        "insert into usage_records (incarnation_id, seq, shard, tenant, meter, units, requests, second, dims, buckets,"
        " epoch, booked_at) select 1, $1::bigint + g, 0, $2, $3, $4::bigint, 1, to_timestamp($5::bigint + g), '{}', "
        "$7::text[], 1, now()"
        " from generate_series(0, $6::bigint - 1) g",
        {next_seq_, tenant, meter, units, second_s, count, buckets});
    next_seq_ += count;
  }
  // An aggregate with its posting, without records.
  void add_aggregate(const std::string& tenant, const std::string& meter, int64_t minute_s, int64_t units) {
    rows(
        "with made as (insert into usage_aggregates (tenant, meter, minute, units, requests, created_at) values"
        " ($1, $2, to_timestamp($3::bigint), $4::bigint, 1, now()) returning id) select id from made",
        {tenant, meter, minute_s, units});
    rows("select post_aggregates(array[(select max(id) from usage_aggregates)], now())");
  }
  int64_t balance(const std::string& kind, const std::string& meter = "") {
    return number(
        "select coalesce(sum(p.amount), 0)::bigint from ledger_postings p join ledger_accounts a on a.id = p.account"
        " where a.kind = $1 and ($2 = '' or a.commodity = 'unit:' || $2)",
        {kind, meter});
  }
  int64_t in_state(const std::string& state) {
    return number("select count(*) from meter_submissions where state = $1", {state});
  }

  std::string url;
  ledger::Session session;
  metrics::Registry registry;

 private:
  int64_t next_seq_ = 1;
};

}  // namespace tallygate::testing
