#include "tests/integration/ledger/loops_world.h"

#include <cstdlib>
#include <map>

#include "core/money.h"
#include "operator/escrow/outside.h"

namespace tallygate::testing {
namespace {

TEST(Loops, ReadyWellWithinASecond) {
  LoopsWorld w;
  const int64_t start = w.env.mono_ms();
  w.start();
  ASSERT_GE(w.eventually([&] { return w.keeper->counters().shards_ready == 64; }), 0);
  EXPECT_LT(w.env.mono_ms() - start, 1000);
  EXPECT_EQ(w.keeper->counters().epochs_opened, 64);
  w.env.sleep_ms(700);
  EXPECT_EQ(w.keeper->counters().epochs_opened, 64);
}

// Two on one Redis would sell each other's quota.
TEST(Loops, ARedisThatServesAnotherLedgerIsLeftAlone) {
  LoopsWorld w;
  w.start();
  ASSERT_GE(w.eventually([&] { return w.keeper->counters().shards_ready == 64; }), 0);
  const int64_t epoch = w.epoch();
  escrow::EpochKeeperOptions options;
  options.database_url = PostgresServer::shared().create_database();
  must(ledger::Session(options.database_url).exec("update ledger_history set id = md5('another')"));
  options.redis = w.redis.endpoint();
  options.history = std::make_shared<ledger::History>();
  escrow::EpochKeeper other(w.env, options);
  other.start();
  ASSERT_GE(w.eventually([&] { return options.history->foreign(); }), 0);
  EXPECT_FALSE(options.history->redis_is_ours());
  EXPECT_FALSE(options.history->in_order());
  EXPECT_NE(options.history->trouble().find("serves another ledger"), std::string::npos);
  w.env.sleep_ms(700);  // some turns of both
  other.stop();
  EXPECT_EQ(other.counters().epochs_opened, 0);
  EXPECT_EQ(w.epoch(), epoch);
  EXPECT_EQ(w.keeper->counters().epochs_opened, 64);
}

// Whoever may lease may write there: that is no other ledger.
TEST(Loops, AFewShardsThatNameAnotherLedgerAreToldAnew) {
  LoopsWorld w;
  w.start();
  ASSERT_GE(w.eventually([&] { return w.keeper->counters().shards_ready == 64; }), 0);
  const std::string mine = must(w.client.call({"HGET", redis_contract::ledger_key(5), "id"})).text;
  for (int shard = 4; shard < 30; ++shard)
    must(w.client.call({"HSET", redis_contract::ledger_key(shard), "id", std::string(32, 'f')}));
  ASSERT_GE(w.eventually([&] {
    for (int shard = 4; shard < 30; ++shard) {
      if (must(w.client.call({"HGET", redis_contract::ledger_key(shard), "id"})).text != mine) return false;
    }
    return true;
  }),
            0);
  ASSERT_GE(w.eventually([&] { return w.keeper->counters().shards_ready == 64; }), 0);
  EXPECT_EQ(w.keeper->counters().epochs_opened, 64) << "no epoch was spent for it";
}

// What lies in Redis for a recovery, forged: epochs, records and ceilings that nobody can have.
TEST(Loops, ClaimsThatNoSidecarCanHaveMadeAreNotBelieved) {
  LoopsWorld w;
  w.start();
  ASSERT_GE(w.eventually([&] { return w.keeper->counters().shards_ready == 64; }), 0);
  const std::string claims = redis_contract::claims_key(4), watermarks = redis_contract::watermark_key(4);
  const std::string bucket = "shop/acme|calls$";
  must(w.client.call({"HSET", watermarks, "a", "7"}));
  must(w.client.call({"HSET",
                      claims,
                      "l:a",
                      "4294967303",
                      "l:b",
                      "9223372036854775807",
                      "l:c",
                      "-3",
                      "l:d",
                      "word",
                      "c:9007199254740993:x:" + bucket,
                      "5",
                      "c:-1:x:" + bucket,
                      "5",
                      "c:1:x:" + bucket,
                      "9223372036854775807",
                      "c:2:x:" + bucket,
                      "9007199254740991",
                      "c:2:y:" + bucket,
                      "9007199254740991",
                      "c:1048577:z:" + bucket,
                      "1",
                      "c:1048578:z:" + bucket,
                      "1"}));
  const std::vector<ledger::ShardEpoch> ours{{.shard = 4, .number = 1}};
  const auto known = must(escrow::known_outside(w.client, ours, {}, w.env.wall_s()));
  const auto& shard = known.shards[4];
  EXPECT_EQ(known.refused, 7) << known.refused_example;
  EXPECT_EQ(shard.incarnations.at("a"), 4294967303);
  EXPECT_EQ(shard.incarnations.at("b") + shard.incarnations.at("c") + shard.incarnations.at("d"), 0);
  EXPECT_EQ(shard.epoch, 1048577);
  EXPECT_EQ(shard.buckets.at({2, bucket}).ceiling, kMaxInteger);
}

TEST(Loops, AHelloRegistersAndAColdBucketIsFunded) {
  LoopsWorld w;
  w.publish(7000);
  w.start();
  w.send(hello(w.shard, "a"));
  ASSERT_TRUE(w.registered("a"));
  const int64_t start = w.env.mono_ms();
  EXPECT_EQ(w.lease_patiently("a", 10).granted, 10);
  EXPECT_LT(w.env.mono_ms() - start, 500);  // by the channel, not by the scan
  EXPECT_EQ(w.watermark("a"), 1);
}

TEST(Loops, EveryLastUnitIsGrantedAndNoMore) {
  LoopsWorld w;
  w.publish(7000);
  w.start();
  w.send(hello(w.shard, "a"));
  w.send(hello(w.shard, "b"));
  ASSERT_TRUE(w.registered("a") && w.registered("b"));
  int64_t total[2] = {0, 0};
  bool dry[2] = {false, false};
  for (int turn = 0; !(dry[0] && dry[1]); ++turn) {
    const int who = turn % 2;
    const int64_t step = total[0] + total[1] < 6900 ? 50 : 1;
    const auto got = w.lease_patiently(who == 0 ? "a" : "b", total[who] + step);
    if (got.status == "GRANT")
      total[who] = got.granted;
    else
      dry[who] = got.status == "DRY";
    ASSERT_NE(got.status, "WAIT");
  }
  EXPECT_EQ(total[0] + total[1], 7000);
  EXPECT_EQ(w.number("select funded from escrow_floats"), 7000);
}

TEST(Loops, ASingleRequestAboveTheTargetIsServed) {
  LoopsWorld w;
  w.publish(100'000);
  w.start();
  w.send(hello(w.shard, "a"));
  ASSERT_TRUE(w.registered("a"));
  EXPECT_EQ(w.lease_patiently("a", 30'000).granted, 30'000);
  EXPECT_EQ(w.lease_patiently("a", 101'000).status, "DRY");
}

// Two meters of one wallet with 3.00, at 0.04 and at 1.00.
void publish_wallet(LoopsWorld& w) {
  auto record = tenant_record(w.tenant, {});
  for (const auto& [name, price] : {std::pair("sms", 40'000), std::pair("numbers", 1'000'000)}) {
    ledger::PricedMeter meter;
    meter.meter = *MeterName::parse(name);
    meter.settlement = tenant::Settlement::kWallet;
    meter.currency = "GBP";
    meter.per_units = 1;
    meter.tiers = {{tenant::kUnbounded, price}};
    record.meters.push_back(meter);
  }
  record.wallet = ledger::WalletTerms{"GBP", 0};
  ledger::TenantStore tenants(w.env, w.session);
  must(tenants.publish(std::span(&record, 1), {}));
  must(w.session.exec("select add_wallet_credits($1, 'k', null, 'GBP', 3000000, '', now())", {w.tenant}));
}

// What the first meter has on loan and does not use pays for the second.
class OneWallet : public ::testing::Test {
 protected:
  void SetUp() override {
    publish_wallet(w);
    w.start();
    w.send(hello(w.shard, "a"));
    w.bucket = "sms$";
    ASSERT_TRUE(w.registered("a"));
  }
  LoopsWorld w;
};

TEST_F(OneWallet, MoneyIdleInOneBucketFundsAnother) {
  ASSERT_EQ(w.lease_patiently("a", 1).status, "GRANT");
  ASSERT_GT(w.number("select held_micros from wallets"), 1'000'000) << "two numbers cannot be paid without it";
  w.bucket = "numbers$";
  const auto number = w.lease_patiently("a", 2);
  EXPECT_EQ(number.status, "GRANT");
  EXPECT_EQ(number.granted, 2);
  EXPECT_EQ(w.number("select count(*) from wallets where balance_micros < held_micros"), 0) << "DebtFloor";
  EXPECT_GT(w.funder->counters().recalls, 0);
}

TEST_F(OneWallet, WhatSidecarsHoldIsNotTakenAndNoMoneyIsDry) {
  ASSERT_EQ(w.lease_patiently("a", 60).status, "GRANT");  // 2.40 of 3.00 is in a purse
  w.bucket = "numbers$";
  EXPECT_EQ(w.lease_patiently("a", 1).status, "DRY");
  EXPECT_EQ(w.number("select count(*) from wallets where balance_micros < held_micros"), 0) << "DebtFloor";
}

TEST_F(OneWallet, MoneyThatComesBackIsFoundByTheScan) {
  ASSERT_EQ(w.lease_patiently("a", 60).status, "GRANT");
  w.bucket = "numbers$";
  ASSERT_EQ(w.lease_patiently("a", 1).status, "DRY");
  // The sidecar gives back what it did not use, to its bucket.
  w.bucket = "sms$";
  w.lease("a", 0, 55);
  w.bucket = "numbers$";
  EXPECT_GE(w.eventually([&] { return w.lease("a", 1).status == "GRANT"; }), 0);
}

// A pod is killed and its folder goes: an hour's silence, in short.
class Absent : public OneWallet {
 protected:
  void SetUp() override {
    w.keeper_options.interval_ms = 50;
    w.keeper_options.presence_round_ms = 200;
    w.keeper_options.silent_rounds = 3;
    OneWallet::SetUp();
    w.send(hello(w.shard, "b"));
    ASSERT_TRUE(w.registered("b"));
    ASSERT_EQ(w.lease_patiently("a", 60).status, "GRANT");  // 2.40 of 3.00
    w.send(usage(w.shard, "a", 2, w.tenant, 10, {"sms$"}, 1, "sms"));
    ASSERT_GE(w.eventually([&] { return w.watermark("a") == 2; }), 0);
    ASSERT_EQ(w.lease_patiently("b", 40).status, "DRY");
  }
  // Its last sign of life is long ago.
  void silence(const std::string& incarnation) {
    must(w.client.call({"ZREM", redis_contract::heard_key(w.shard), incarnation}));
  }
  int64_t gone() { return w.number("select count(*) from incarnations where last_epoch is not null"); }
};

TEST_F(Absent, WhatItHeldOfAWalletComesBackWhateverTheEpoch) {
  silence("a");
  EXPECT_GE(w.eventually([&] { return w.lease("b", 40).status == "GRANT"; }), 0);
  EXPECT_EQ(w.epoch(), 1);
  EXPECT_EQ(gone(), 1);
  EXPECT_GE(w.eventually([&] { return w.keeper->counters().gone == 1; }), 0);
  EXPECT_EQ(w.number("select (details ->> 'units')::int from audit_log where action = 'wallet.write_off_float' and "
                     "tenant = $1 and details ->> 'incarnation' = 'a'",
                     {w.tenant}),
            50);
  // What is reported after all is booked, and flagged; what its successor would give back is nothing.
  w.send(usage(w.shard, "a", 3, w.tenant, 20, {"sms$"}, 1, "sms"));
  EXPECT_GE(w.eventually([&] { return w.watermark("a") == 3; }), 0);
  EXPECT_EQ(w.number("select units from usage_records where flag = 'late'"), 20);
  const auto returned = must(w.client.eval(redis_contract::kGiveBack,
                                           {redis_contract::epoch_key(w.shard), redis_contract::closed_key(w.shard, 1),
                                            redis_contract::bucket_key(w.shard, 1, w.tenant, "sms$")},
                                           {"1", "a", "30"}));
  EXPECT_EQ(returned.to_integer(-1), 0);
  w.env.sleep_ms(1500);
  EXPECT_EQ(gone(), 1) << "b has been heard of";
  EXPECT_EQ(w.number("select count(*) from audit_log where action = 'wallet.write_off_float'"), 1) << "once";
}

TEST_F(Absent, WhoIsIdleAndLivesIsNotGone) {
  for (int i = 0; i < 20; ++i) {
    w.lease("a", 0);
    w.lease("b", 0);
    w.env.sleep_ms(100);
  }
  EXPECT_EQ(gone(), 0);
  EXPECT_EQ(w.number("select count(*) from incarnations where silent > 0"), 0);
  EXPECT_EQ(w.lease("b", 40).status, "DRY");
}

TEST_F(Absent, WhoIsBackLeasesUnderANewEpoch) {
  silence("a");
  ASSERT_GE(w.eventually([&] { return w.keeper->counters().gone == 1; }), 0);
  EXPECT_EQ(w.lease("a", 61).status, "REG") << "it lives: a sign of life";
  EXPECT_GE(w.eventually([&] { return w.epoch() == 2; }), 0);
  EXPECT_TRUE(w.registered("a"));
  EXPECT_NE(w.lease("a", 1).status, "REG") << "though what it lost is on hold for another hour";
  EXPECT_EQ(gone(), 0);
  EXPECT_EQ(w.number("select count(*) from wallets where balance_micros < held_micros"), 0) << "DebtFloor";
}

TEST_F(Absent, ARoundThatNobodyLookedAtCountsForNobody) {
  w.keeper->stop();
  silence("a");
  silence("b");
  w.env.sleep_ms(1500);
  w.keeper->start();
  w.lease("a", 0);
  w.lease("b", 0);
  w.env.sleep_ms(500);
  EXPECT_EQ(gone(), 0);
}

// One wallet's data makes its recall fail, when it is planned or when it is counted: another of the same batch is
// funded all the same, and both are told.
TEST(Loops, AWalletThatCannotBeRecalledFromKeepsNobodyElseFromBeingFunded) {
  for (const bool planned : {true, false}) {
    SCOPED_TRACE(planned);
    LoopsWorld w;
    const std::string good = w.tenant;
    std::string bad;
    for (int n = 0; bad.empty(); ++n) {
      const std::string name = "shop/a" + std::to_string(n);  // before shop/acme
      if (redis_contract::shard_of(name) == w.shard) bad = name;
    }
    w.start();
    w.send(hello(w.shard, "a"));
    for (const std::string& tenant : {bad, good}) {
      w.tenant = tenant;
      w.bucket = "sms$";
      publish_wallet(w);
      ASSERT_TRUE(w.registered("a"));
      ASSERT_EQ(w.lease_patiently("a", 1).status, "GRANT");
      ASSERT_GT(w.number("select held_micros from wallets where tenant = $1", {tenant}), 1'000'000);
    }
    w.funder->stop();
    if (planned) {
      must(
          w.session.exec("update tenant_meters set tiers = '[{\"up_to\": null, \"price_micros\": \"poison\"}]' "
                         "where tenant = $1 and meter = 'sms'",
                         {bad}));
    } else {
      const int64_t account = w.number("select id from escrow_accounts where tenant = $1 and bucket = 'sms$'", {bad});
      must(w.session.exec("alter table escrow_floats add check (recalled = 0 or account <> " + std::to_string(account) +
                          ")"));
    }
    w.bucket = "numbers$";
    for (const std::string& tenant : {bad, good}) {
      w.tenant = tenant;
      ASSERT_EQ(w.lease("a", 2).status, "WAIT");
    }
    w.funder->start();  // its first scan finds both
    const auto told = [&](const std::string& tenant, const char* field) {
      return must(w.client.call({"HGET", redis_contract::bucket_key(w.shard, w.epoch(), tenant, w.bucket), field}));
    };
    EXPECT_GE(w.eventually([&] { return told(good, "f").to_integer() == 2; }), 0);
    EXPECT_GE(w.eventually([&] { return told(bad, "dry").is_text(); }), 0);
    EXPECT_LT(told(bad, "f").to_integer(), 2) << "what it could pay without";
    EXPECT_EQ(w.funder->counters().failures, 0);
    EXPECT_GT(w.funder->counters().refused, 0);
  }
}

TEST(Loops, NonsenseThatAsksForFundingStopsNobody) {
  LoopsWorld w;
  w.publish(100);
  w.start();
  w.send(hello(w.shard, "a"));
  ASSERT_TRUE(w.registered("a"));
  const std::string tag = std::string(w.shard < 10 ? "0" : "") + std::to_string(w.shard) + " ";
  for (const char* bad : {"", "|", "shop/acme", "shop/acme|", "shop/acme|calls-day@x+86400",
                          "shop/acme|calls-day@9223372036854775807+86400", "shop/acme|calls-minute@1795000020+60",
                          "nobody/elsewhere|sms$", "\xff|\xff$"}) {
    must(w.client.call({"PUBLISH", redis_contract::want_channel(), tag + bad}));
    must(w.client.call({"ZADD", redis_contract::want_key(w.shard, 1), std::to_string(w.env.wall_ms()), bad}));
  }
  EXPECT_EQ(w.lease_patiently("a", 10).granted, 10);
  w.env.sleep_ms(1200);
  EXPECT_EQ(w.funder->counters().failures, 0);
  EXPECT_EQ(w.number("select count(*) from escrow_accounts"), 1);
}

TEST(Loops, ARaisedLimitClearsDryWithinASecond) {
  LoopsWorld w;
  w.publish(10);
  w.start();
  w.send(hello(w.shard, "a"));
  ASSERT_TRUE(w.registered("a"));
  EXPECT_EQ(w.lease_patiently("a", 10).granted, 10);
  EXPECT_EQ(w.lease_patiently("a", 11).status, "DRY");
  w.publish(20);
  EXPECT_GE(w.eventually([&] { return w.lease("a", 11).status == "GRANT"; }, 1500), 0);  // by the scan
  EXPECT_EQ(w.lease_patiently("a", 20).granted, 20);
  EXPECT_EQ(w.lease_patiently("a", 21).status, "DRY");
  w.publish(30);
  w.funder->kick(w.tenant);
  EXPECT_GE(w.eventually([&] { return w.lease("a", 21).status == "GRANT"; }, 300), 0);
}

TEST(Loops, AWipedRedisGetsANewEpochWithinASecondAndOldFloatStaysHeld) {
  LoopsWorld w;
  w.publish(7000);
  w.start();
  w.send(hello(w.shard, "a"));
  ASSERT_TRUE(w.registered("a"));
  ASSERT_EQ(w.lease_patiently("a", 10).granted, 10);
  const int64_t before = w.number("select sum(funded) from escrow_floats");
  w.env.sleep_ms(300);
  must(w.client.call({"FLUSHALL"}));
  const int64_t took = w.eventually([&] { return w.epoch() == 2; });
  ASSERT_GE(took, 0);
  EXPECT_LT(took, 1000);
  ASSERT_TRUE(w.registered("a"));  // a member of the new epoch without doing anything
  EXPECT_EQ(w.lease_patiently("a", 10).granted, 10);
  EXPECT_EQ(w.number("select held_units(id) from escrow_accounts"), w.number("select sum(funded) from escrow_floats"));
  EXPECT_GT(w.number("select sum(funded) from escrow_floats"), before);
  // Usage of the old epoch still books, out of its float; the pump made its groups anew.
  w.send(usage(w.shard, "a", 2, w.tenant, 10, {w.bucket}, 1));
  EXPECT_GE(w.eventually([&] { return w.watermark("a") == 2; }), 0);
  EXPECT_EQ(w.number("select booked from escrow_floats where epoch = 1"), 10);
}

TEST(Loops, ARestartedRedisGetsANewEpochWithinASecond) {
  LoopsWorld w;
  w.start();
  ASSERT_GE(w.eventually([&] { return w.epoch() == 1; }), 0);
  w.env.sleep_ms(300);
  w.redis.kill();
  w.env.sleep_ms(200);
  w.redis.start();
  const int64_t took = w.eventually([&] { return w.epoch() == 2; });
  ASSERT_GE(took, 0);
  EXPECT_LT(took, 1500);
}

TEST(Loops, ABucketThatForgotMakesANewEpoch) {
  LoopsWorld w;
  w.publish(7000);
  w.start();
  w.send(hello(w.shard, "a"));
  ASSERT_TRUE(w.registered("a"));
  ASSERT_EQ(w.lease_patiently("a", 1000).granted, 1000);
  ASSERT_EQ(w.lease_patiently("a", 2500).granted, 2500);  // the ledger has seen what Redis knows by now
  w.env.sleep_ms(300);
  must(w.client.call({"DEL", redis_contract::bucket_key(w.shard, 1, w.tenant, w.bucket)}));
  w.lease("a", 10);
  EXPECT_GE(w.eventually([&] { return w.epoch() == 2; }), 0);
  EXPECT_GE(w.funder->counters().lost, 1);
}

// Redis loses a bucket: whenever that is, and whoever dies meanwhile, no more is granted than the limit allows (I1).
class BucketLost : public LoopsWorld {
 public:
  static constexpr int64_t kLimit = 3000;

  BucketLost() { publish(kLimit); }
  void lose() { must(client.call({"DEL", redis_contract::bucket_key(shard, 1, tenant, bucket)})); }
  // Leases until the ledger has said for a second that there is no more, under whatever epoch; how much it got.
  int64_t drain(const std::string& incarnation) {
    std::map<int64_t, int64_t> granted;
    int64_t dry_since_ms = 0;
    const int64_t start_ms = env.mono_ms();
    while (env.mono_ms() - start_ms < 15'000 && (dry_since_ms == 0 || env.mono_ms() - dry_since_ms < 1500)) {
      const int64_t e = epoch();
      const Lease last = lease(incarnation, granted[e] + 50);
      granted[e] = std::max(granted[e], last.granted);
      if (last.status != "DRY") dry_since_ms = 0;
      if (last.status == "DRY" && dry_since_ms == 0) dry_since_ms = env.mono_ms();
      // The last few units are less than was asked for.
      if (last.status == "DRY") granted[e] = std::max(granted[e], lease(incarnation, granted[e] + 1).granted);
      if (last.status != "GRANT") env.sleep_ms(2);
    }
    int64_t all = 0;
    for (const auto& [e, units] : granted) all += units;
    return all;
  }
  // The loops in a process of their own: this binary again, which dies at the fault.
  void start_and_die(const std::string& fault) {
    setenv("TALLYGATE_FAULT", (fault + ":exit").c_str(), 1);
    setenv("TALLYGATE_TEST_LOOPS", (url + " " + std::to_string(redis.port())).c_str(), 1);
    child.start({"/proc/self/exe"}, {});
    unsetenv("TALLYGATE_FAULT");
    unsetenv("TALLYGATE_TEST_LOOPS");
    send(hello(shard, "a"));
    send(hello(shard, "b"));
    eventually([&] { return lease("a", 0).status == "GRANT"; });
    lease("a", 20);
    EXPECT_EQ(child.wait(), 137);
  }
  ChildProcess child;
};

class BucketLostAfter : public ::testing::TestWithParam<int64_t> {};

TEST_P(BucketLostAfter, NoOvershoot) {
  BucketLost w;
  w.start();
  w.send(hello(w.shard, "a"));
  w.send(hello(w.shard, "b"));
  ASSERT_TRUE(w.registered("a"));
  ASSERT_TRUE(w.registered("b"));
  ASSERT_EQ(w.lease_patiently("a", 20).granted, 20);
  ASSERT_EQ(w.lease_patiently("a", 200).granted, 200);
  w.env.sleep_ms(GetParam());
  w.lose();
  EXPECT_LE(200 + w.drain("b"), BucketLost::kLimit);
  EXPECT_GT(w.epoch(), 1) << "what was lost has to be seen";
}

INSTANTIATE_TEST_SUITE_P(Ms, BucketLostAfter, ::testing::Values(0, 3, 100, 1500));

class FunderKilled : public ::testing::TestWithParam<std::string> {};

TEST_P(FunderKilled, NoOvershootThoughRedisLosesTheBucket) {
  BucketLost w;
  w.start_and_die(GetParam());
  const int64_t before = w.lease("a", 20).granted;
  w.lose();
  w.start();
  EXPECT_LE(before + w.drain("b"), BucketLost::kLimit);
}

TEST_P(FunderKilled, NothingIsLostWhereRedisLosesNothing) {
  BucketLost w;
  w.start_and_die(GetParam());
  const int64_t before = w.lease("a", 20).granted;
  w.start();
  EXPECT_EQ(before + w.drain("b"), BucketLost::kLimit);
  EXPECT_EQ(w.epoch(), 1);
}

INSTANTIATE_TEST_SUITE_P(Seams, FunderKilled,
                         ::testing::Values("funder.after_stat", "funder.after_commit", "funder.after_fund",
                                           "funder.after_acknowledged"),
                         [](const auto& info) { return info.param.substr(7); });

TEST(Loops, PostgresAwayForAWhileLosesNothing) {
  PostgresServer own;
  LoopsWorld w;
  w.url = own.create_database();
  ledger::Session session(w.url);
  w.start();
  w.send(hello(w.shard, "a"));
  ASSERT_GE(w.eventually([&] { return w.watermark("a") == 1; }), 0);
  own.stop();
  for (int64_t seq = 2; seq <= 50; ++seq) w.send(usage(w.shard, "a", seq, w.tenant, 1, {w.bucket}, 1));
  w.env.sleep_ms(500);
  EXPECT_EQ(w.watermark("a"), 1);
  own.start();
  EXPECT_GE(w.eventually([&] { return w.watermark("a") == 50; }), 0);
  EXPECT_EQ(must(session.exec("select sum(units) from usage_records")).integer(0, 0), 49);
  EXPECT_EQ(must(w.client.call({"XLEN", redis_contract::usage_key(w.shard)})).to_integer(), 0);
  w.stop();
}

TEST(Loops, PoisonStopsNobody) {
  LoopsWorld w;
  w.start();
  w.send(hello(w.shard, "a"));
  must(w.client.call({"XADD", redis_contract::usage_key(w.shard), "*", "r", "1\tU\tnonsense"}));
  must(w.client.call({"XADD", redis_contract::usage_key(w.shard), "*", "other", "field"}));
  auto huge = usage(w.shard, "b", 1, w.tenant, 1, {"calls-day@99999999999999+86400"}, 1);
  w.send(huge);
  w.send(usage(w.shard, "a", 2, w.tenant, 1, {w.bucket}, 1));
  EXPECT_GE(w.eventually([&] { return w.watermark("a") == 2; }), 0);
  EXPECT_EQ(w.number("select count(*) from quarantined_records"), 3);
  EXPECT_GE(w.eventually([&] {
    return must(w.client.call({"XLEN", redis_contract::usage_key(w.shard)})).to_integer() == 0;
  }),
            0);
}

// Whatever it is that the pump or the ledger refuses of a sidecar's, the rest of it is booked, other tenants' usage
// first of all.
TEST(Loops, ARefusedRecordCountsAsPassed) {
  LoopsWorld w;
  w.start();
  const auto with = [&](int64_t seq, auto change) {
    auto staged = usage(w.shard, "a", seq, w.tenant, 1, {w.bucket}, 1);
    change(staged.record);
    return staged;
  };
  const std::string stream = redis_contract::usage_key(w.shard);
  w.send(hello(w.shard, "a"));
  w.send(with(2, [](auto& r) { r.units = kMaxInteger + 2; }));
  w.send(with(3, [](auto& r) { r.buckets = {"calls-day@99999999999999+86400"}; }));
  must(w.client.call({"XADD", stream, "*", "r", "1\tU\ta\t4\t1\tno tenant\tat all"}));
  w.send(with(5, [](auto& r) { r.epoch = kMaxInteger; }));
  w.send(with(6, [](auto& r) { r.tenant = "shop/nobody"; }));
  w.send(with(7, [](auto& r) { r.meter = "no_such_meter"; }));
  w.send(with(8, [](auto& r) { r.second = 250'000'000'000; }));
  w.send(with(9, [](auto& r) { r.units = 5; }));
  EXPECT_GE(w.eventually([&] { return w.watermark("a") == 9; }), 0) << w.watermark("a");
  EXPECT_EQ(w.number("select count(*) from quarantined_records"), 3);
  EXPECT_EQ(w.number("select sum(units) from usage_records where tenant = $1", {w.tenant}), 4 - 1 + 5);
  // One that only the database refuses.
  must(w.session.exec("alter table usage_records add constraint no_thirteen check (units <> 13) not valid"));
  w.send(with(10, [](auto& r) { r.units = 13; }));
  w.send(with(11, [](auto& r) { r.units = 7; }));
  EXPECT_GE(w.eventually([&] { return w.watermark("a") == 11; }), 0) << w.watermark("a");
  EXPECT_EQ(w.number("select count(*) from quarantined_records"), 4);
}

// The pump dies at each of its seams, in a process of its own; its successor books every unit once.
class PumpKilled : public ::testing::TestWithParam<const char*> {};

TEST_P(PumpKilled, BooksEachRecordOnce) {
  LoopsWorld w;
  must(w.client.call({"PING"}));
  w.send(hello(w.shard, "a"));
  for (int64_t seq = 2; seq <= 200; ++seq) w.send(usage(w.shard, "a", seq, w.tenant, seq, {w.bucket}, 1));
  // A process of its own: this binary again, as a pump.
  ChildProcess child;
  ChildProcess::Options options;
  setenv("TALLYGATE_FAULT", GetParam(), 1);
  setenv("TALLYGATE_TEST_PUMP", (w.url + " " + std::to_string(w.redis.port())).c_str(), 1);
  child.start({"/proc/self/exe"}, options);
  unsetenv("TALLYGATE_FAULT");
  unsetenv("TALLYGATE_TEST_PUMP");
  EXPECT_EQ(child.wait(), 137);
  w.start_pump();
  EXPECT_GE(w.eventually([&] { return w.watermark("a") == 200; }), 0);
  EXPECT_EQ(w.number("select count(*) from usage_records"), 199);
  EXPECT_EQ(w.number("select booked from escrow_accounts"), 200 * 201 / 2 - 1);
  EXPECT_GE(w.eventually([&] {
    return must(w.client.call({"XLEN", redis_contract::usage_key(w.shard)})).to_integer() == 0;
  }),
            0);
}

// The ledger's clock is this machine's, shifted: what Redis' is behind it.
class AheadEnv final : public Env {
 public:
  explicit AheadEnv(int64_t ahead_s) : ahead_ns_(ahead_s * 1'000'000'000) {}
  int64_t mono_ns() override { return system_env().mono_ns(); }
  int64_t wall_ns() override { return system_env().wall_ns() + ahead_ns_; }
  void random_bytes(void* out, size_t size) override { system_env().random_bytes(out, size); }
  void sleep_ms(int64_t ms) override { system_env().sleep_ms(ms); }

 private:
  const int64_t ahead_ns_;
};

TEST(Loops, ARedisWhoseClockIsWrongFollowsTheLedgers) {
  for (const int64_t ahead_s : {5'400, -5'400}) {
    AheadEnv ledger(ahead_s);
    LoopsWorld w;
    w.bucket = redis_contract::BucketId{"calls-hour", false, ledger.wall_s() / 3'600 * 3'600, 3'600}.str();
    const auto record = tenant_record(w.tenant, {hard_limit("calls-hour", 7000)});
    must(ledger::TenantStore(ledger, w.session).publish(std::span(&record, 1), {}));
    w.start(ledger);
    w.send(hello(w.shard, "a"));
    w.caller_ahead_ms = ahead_s * 1'000;
    ASSERT_TRUE(w.registered("a"));
    EXPECT_EQ(w.lease_patiently("a", 10).granted, 10) << "the window that is now by the ledger's clock is funded";
    EXPECT_EQ(w.lease_patiently("a", 5'500).status, "GRANT") << "and asked for again: the scan finds it";
    EXPECT_NEAR(static_cast<double>(w.keeper->counters().redis_behind_ms), static_cast<double>(ahead_s * 1'000), 2'000);
    w.caller_ahead_ms = 0;
    EXPECT_EQ(w.lease("a", 20).status, "CLOCK");
    EXPECT_EQ(w.epoch(), 1) << "nothing was opened anew for it";
  }
}

INSTANTIATE_TEST_SUITE_P(Seams, PumpKilled,
                         ::testing::Values("pump.after_read:exit", "pump.after_commit:exit", "pump.after_ack:exit"),
                         [](const auto& info) {
                           const std::string name(info.param);
                           return name.substr(5, name.find(':') - 5);
                         });

}  // namespace

// What PumpKilled's child runs: a pump, until it dies of its fault.
int run_pump(const std::string& spec) {
  const size_t blank = spec.find(' ');
  redis::Endpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = std::atoi(spec.c_str() + blank + 1);
  pump::Pump pump(system_env(), {.database_url = spec.substr(0, blank), .redis = endpoint});
  pump.start();
  system_env().sleep_ms(20'000);
  return 1;
}

// What FunderKilled's child runs: all loops, until it dies of its fault.
int run_loops(const std::string& spec) {
  const size_t blank = spec.find(' ');
  redis::Endpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = std::atoi(spec.c_str() + blank + 1);
  const std::string url = spec.substr(0, blank);
  escrow::EpochKeeper keeper(system_env(), {.database_url = url, .redis = endpoint});
  escrow::Funder funder(system_env(), {.database_url = url, .redis = endpoint}, keeper);
  keeper.start();
  funder.start();
  return run_pump(spec);
}

}  // namespace tallygate::testing

int main(int argc, char** argv) {
  if (const char* spec = std::getenv("TALLYGATE_TEST_LOOPS")) return tallygate::testing::run_loops(spec);
  if (const char* spec = std::getenv("TALLYGATE_TEST_PUMP")) return tallygate::testing::run_pump(spec);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
