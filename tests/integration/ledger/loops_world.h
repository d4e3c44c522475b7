// The loops against a real Redis and PostgreSQL, with a sidecar's side of the contract played by hand.
#pragma once

#include "core/redis_client/client.h"
#include "core/redis_contract/scripts.h"
#include "operator/escrow/epoch_keeper.h"
#include "operator/escrow/funder.h"
#include "operator/pump/pump.h"
#include "tests/integration/ledger/world.h"
#include "tests/integration/support/redis_server.h"

namespace tallygate::testing {

class LoopsWorld {
 public:
  explicit LoopsWorld(std::string database_url = PostgresServer::shared().create_database())
      : url(std::move(database_url)), client(env, redis.endpoint()) {
    bucket = today("calls-day");
  }

  void start_pump() { start_pump(env); }
  void start_pump(Env& clock) {
    pump = std::make_unique<pump::Pump>(clock, pump_options());
    pump->start();
  }
  void start() { start(env); }
  // `clock`: with the ledger's time.
  void start(Env& clock) {
    keeper_options.database_url = url;
    keeper_options.redis = redis.endpoint();
    keeper = std::make_unique<escrow::EpochKeeper>(clock, keeper_options);
    funder = std::make_unique<escrow::Funder>(
        clock, escrow::FunderOptions{.database_url = url, .redis = redis.endpoint()}, *keeper);
    keeper->start();
    funder->start();
    start_pump(clock);
  }
  void stop() {
    if (pump) pump->stop();
    if (funder) funder->stop();
    if (keeper) keeper->stop();
  }
  ~LoopsWorld() { stop(); }

  pump::PumpOptions pump_options() const { return {.database_url = url, .redis = redis.endpoint()}; }

  std::string today(const std::string& limit) {
    return redis_contract::BucketId{limit, false, env.wall_s() / kDay_s * kDay_s, kDay_s}.str();
  }
  void publish(int64_t amount) {
    const auto record = tenant_record(tenant, {hard_limit("calls-day", amount)});
    ledger::TenantStore tenants(env, session);
    must(tenants.publish(std::span(&record, 1), {}));
  }
  int64_t number(const std::string& sql, const ledger::Params& params = {}) {
    const auto rows = session.exec(sql, params);
    return !rows || rows->empty() ? -1 : rows->integer(0, 0);
  }
  // Waits until `done`, at most `within_ms`; how long it took, or -1.
  int64_t eventually(const std::function<bool()>& done, int64_t within_ms = 5000) {
    const int64_t start = env.mono_ms();
    while (true) {
      if (done()) return env.mono_ms() - start;
      if (env.mono_ms() - start > within_ms) return -1;
      env.sleep_ms(3);
    }
  }

  void send(ledger::StagedRecord record) {
    must(client.call({"XADD", redis_contract::usage_key(shard), "*", "r", redis_contract::encode(record.record)}));
  }
  int64_t watermark(const std::string& incarnation) {
    const auto reply = client.call({"HGET", redis_contract::watermark_key(shard), incarnation});
    return reply ? reply->to_integer() : -1;
  }
  int64_t epoch() {
    const auto reply = client.eval(redis_contract::kRenew, {redis_contract::epoch_key(shard)}, {});
    return reply ? reply->to_integer() : -1;
  }

  struct Lease {
    std::string status;
    int64_t granted = 0, remaining = 0;
  };
  // Asks for a cumulative total, having given back as much as `returned`.
  Lease lease(const std::string& incarnation, int64_t total, int64_t returned = 0) {
    using namespace redis_contract;
    const int64_t e = epoch();
    const auto reply =
        client.eval(kLease,
                    {epoch_key(shard), registered_key(shard, e), closed_key(shard, e), want_key(shard, e),
                     watermark_key(shard), held_key(shard, e, incarnation), minted_key(shard, e), heard_key(shard),
                     ledger_key(shard), bucket_key(shard, e, tenant, bucket)},
                    {std::to_string(e), incarnation, std::to_string(env.wall_ms() + caller_ahead_ms), want_channel(),
                     std::string(shard < 10 ? "0" : "") + std::to_string(shard), "", "0", "0", std::to_string(total),
                     std::to_string(total), std::to_string(returned), "0", member(tenant, bucket), "0", "0"});
    if (!reply || !reply->is_array() || reply->elements.empty()) return {};
    Lease lease{reply->elements[0].text};
    if (reply->elements.size() > 8) {
      lease.granted = reply->elements[8].elements[0].to_integer();
      lease.remaining = reply->elements[8].elements[1].to_integer();
    }
    return lease;
  }
  bool registered(const std::string& incarnation) {
    return eventually([&] { return lease(incarnation, 0).status == "GRANT"; }) >= 0;
  }
  // Until the answer is not WAIT.
  Lease lease_patiently(const std::string& incarnation, int64_t total, int64_t within_ms = 3000) {
    Lease last;
    eventually([&] { return (last = lease(incarnation, total)).status != "WAIT"; }, within_ms);
    return last;
  }

  std::string tenant = "shop/acme";  // tests that change it stay in the shard
  const int shard = redis_contract::shard_of(tenant);
  std::string bucket;
  int64_t caller_ahead_ms = 0;  // how far the clock of who leases is
  Env& env = system_env();
  std::string url;
  ledger::Session session{url};
  RedisServer redis;
  redis::Client client;
  escrow::EpochKeeperOptions keeper_options = {};  // but for where the servers are
  std::unique_ptr<escrow::EpochKeeper> keeper;
  std::unique_ptr<escrow::Funder> funder;
  std::unique_ptr<pump::Pump> pump;
};

}  // namespace tallygate::testing
