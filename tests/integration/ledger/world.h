// What the ledger's tests share: a database of their own, a clock that moves when told, tenants, records, look-ups.
#pragma once

#include <gtest/gtest.h>

#include "core/redis_contract/bucket_id.h"
#include "core/redis_contract/keys.h"
#include "operator/ledger/escrow_store.h"
#include "operator/ledger/tenant_store.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {

inline constexpr int64_t kNow_s = 1'795'000'000;  // a moment in November 2026
inline constexpr int64_t kDay_s = 86'400;
inline constexpr int64_t kWindowStart_s = kNow_s / kDay_s * kDay_s;

// Ends the test with the error's text where the result is one.
template <class T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().message;
    throw std::runtime_error(result.error().message);
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

inline tenant::Limit hard_limit(const std::string& name, int64_t amount) {
  tenant::Limit limit;
  limit.name = *LimitName::parse(name);
  limit.meter = *MeterName::parse("api_calls");
  limit.amount = limit.capacity = amount;
  limit.window = tenant::WindowKind::kDay;
  return limit;
}

inline ledger::TenantRecord tenant_record(const std::string& id, std::vector<tenant::Limit> limits) {
  ledger::TenantRecord record;
  record.tenant.id = *TenantId::parse(id);
  record.tenant.version = 1;
  record.tenant.plan = *PlanName::parse("standard");
  record.tenant.limits = std::move(limits);
  ledger::PricedMeter calls;
  calls.meter = *MeterName::parse("api_calls");
  calls.currency = "GBP";
  calls.per_units = 1000;
  calls.tiers = {{tenant::kUnbounded, 400'000}};
  record.meters.push_back(calls);
  return record;
}

inline std::string window_of(const std::string& limit) {
  return redis_contract::BucketId{limit, false, kWindowStart_s, kDay_s}.str();
}

class LedgerWorld {
 public:
  LedgerWorld()
      : env(1, kNow_s * 1'000'000'000),
        url(PostgresServer::shared().create_database()),
        session(url, ledger::kBookingSetup),
        store(env, session) {}

  void publish(const ledger::TenantRecord& record) {
    ledger::TenantStore tenants(env, session);
    must(tenants.publish(std::span(&record, 1), {}));
  }
  int64_t open(int shard) {
    const int one[] = {shard};
    const ledger::ShardEpoch expected{shard, must(store.members(one))[0].number};
    return must(store.open(std::span(&expected, 1)))[0].number;
  }
  ledger::FundAnswer fund(const ledger::FundRequest& request, int64_t target = 5000) {
    return must(store.fund(std::span(&request, 1), target))[0];
  }
  int64_t number(const std::string& sql, const ledger::Params& params = {}) {
    const ledger::Rows rows = must(session.exec(sql, params));
    return rows.empty() ? -1 : rows.integer(0, 0);
  }
  int64_t booked(const std::string& tenant, const std::string& bucket) {
    return number("select booked from escrow_accounts where tenant = $1 and bucket = $2", {tenant, bucket});
  }
  int64_t held(const std::string& tenant, const std::string& bucket) {
    return number("select held_units(id) from escrow_accounts where tenant = $1 and bucket = $2", {tenant, bucket});
  }
  // Books and answers the watermark of the only incarnation concerned, -1 where there is none.
  int64_t book(const std::vector<ledger::StagedRecord>& records) {
    const auto booked = must(store.book(records, {}));
    return booked.empty() ? -1 : booked[0].watermark;
  }

  ManualEnv env;
  std::string url;
  ledger::Session session;
  ledger::EscrowStore store;
};

inline ledger::StagedRecord hello(int shard, const std::string& incarnation) {
  redis_contract::Record record;
  record.kind = redis_contract::RecordKind::kHello;
  record.incarnation = incarnation;
  record.seq = 1;
  record.boot_id = "boot";
  record.pod = "pod";
  record.software = "test";
  return {shard, record};
}

inline ledger::StagedRecord usage(int shard, const std::string& incarnation, int64_t seq, const std::string& tenant,
                                  int64_t units, std::vector<std::string> buckets, int64_t epoch = 1,
                                  const std::string& meter = "api_calls") {
  redis_contract::Record record;
  record.incarnation = incarnation;
  record.seq = seq;
  record.epoch = epoch;
  record.tenant = tenant;
  record.meter = meter;
  record.units = units;
  record.requests = 1;
  record.second = kNow_s;
  record.dims = {{"route", "chat"}};
  record.buckets = std::move(buckets);
  return {shard, record};
}

}  // namespace tallygate::testing
