// Redis is away, and the ledger is there: the operator's real API on a real PostgreSQL leases to pods (A8). The world
// plays the operator towards Redis; epochs, members and funding are told to the ledger too.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "operator/api/api_server.h"
#include "operator/api/service_tokens.h"
#include "operator/ledger/tenant_store.h"
#include "tests/integration/sidecar/world.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {
namespace {

const std::string kToken = "tgs_sidecar_0123456789abcdef012345";

// While it lives, whatever the ledger is asked for the tenant waits.
class Lock {
 public:
  Lock(const std::string& url, const std::string& tenant) {
    thread_ = std::thread([this, url, tenant] {
      ledger::Session session(url);
      const auto held = session.transact([&](ledger::Transaction& transaction) -> Result<void> {
        auto rows = transaction.exec("select 1 from shard_epochs where shard = $1 for update",
                                     {redis_contract::shard_of(tenant)});
        if (!rows) return tl::unexpected(rows.error());
        locked_ = true;
        while (!released_) system_env().sleep_ms(5);
        return {};
      });
      EXPECT_TRUE(held);
      locked_ = true;
    });
    while (!locked_) system_env().sleep_ms(5);
  }
  ~Lock() { release(); }
  void release() {
    released_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> locked_ = false, released_ = false;
  std::thread thread_;
};

class LedgerLeases : public ::testing::Test {
 protected:
  LedgerLeases() : url(PostgresServer::shared().create_database()), session(url), folder(world.temporary_folder()) {
    std::ofstream(folder + "/tokens.json") << R"({"tokens":[{"name":"sidecar","sha256":")" << sha256_hex(kToken)
                                           << R"(","scopes":["lease:write"],"tenants":["*"]}]})";
    std::ofstream(folder + "/token") << kToken << "\n";
    settings.listen = config::ListenAddress{"127.0.0.1", 0};
    settings.service_tokens_file = folder + "/tokens.json";
    start_api();
  }
  void start_api() {
    server.reset();
    registry = std::make_unique<metrics::Registry>();
    auto made = api::ApiServer::create(system_env(), url, std::nullopt, settings, *registry);
    ASSERT_TRUE(made) << made.error().message;
    server = std::move(*made);
    server->offer(std::make_shared<plan::Compiled>());  // before the manifests are there nobody is served
    ASSERT_TRUE(server->start());
    settings.listen->port = server->port();  // and on the same port again
  }
  int64_t number(const std::string& sql, const ledger::Params& params = {}) {
    const auto rows = session.exec(sql, params);
    EXPECT_TRUE(rows) << rows.error().message;
    return !rows || rows->empty() ? -1 : rows->integer(0, 0);
  }
  Pod::Options options() {
    Pod::Options o{.folder = "", .admission = {.wait_ms = 800, .waiting_max = 1000}};
    o.ledger = sidecar::LedgerEndpoint{};
    o.ledger->address.host = "127.0.0.1";
    o.ledger->address.port = server->port();
    o.ledger->address.scheme = "http";
    o.ledger->host = "ledger";
    o.ledger->token_file = folder + "/token";
    return o;
  }
  void publish(const tenant::Tenant& t) {
    ledger::TenantRecord record;
    record.tenant = t;
    ledger::TenantStore store(system_env(), session);
    ASSERT_TRUE(store.publish(std::span(&record, 1), {}));
  }
  // As World::ready, in the ledger too. Of `funded` Redis has everything.
  void ready(int64_t amount, int64_t funded) {
    world.basics(amount);
    world.op.open();
    if (funded > 0) world.op.fund(kTenant, world.bucket(), funded, false, amount - funded);
    auto t = world.tenant(amount);
    t.version = 1;
    publish(t);
    tell_epoch();
    if (funded > 0) {
      number(
          "with a as (insert into escrow_accounts (tenant, bucket, name, wallet, window_start, window_end, created_at) "
          "values "
          "($1, $2, 'calls', false, now(), now() + interval '1 day', now()) returning id) insert into escrow_floats "
          "(account, "
          "epoch, funded) select id, $3, $4 from a returning 1",
          {kTenant, world.bucket(), world.op.epoch, funded});
    }
  }
  void tell_epoch() {
    number("update shard_epochs set number = $1 where shard = $2 returning 1",
           {world.op.epoch, redis_contract::shard_of(kTenant)});
  }
  // A pod that knows tenant and epoch, and is registered in the ledger.
  Pod& joined(Pod::Options o) {
    Pod& pod = world.pod(std::move(o));
    const auto known = [&] {
      sidecar::IdentityEntry* entry = pod.directory->identity(true, kKey);
      return pod.escrow->epoch(redis_contract::shard_of(kTenant)) == world.op.epoch &&
             entry->known == sidecar::Known::kYes && entry->tenant->fetched;
    };
    EXPECT_TRUE(world.until(known));
    number(
        "insert into incarnations (shard, incarnation, first_epoch, boot_id, pod, software, registered_at) values ($1, "
        "$2, $3, 'b', "
        "'p', 's', now()) returning id",
        {redis_contract::shard_of(kTenant), pod.log->incarnation(), world.op.epoch});
    return pod;
  }
  int64_t lent() { return number("select coalesce(sum(lent), 0)::bigint from escrow_floats"); }
  int64_t free_in_redis() { return world.op.field(kTenant, world.bucket(), "free"); }
  // Admits `n` with Redis there, and goes on without it until the ledger has lent something: how many in all.
  int64_t serve_into_the_outage(Pod& pod, int n) {
    int64_t admitted = world.admitted_of(pod, n);
    EXPECT_EQ(admitted, n);
    world.pause();
    while (lent() == 0 && world.outcome(pod) == "admitted") ++admitted;
    EXPECT_GT(lent(), 0);
    return admitted;
  }
  int64_t drain(Pod& pod, std::string* end) {
    for (int64_t admitted = 0;; ++admitted) {
      *end = world.outcome(pod);
      if (*end != "admitted") return admitted;
    }
  }

  World world;
  std::string url;
  ledger::Session session;
  std::string folder;
  api::ApiSettings settings;
  std::unique_ptr<metrics::Registry> registry;
  std::unique_ptr<api::ApiServer> server;
};

TEST_F(LedgerLeases, ServeExactlyTheLimitAndThenTheQuotaIsExhausted) {
  ready(200, 0);
  Pod& a = joined(options());
  Pod& b = joined(options());
  world.pause();
  int64_t admitted = 0;
  std::string end_a, end_b;
  for (int i = 0; i < 60; ++i) admitted += (world.outcome(a) == "admitted") + (world.outcome(b) == "admitted");
  EXPECT_EQ(admitted, 120);
  admitted += drain(a, &end_a);
  EXPECT_EQ(end_a, "429 QuotaExhausted");
  // What b holds and nobody asks for is lent on.
  ASSERT_TRUE(world.until([&] {
    while (world.outcome(a) == "admitted") ++admitted;
    return admitted == 200;
  })) << admitted;
  EXPECT_EQ(world.outcome(a), "429 QuotaExhausted");
  EXPECT_EQ(world.outcome(b), "429 QuotaExhausted");
  EXPECT_EQ(lent(), 200);
  EXPECT_GT(a.ledger->counters().granted_units.load(), 0u);
  EXPECT_GT(a.ledger->counters().dry.load(), 0u);
}

// Not even the first request waits in vain for a Redis that hangs.
TEST_F(LedgerLeases, AreAskedForWhileRedisHangs) {
  ready(200, 100);
  Pod& pod = joined(options());
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.pause();
  std::string end;
  const int64_t admitted = drain(pod, &end);
  EXPECT_EQ(end, "503 QuotaUnavailable") << "Redis has the rest: it is neither used up nor to be had";
  const auto held = static_cast<int64_t>(pod.escrow->counters().granted_units.load());
  EXPECT_EQ(admitted, held - 1 + 100) << "what Redis had leased, and all of the ledger's";
  const int64_t began_ms = world.env.mono_ms();
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  EXPECT_LT(world.env.mono_ms() - began_ms, 200) << "who cannot be helped does not wait";
  world.resume();
  int64_t more = 0;
  ASSERT_TRUE(world.until([&] {
    while (world.outcome(pod) == "admitted") ++more;
    return admitted + 1 + more == 200;
  })) << admitted + 1 + more;
}

// Redis is there, and grants nothing: that is as good as away.
TEST_F(LedgerLeases, AreAskedForWhereNobodyFundsRedis) {
  ready(200, 0);
  Pod& pod = joined(options());
  std::string end;
  EXPECT_EQ(drain(pod, &end), 200);
  EXPECT_EQ(end, "429 QuotaExhausted");
  EXPECT_EQ(lent(), 200);
  EXPECT_NE(pod.escrow->stalled().find("nobody funds"), std::string::npos) << pod.escrow->stalled();
}

struct NoWrites {
  const char* name;
  redis::Command how;
  const char* said;
};
class LedgerLeasesOfA : public LedgerLeases, public ::testing::WithParamInterface<NoWrites> {};

TEST_P(LedgerLeasesOfA, RedisThatTakesNoWrites) {
  ready(200, 100);
  Pod& pod = joined(options());
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.operating = false;
  ASSERT_FALSE(world.op.call(GetParam().how).is_error());
  std::string end;
  const int64_t admitted = drain(pod, &end);
  EXPECT_EQ(end, "503 QuotaUnavailable") << "Redis has the rest: it is neither used up nor to be had";
  const auto held = static_cast<int64_t>(pod.escrow->counters().granted_units.load());
  EXPECT_EQ(admitted, held - 1 + 100) << "what Redis had leased, and all of the ledger's";
  EXPECT_NE(pod.escrow->stalled().find(GetParam().said), std::string::npos) << pod.escrow->stalled();
  // And back: exact, and nothing is said any more.
  ASSERT_FALSE(world.op.call({"CONFIG", "SET", "maxmemory", "0"}).is_error());
  ASSERT_FALSE(world.op.call({"REPLICAOF", "NO", "ONE"}).is_error());
  if (GetParam().name == std::string("Replica")) return;  // another history now: an epoch of its own, which others test
  int64_t more = 0;
  ASSERT_TRUE(world.until([&] {
    while (world.outcome(pod) == "admitted") ++more;
    return admitted + 1 + more == 200;
  })) << admitted + 1 + more;
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  EXPECT_EQ(lent(), 100);
}

INSTANTIATE_TEST_SUITE_P(Each, LedgerLeasesOfA,
                         ::testing::Values(NoWrites{"OutOfMemory", {"CONFIG", "SET", "maxmemory", "1"}, "OOM"},
                                           NoWrites{"Replica", {"REPLICAOF", "127.0.0.1", "1"}, "a replica"}),
                         [](const auto& info) { return info.param.name; });

TEST_F(LedgerLeases, IdleUnitsGoBackToTheLedgerFirst) {
  ready(200, 100);
  auto o = options();
  o.escrow.idle_return_ms = 200;
  Pod& pod = joined(o);
  int64_t admitted = serve_into_the_outage(pod, 10);
  const auto from_redis = static_cast<int64_t>(pod.escrow->counters().granted_units.load());
  // All that Redis leased is spent first or kept; of the ledger's stays what was spent beyond it.
  ASSERT_TRUE(world.until([&] { return lent() == std::max<int64_t>(0, admitted - from_redis); })) << lent();
  world.resume();
  // A call that Redis had before it hung may be carried out only now; the next answer tells of it.
  const auto settled = [&] {
    admitted += world.outcome(pod) == "admitted";
    world.run_ms(600);
    return pod.redis.connected() && free_in_redis() + (100 - lent()) == 200 - admitted;
  };
  ASSERT_TRUE(world.until(settled, 15'000)) << free_in_redis() << " " << lent() << " " << admitted;
}

// The ledger lends, and its answer comes too late to be heard: what it lent is found out, and comes back.
TEST_F(LedgerLeases, WhatALostAnswerHadLentComesBack) {
  ready(1000, 0);
  auto o = options();
  o.escrow.idle_return_ms = o.escrow.idle_return_scarce_ms = 200;
  Pod& pod = joined(o);
  world.pause();
  Lock lock(url, kTenant);
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  EXPECT_TRUE(world.until([&] { return pod.ledger->counters().errors.load() > 0; }));
  world.resume();
  EXPECT_TRUE(world.until([&] { return pod.redis.connected(); }));
  lock.release();
  const auto granted = [&] { return number("select coalesce(sum(granted), 0)::bigint from ledger_leases"); };
  ASSERT_TRUE(world.until([&] { return granted() > 0; }));
  EXPECT_TRUE(world.until([&] { return lent() == 0; })) << lent() << " units are nobody's to spend";
}

// A tenant whose rows are locked keeps its own waiting, and nobody else from the ledger.
TEST_F(LedgerLeases, ATenantThatIsLockedIsNoOutage) {
  const std::string other = "shop/other";
  ASSERT_NE(redis_contract::shard_of(other), redis_contract::shard_of(kTenant));
  for (const std::string& id : {std::string(kTenant), other}) {
    auto t = world.tenant(100, id);
    t.version = 1;
    publish(t);
  }
  Lock lock(url, other);
  sidecar::LedgerClient client(world.loop, *options().ledger);
  const std::string body = R"({"incarnation":"pod.a","epoch":1,"buckets":[],"closed":[]})";
  bool given_up = false;
  client.post(other, body, [&](Result<std::string> result) {
    EXPECT_FALSE(result);
    given_up = true;
  });
  int answered = 0, failed = 0;
  for (int i = 0; i < 40; ++i) {
    client.post(kTenant, body, [&](Result<std::string> result) { ++(result ? answered : failed); });
    world.run_ms(50);
  }
  EXPECT_TRUE(given_up);
  EXPECT_EQ(failed, 0);
  EXPECT_GT(answered, 20);
}

TEST_F(LedgerLeases, ANewerEpochIsHeardFromTheLedger) {
  ready(1000, 0);
  Pod& pod = joined(options());
  world.own_server->kill();
  world.operating = false;
  ASSERT_TRUE(world.until([&] { return !pod.redis.connected(); }));
  EXPECT_EQ(world.admitted_of(pod, 20), 20);
  const int64_t old = world.op.epoch++;
  tell_epoch();
  int64_t admitted = 20;
  ASSERT_TRUE(world.until([&] {
    admitted += world.outcome(pod) == "admitted";
    return pod.escrow->shard(redis_contract::shard_of(kTenant)).epoch == old + 1;
  }));
  EXPECT_EQ(world.admitted_of(pod, 5), 5);
  // Of the old epoch's lease only what was spent stays on hold.
  ASSERT_TRUE(world.until([&] { return number("select count(*) from ledger_leases where closed") == 1; }));
  const int64_t spent_old = number("select lent from escrow_floats where epoch = $1", {old});
  ASSERT_TRUE(world.until([&] { return lent() == admitted + 5; })) << lent();
  EXPECT_LE(spent_old, admitted);
}

// DebtFloor, with nothing but the ledger: what the balance and the debt limit pay for, to the unit; then 402, until a
// top-up.
TEST_F(LedgerLeases, AWalletPaysDownToItsFloorAndATopUpIsHeardOf) {
  world.basics(1000);
  world.op.open();
  auto t = world.tenant(1000);
  t.limits.clear();
  t.meters = {meter("api_calls", tenant::Settlement::kWallet)};
  t.version = 1;
  world.op.put(t);
  ledger::TenantRecord record;
  record.tenant = t;
  ledger::PricedMeter priced;
  priced.meter = t.meters[0].name;
  priced.settlement = tenant::Settlement::kWallet;
  priced.currency = "GBP";
  priced.per_units = 1;
  priced.tiers = {{tenant::kUnbounded, 50'000}};
  record.meters.push_back(priced);
  record.wallet = ledger::WalletTerms{"GBP", 1'000'000};
  ledger::TenantStore store(system_env(), session);
  ASSERT_TRUE(store.publish(std::span(&record, 1), {}));
  const auto credit = [&](const std::string& key, int64_t micros) {
    number("select success::int from add_wallet_credits($1, $2, null, 'GBP', $3, 'x', now())", {kTenant, key, micros});
  };
  credit("first", 2'000'000);
  tell_epoch();
  Pod& pod = joined(options());
  world.pause();
  std::string end;
  EXPECT_EQ(drain(pod, &end), 60);
  EXPECT_EQ(end, "402 BalanceExhausted");
  EXPECT_EQ(number("select held_micros from wallets"), 3'000'000);
  credit("second", 500'000);
  int64_t more = 0;
  ASSERT_TRUE(world.until([&] {
    more += world.outcome(pod) == "admitted";
    return more == 10;
  })) << more;
  EXPECT_EQ(world.outcome(pod), "402 BalanceExhausted");
}

// Dropped without a word, as kill -9 does it; the successor finds what stands in the folder.
TEST_F(LedgerLeases, ASuccessorGivesBackExactlyTheRestToBoth) {
  ready(400, 200);
  auto o = options();
  o.folder = world.temporary_folder();
  Pod* pod = &joined(o);
  int64_t admitted = serve_into_the_outage(*pod, 10);
  admitted += world.admitted_of(*pod, 23);
  world.drop(*pod);
  const int64_t lent_before = lent();
  Pod& successor = world.pod(o);
  // Redis is still away: the ledger's part is settled all the same.
  ASSERT_TRUE(world.until([&] { return number("select count(*) from ledger_leases where closed") == 1; }));
  EXPECT_EQ(lent(), std::min(lent_before, admitted)) << "what was spent counts against the ledger's lease first";
  EXPECT_EQ(successor.handover->returning(), 1u) << "and Redis's is still owed";
  world.resume();
  ASSERT_TRUE(world.until([&] { return successor.handover->returning() == 0; }));
  EXPECT_EQ(free_in_redis() + (200 - lent()), 400 - admitted);
  world.op.fund(kTenant, world.bucket(), 400 - lent());  // the ledger's rest goes to Redis
  std::string last;
  EXPECT_EQ(drain(successor, &last), 400 - admitted) << "not one unit is lost or there twice";
  EXPECT_EQ(last, "429 QuotaExhausted");
}

TEST_F(LedgerLeases, AfterAnotherBootNothingIsGivenBack) {
  ready(400, 0);
  auto o = options();
  o.folder = world.temporary_folder();
  Pod* pod = &joined(o);
  world.pause();
  EXPECT_EQ(world.admitted_of(*pod, 5), 5);
  world.drop(*pod);
  const int64_t before = lent();
  o.boot_id = "3f0a9c52-0000-4000-8000-000000000002";
  world.pod(o);
  world.run_ms(500);
  EXPECT_EQ(lent(), before) << "rule 2: what it spent is not known";
}

TEST_F(LedgerLeases, ADrainGivesBackToBoth) {
  ready(400, 200);
  Pod& pod = joined(options());
  int64_t admitted = serve_into_the_outage(pod, 10);
  world.resume();
  ASSERT_TRUE(world.until([&] { return pod.redis.connected(); }));
  bool returned = false;
  pod.give_back([&] { returned = true; });
  ASSERT_TRUE(world.until([&] { return returned; }));
  EXPECT_EQ(free_in_redis() + (200 - lent()), 400 - admitted);
  EXPECT_TRUE(pod.ledger->notes().empty());
}

// Whatever is wrong can be mended: nothing is given up meanwhile, and it is seen.
TEST_F(LedgerLeases, ASettlementThatIsRefusedIsSeenAndDoneOnceItIsTaken) {
  const std::string other = "tgs_other_0123456789abcdef012345678";
  std::ofstream(folder + "/tokens.json") << R"({"tokens":[{"name":"sidecar","sha256":")" << sha256_hex(kToken)
                                         << R"(","scopes":["lease:write"],"tenants":["*"]},{"name":"other","sha256":")"
                                         << sha256_hex(other)
                                         << R"(","scopes":["lease:write"],"tenants":["shop/other"]}]})";
  start_api();
  ready(400, 200);
  Pod& pod = joined(options());
  const int64_t admitted = serve_into_the_outage(pod, 10), held = lent();
  world.resume();
  ASSERT_TRUE(world.until([&] { return pod.redis.connected(); }));
  const auto& counters = pod.ledger->counters();
  // With the time of the one before: after a 401 it is read all the same.
  const auto use_token = [&](const std::string& token) {
    const auto written = std::filesystem::last_write_time(folder + "/token");
    std::ofstream(folder + "/token") << token << "\n";
    if (token == other) std::filesystem::last_write_time(folder + "/token", written);
  };
  EXPECT_EQ(counters.unsettled.load(), 0);
  use_token("tgs_nobody_0123456789abcdef0123456");
  bool returned = false;
  pod.give_back([&] { returned = true; });
  ASSERT_TRUE(world.until([&] { return pod.ledger->last_error().find("401") != std::string::npos; }));
  ASSERT_TRUE(world.until([&] { return counters.unsettled_refused.load() == 1; }));
  use_token(other);
  ASSERT_TRUE(world.until([&] { return pod.ledger->last_error().find("TenantNotAllowed") != std::string::npos; }))
      << pod.ledger->last_error();
  EXPECT_EQ(counters.unsettled.load(), 1);
  EXPECT_EQ(counters.unsettled_refused.load(), 1);
  EXPECT_EQ(lent(), held) << "nothing came back, nothing is lost";
  EXPECT_FALSE(returned);
  EXPECT_FALSE(pod.ledger->notes().empty());
  use_token(kToken);
  ASSERT_TRUE(world.until([&] { return returned; }, 20'000));
  EXPECT_EQ(counters.unsettled.load(), 0);
  EXPECT_EQ(counters.unsettled_refused.load(), 0);
  EXPECT_EQ(free_in_redis() + (200 - lent()), 400 - admitted) << "exactly the rest";
  EXPECT_TRUE(pod.ledger->notes().empty());
}

TEST_F(LedgerLeases, WindowsOfAMinuteAreRedisAlone) {
  auto t = world.tenant(1000);
  t.limits.push_back(world.limit("burst", 5));
  t.limits.back().window = tenant::WindowKind::kMinute;
  ready(1000, 500);
  world.op.put(t);
  Pod& pod = joined(options());
  EXPECT_EQ(world.outcome(pod), "admitted");
  world.pause();
  ASSERT_TRUE(world.until([&] { return !pod.redis.connected(); }));
  std::string end;
  EXPECT_LE(drain(pod, &end), 5);
  EXPECT_EQ(end, "503 QuotaUnavailable");
  EXPECT_EQ(pod.ledger->counters().errors.load(), 0u) << "the ledger is not asked for what it does not know";
}

TEST_F(LedgerLeases, ATenantThatTheLedgerConfirmsIsNotStale) {
  ready(1000, 0);
  auto t = world.tenant(1000);
  t.stale_after_ms = 1000;
  world.op.put(t);
  Pod& pod = joined(options());
  world.pause();
  world.run_ms(1500);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(world.outcome(pod), "admitted");
    world.run_ms(400);
  }
  // A change that only the ledger knows is in force: a raised version, then a suspension.
  auto changed = pod.directory->identity(true, kKey)->tenant->doc;
  changed.version += 1;
  changed.suspended = true;
  changed.suspend_reason = "unpaid";
  publish(changed);
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "403 Suspended"; }));
  // Lifted while the ledger is away too: nobody confirms anything.
  changed.version += 1;
  changed.suspended = false;
  publish(changed);
  server.reset();
  world.run_ms(1500);
  EXPECT_NE(world.outcome(pod), "admitted");
}

// What the ledger itself suspends is in no document of the manifests; it ends when Redis, there again, does not say it.
TEST_F(LedgerLeases, ASuspensionOfTheLedgersOwnIsInForceUntilRedisIsBack) {
  ready(1000, 500);
  Pod& pod = joined(options());
  world.pause();
  EXPECT_EQ(world.outcome(pod), "admitted");
  number("insert into wallets (tenant, currency, suspended_reason) values ($1, 'GBP', 'dispute') returning 1",
         {kTenant});
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "403 Suspended"; }));
  number("update wallets set suspended_reason = null returning 1");
  world.resume();
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(LedgerLeases, WithoutAnAnswerItIsOnUnavailableAtOnceAndHeals) {
  ready(1000, 0);
  Pod& pod = joined(options());
  world.pause();
  ASSERT_TRUE(world.until([&] { return !pod.redis.connected(); }));
  server.reset();
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  const int64_t began_ms = world.env.mono_ms();
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  EXPECT_LT(world.env.mono_ms() - began_ms, 200);
  EXPECT_GT(pod.ledger->counters().errors.load(), 0u);
  start_api();
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(LedgerLeases, TheTokenFileIsReadAgainWhenItChanges) {
  ready(1000, 0);
  std::ofstream(folder + "/token") << "tgs_another_0123456789abcdef0123456789";
  Pod& pod = joined(options());
  world.pause();
  ASSERT_TRUE(world.until([&] { return !pod.redis.connected(); }));
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  EXPECT_NE(pod.ledger->last_error().find("401"), std::string::npos) << pod.ledger->last_error();
  std::ofstream(folder + "/token") << kToken << "\n";
  ASSERT_TRUE(world.until([&] { return world.outcome(pod) == "admitted"; }));
}

TEST_F(LedgerLeases, OneThatIsNotRegisteredGetsNothing) {
  ready(1000, 0);
  Pod& pod = joined(options());
  number("delete from incarnations returning 1");
  world.pause();
  EXPECT_EQ(world.outcome(pod), "503 QuotaUnavailable");
  EXPECT_GT(pod.ledger->counters().refused.load(), 0u);
  EXPECT_EQ(lent(), 0);
}

}  // namespace
}  // namespace tallygate::testing
