// Ledger leases (migration 0031): conservation against a model of its own, refusals, races. NoOvershoot, DebtFloor,
// DenialIsFree.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/integration/ledger/world.h"

namespace tallygate::testing {
namespace {

using Json = nlohmann::json;
using List = std::vector<Json>;

constexpr const char* kTenant = "shop/acme";
const int kShard = redis_contract::shard_of(kTenant);
const std::string kBucket = window_of("calls-day");

struct Answer {
  std::string status;
  int64_t epoch = 0;
  bool suspended = false, has_doc = false;
  Json buckets, closed;
  int64_t of(const char* name, size_t i = 0) const { return buckets.at(i).at(name).get<int64_t>(); }
};

Json wanted(int64_t least, int64_t best, int64_t returned = 0, const std::string& bucket = kBucket) {
  return {{"bucket", bucket}, {"least", least}, {"best", best}, {"returned", returned}};
}
Json settled(int64_t epoch, int64_t spent, const std::string& bucket = kBucket) {
  return {{"bucket", bucket}, {"epoch", epoch}, {"spent", spent}};
}

Answer lease(ledger::Session& session, const std::string& incarnation, int64_t epoch, const List& buckets,
             const List& closed = {}, const std::string& tenant = kTenant, int64_t version = 1) {
  const auto rows =
      must(session.exec("select o_status, o_epoch, o_suspended, o_doc is not null, o_buckets, o_closed from "
                        "ledger_lease($1, $2, $3, $4, $5, $6, "
                        "to_timestamp($7))",
                        {tenant, incarnation, epoch, version, Json(buckets).dump(), Json(closed).dump(), kNow_s}));
  return {std::string(rows.text(0, 0)), rows.integer(0, 1),           rows.boolean(0, 2),
          rows.boolean(0, 3),           Json::parse(rows.text(0, 4)), Json::parse(rows.text(0, 5))};
}

struct LeaseWorld : LedgerWorld {
  explicit LeaseWorld(int64_t amount, std::vector<std::string> incarnations = {"pod.a", "pod.b"}) {
    publish(tenant_record(kTenant, {hard_limit("calls-day", amount), hard_limit("other-day", 50)}));
    epoch = open(kShard);
    for (const auto& name : incarnations) book({hello(kShard, name)});
  }
  Answer ask(const std::string& incarnation, const List& buckets, const List& closed = {}) {
    return lease(session, incarnation, epoch, buckets, closed);
  }
  int64_t available(const std::string& bucket = kBucket) {
    return number("select available(id, to_timestamp($3)) from escrow_accounts where tenant = $1 and bucket = $2",
                  {kTenant, bucket, kNow_s});
  }
  int64_t open_next() {
    env.advance_ms(10'000);  // opening backs off while epochs are short-lived
    return epoch = open(kShard);
  }
  // Everything that a refusal must not touch.
  std::string state() {
    return std::string(
        must(session.exec("select coalesce(jsonb_agg(to_jsonb(l) order by l::text), '[]')::text || (select "
                          "jsonb_agg(to_jsonb(f) order by f::text) from escrow_floats f) from ledger_leases l"))
            .text(0, 0));
  }
  void audit() { EXPECT_EQ(number("select count(*) from ledger_audit()"), 0); }
  int64_t epoch = 0;
};

TEST(LedgerLease, GrantsWhatIsNeededAndAFairShareAndIsRepeatable) {
  LeaseWorld w(1000);
  Answer a = w.ask("pod.a", {wanted(10, 5000)});
  EXPECT_EQ(a.status, "GRANT");
  EXPECT_EQ(a.of("granted"), 10 + 990 / 2);
  EXPECT_EQ(a.of("remaining"), 1000 - a.of("granted"));
  EXPECT_EQ(w.held(kTenant, kBucket), a.of("granted"));
  // Repeated as it was, it finds what was given: not less is asked for than that.
  const Answer again = w.ask("pod.a", {wanted(10, a.of("granted"))});
  EXPECT_EQ(again.of("granted"), a.of("granted"));
  // The second holder's share is a quarter, not a half.
  const Answer b = w.ask("pod.b", {wanted(1, 5000)});
  EXPECT_EQ(b.of("granted"), 1 + (1000 - a.of("granted") - 1) / 4);
  // Returned once, however often it is said, and never more than was lent.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(w.ask("pod.a", {wanted(0, 0, 100)}).of("returned"), 100);
  EXPECT_EQ(w.held(kTenant, kBucket), a.of("granted") - 100 + b.of("granted"));
  EXPECT_EQ(w.ask("pod.a", {wanted(0, 0, 1'000'000)}).of("returned"), a.of("granted"));
  EXPECT_EQ(w.held(kTenant, kBucket), b.of("granted"));
  w.audit();
}

TEST(LedgerLease, IsBookedByRecordsOfItsEpoch) {
  LeaseWorld w(100);
  const Answer a = w.ask("pod.a", {wanted(40, 40)});
  EXPECT_EQ(a.of("granted"), 40);
  w.book({usage(kShard, "pod.a", 2, kTenant, 30, {kBucket}, w.epoch)});
  EXPECT_EQ(w.held(kTenant, kBucket), 10);
  EXPECT_EQ(w.available(), 60);
  w.ask("pod.a", {wanted(0, 0, 10)});
  EXPECT_EQ(w.held(kTenant, kBucket), 0);
  EXPECT_EQ(w.available(), 70);
  w.audit();
}

TEST(LedgerLease, DryAndWaitChangeNothingAndAreAllOrNothing) {
  LeaseWorld w(100);
  w.fund({kShard, w.epoch, kTenant, kBucket, 0, 0, 0, 30});  // what Redis has may not be used up
  const int64_t in_redis = w.number("select sum(funded) from escrow_floats");
  ASSERT_GT(in_redis, 0);
  ASSERT_EQ(w.ask("pod.a", {wanted(0, 0)}).status, "GRANT");
  const std::string before = w.state();
  EXPECT_EQ(w.ask("pod.a", {wanted(101, 101)}).status, "DRY") << "more than there is in all";
  Answer a = w.ask("pod.a", {wanted(100, 100)});
  EXPECT_EQ(a.status, "WAIT") << "Redis may have the rest";
  EXPECT_EQ(a.buckets[0]["dry"], "1");
  EXPECT_EQ(a.of("granted"), 0);
  EXPECT_EQ(w.state(), before);
  // Another bucket could pay, and does not.
  a = w.ask("pod.a", {wanted(10, 10, 0, window_of("other-day")), wanted(101, 101)});
  EXPECT_EQ(a.status, "DRY");
  EXPECT_EQ(a.buckets[0]["dry"], "");
  EXPECT_EQ(w.state(), before);
  // All that the ledger has, and then it waits: exactly what Redis has is missing.
  EXPECT_EQ(w.ask("pod.a", {wanted(100 - in_redis, 100)}).of("granted"), 100 - in_redis);
  EXPECT_EQ(w.ask("pod.b", {wanted(1, 1)}).status, "WAIT");
  // Once Redis's units are booked, it is certain.
  w.book({usage(kShard, "pod.a", 2, kTenant, 100, {kBucket}, w.epoch)});
  EXPECT_EQ(w.ask("pod.b", {wanted(1, 1)}).status, "DRY");
  w.audit();
}

// As lease.lua has it: where nothing is wanted nothing can be missing, though a lowered limit leaves less than nothing.
TEST(LedgerLease, WhoeverLacksNothingIsNotShort) {
  LeaseWorld w(100);
  ASSERT_EQ(w.ask("pod.a", {wanted(40, 40)}).status, "GRANT");
  w.publish(tenant_record(kTenant, {hard_limit("calls-day", 20), hard_limit("other-day", 50)}));
  ASSERT_LT(w.available(), 0);
  const Answer back = w.ask("pod.a", {wanted(40, 90, 10)});
  EXPECT_EQ(back.status, "GRANT");
  EXPECT_EQ(back.of("granted"), 40);
  EXPECT_EQ(back.of("returned"), 10);
  EXPECT_EQ(w.ask("pod.a", {wanted(40, 40, 10), wanted(1, 1, 0, window_of("other-day"))}).status, "GRANT");
  EXPECT_EQ(w.ask("pod.a", {wanted(41, 41, 10)}).status, "DRY");
  w.audit();
}

TEST(LedgerLease, RefusesWhoMayNotHaveUnits) {
  LeaseWorld w(100);
  const std::string before = w.state();
  EXPECT_EQ(w.ask("pod.stranger", {wanted(1, 1)}).status, "REG");
  EXPECT_EQ(lease(w.session, "pod.a", w.epoch + 7, {wanted(1, 1)}).epoch, w.epoch);
  EXPECT_EQ(lease(w.session, "pod.a", w.epoch + 7, {wanted(1, 1)}).status, "EPOCH");
  EXPECT_EQ(lease(w.session, "pod.a", 0, {wanted(1, 1)}).status, "EPOCH");
  EXPECT_EQ(lease(w.session, "pod.a", 1, {wanted(1, 1)}, List{}, "shop/nobody").status, "NONE");
  EXPECT_EQ(w.ask("pod.a", {wanted(1, 1, 0, window_of("no-such-limit"))}).status, "DRY");
  w.number("select incarnation_gone($1, 'pod.b')::int", {kShard});
  EXPECT_EQ(w.ask("pod.b", {wanted(1, 1)}).status, "REG");
  const auto minute = w.session.exec("select ledger_lease($1, 'pod.a', 1, 1, $2, '[]', to_timestamp($3))",
                                     {kTenant, Json(List{wanted(1, 1, 0, "burst@1795000000+60")}).dump(), kNow_s});
  ASSERT_FALSE(minute);
  EXPECT_EQ(minute.error().errc, Errc::kInvalid);
  EXPECT_EQ(w.state(), before);
  // A registration under a later epoch than the current one cannot be; an older member goes on.
  const int64_t old = w.epoch, next = w.open_next();
  EXPECT_EQ(lease(w.session, "pod.a", old, {wanted(1, 1)}).status, "EPOCH");
  EXPECT_EQ(lease(w.session, "pod.a", next, {wanted(1, 1)}).status, "GRANT");
  // Suspended: what comes back is taken, and nothing is given.
  auto record = tenant_record(kTenant, {hard_limit("calls-day", 100)});
  record.tenant.suspended = true;
  record.tenant.version = 2;
  w.publish(record);
  const Answer suspended = lease(w.session, "pod.a", next, {wanted(5, 5, 1)});
  EXPECT_EQ(suspended.status, "SUSPENDED");
  EXPECT_TRUE(suspended.suspended);
  EXPECT_TRUE(suspended.has_doc) << "the request named version 1";
  EXPECT_EQ(suspended.of("returned"), 1);
  EXPECT_FALSE(lease(w.session, "pod.a", next, List{}, List{}, kTenant, 2).has_doc);
}

TEST(LedgerLease, ClosingSettlesForGoodAndTheSameEveryTime) {
  LeaseWorld w(100);
  w.ask("pod.a", {wanted(40, 40)});
  w.ask("pod.a", {wanted(40, 40, 5)});
  // 50 spent in all, of 35 that the ledger lent and others from Redis.
  for (int i = 0; i < 3; ++i) {
    const Answer a = w.ask("pod.a", List{}, {settled(w.epoch, 50)});
    EXPECT_EQ(a.closed[0]["absorbed"], 35);
  }
  EXPECT_EQ(w.held(kTenant, kBucket), 35);
  // Fewer, once requests in flight had failed: what was said first stands, and nobody is told of more than was spent.
  EXPECT_EQ(w.ask("pod.a", {}, {settled(w.epoch, 20)}).closed[0]["absorbed"], 20);
  EXPECT_EQ(w.held(kTenant, kBucket), 35);
  EXPECT_EQ(w.ask("pod.a", {wanted(41, 41)}).status, "REG") << "a late call of the one that is gone";
  w.ask("pod.b", {wanted(30, 30)});
  EXPECT_EQ(w.ask("pod.b", List{}, {settled(w.epoch, 12)}).closed[0]["absorbed"], 12);
  EXPECT_EQ(w.held(kTenant, kBucket), 47);
  // Never leased, and closed before a late first call comes.
  EXPECT_EQ(w.ask("pod.b", List{}, {settled(w.epoch, 0, window_of("other-day"))}).closed[0]["absorbed"], 0);
  EXPECT_EQ(w.ask("pod.b", {wanted(1, 1, 0, window_of("other-day"))}).status, "REG");
  // Of an epoch that is over: what was not spent is available again.
  const int64_t old = w.epoch;
  w.book({hello(kShard, "pod.c")});
  w.ask("pod.c", {wanted(20, 20)});
  w.open_next();
  EXPECT_EQ(w.available(), 100 - 47 - 20);
  EXPECT_EQ(w.ask("pod.c", {wanted(3, 3)}, {settled(old, 8)}).status, "GRANT");
  EXPECT_EQ(w.available(), 100 - 47 - 8 - 3);
  w.audit();
}

// Notes go that say nothing any more: whatever is asked or repeated, however late, is answered as if they were there.
TEST(LedgerLease, IsAnsweredTheSameAfterItsNotesWereTrimmed) {
  LeaseWorld w(100, {"returned", "never", "open", "paid", "held"});
  const auto trim = [&](int64_t most = 100) { return w.number("select trim_ledger_leases($1)", {most}); };
  const auto notes = [&] { return w.number("select count(*) from ledger_leases"); };
  w.ask("returned", {wanted(10, 10)});
  w.ask("returned", {wanted(10, 10, 10)});
  w.ask("returned", List{}, {settled(w.epoch, 7)});
  w.ask("never", List{}, {settled(w.epoch, 5)});
  w.ask("open", {wanted(8, 8)});
  w.ask("open", {wanted(8, 8, 8)});
  w.ask("paid", {wanted(6, 6)});
  w.ask("paid", List{}, {settled(w.epoch, 4)});
  w.ask("held", {wanted(3, 3)});
  EXPECT_EQ(trim(), 0) << "the epoch goes on: a settled lease must not begin anew";
  EXPECT_EQ(w.ask("never", {wanted(1, 1)}).status, "REG");
  const int64_t old = w.epoch;
  w.open_next();
  {
    ledger::Session other(w.url);
    must(other.transact([&](ledger::Transaction& transaction) -> Result<void> {
      must(transaction.exec("select from escrow_accounts for no key update"));
      EXPECT_EQ(trim(), 0) << "who works on the account is not waited for";
      return {};
    }));
  }
  EXPECT_EQ(trim(2), 2) << "as many as it is told";
  EXPECT_EQ(trim(), 1);
  EXPECT_EQ(notes(), 2) << "what a lease paid for, or may still pay for";
  w.audit();
  const std::pair<const char*, std::pair<int64_t, int64_t>> repeated[] = {
      {"returned", {7, 0}}, {"never", {5, 0}}, {"open", {8, 0}}, {"paid", {4, 4}}, {"held", {3, 3}}};
  for (int round = 0; round < 2; ++round) {
    for (const auto& [pod, close] : repeated) {
      const Answer a = w.ask(pod, List{}, {settled(old, close.first)});
      EXPECT_EQ(a.closed[0]["absorbed"], close.second) << pod;
      EXPECT_EQ(lease(w.session, pod, old, {wanted(2, 2)}).status, "EPOCH") << "a late request of the old epoch";
    }
    EXPECT_EQ(w.available(), 100 - 4 - 3);
    EXPECT_EQ(trim(), 3) << "which the closes made again";
  }
  w.audit();
}

TEST(LedgerLease, AWindowThatIsOverLendsNothingAndIsSettledAllTheSame) {
  LeaseWorld w(100);
  const Answer a = w.ask("pod.a", {wanted(10, 10)});
  ASSERT_EQ(a.status, "GRANT");
  const int64_t late_s = kWindowStart_s + kDay_s + 120;
  const auto at = [&](const char* sql, const Json& buckets, const Json& closed) {
    return std::string(must(w.session.exec(sql, {kTenant, w.epoch, buckets.dump(), closed.dump(), late_s})).text(0, 0));
  };
  const char* status = "select o_status from ledger_lease($1, 'pod.a', $2, 1, $3, $4, to_timestamp($5))";
  EXPECT_EQ(at(status, List{wanted(11, 11)}, List{}), "DRY");
  EXPECT_EQ(at(status, List{wanted(10, 50)}, List{}), "GRANT");
  EXPECT_EQ(w.held(kTenant, kBucket), 10) << "what it has, and nothing more";
  at(status, List{}, List{settled(w.epoch, 4)});
  EXPECT_EQ(w.held(kTenant, kBucket), 4);
}

// The model: what a ledger, a Redis and sidecars may hold, kept from the answers alone.
TEST(LedgerLease, NoOvershootConservationOverRandomInterleavings) {
  constexpr int64_t kCapacity = 700;
  constexpr size_t kPods = 3;
  for (const uint32_t seed : {1u, 2u, 3u, 4u}) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&](int64_t n) {
      return n <= 0 ? 0 : static_cast<int64_t>(random() % static_cast<uint64_t>(n));
    };
    LeaseWorld w(kCapacity, {"pod.0", "pod.1", "pod.2"});
    struct Purse {
      int64_t redis = 0, granted = 0, returned = 0, spent = 0, seq = 1, unbooked = 0, from_ledger = 0;
    };
    struct EpochSums {
      int64_t funded = 0, lent = 0, booked = 0;
    };
    std::array<Purse, kPods> pods;
    std::map<int64_t, EpochSums> epochs;
    int64_t redis_free = 0, admitted = 0, booked = 0, grants = 0, dry = 0, opened = 0;
    const auto has = [](const Purse& p) { return p.redis + p.granted - p.returned - p.spent; };
    for (int step = 0; step < 500; ++step) {
      const size_t n = random() % kPods;
      Purse& p = pods[n];
      const std::string name = "pod." + std::to_string(n);
      EpochSums& e = epochs[w.epoch];
      switch (random() % 16) {
        case 0:
        case 1: {  // the funder
          const auto f = w.fund({kShard, w.epoch, kTenant, kBucket, e.funded, 0, redis_free, 0}, 40);
          ASSERT_EQ(f.status, ledger::FundStatus::kOk);
          redis_free += f.total - e.funded;
          e.funded = f.total;
          break;
        }
        case 2:
        case 3: {  // Redis leases
          const int64_t units = below(redis_free + 1);
          redis_free -= units;
          p.redis += units;
          break;
        }
        case 4:
        case 5:
        case 6: {  // the ledger leases, and takes back
          const int64_t back = std::min(has(p), p.granted - p.returned);
          const int64_t returned = p.returned + below(back + 1);
          const int64_t least = p.granted + below(30), best = least + below(60);
          const Answer a = w.ask(name, {wanted(least, best, returned)});
          e.lent -= returned - p.returned;
          p.returned = returned;
          if (a.status == "GRANT") {
            ASSERT_GE(a.of("granted"), least);
            ASSERT_LE(a.of("granted"), std::max(best, p.granted));
            e.lent += a.of("granted") - p.granted;
            p.granted = a.of("granted");
            ++grants;
          } else {
            ++dry;
            ASSERT_EQ(a.of("granted"), p.granted);
          }
          break;
        }
        case 7:
        case 8:
        case 9:
        case 10: {  // requests
          const int64_t units = below(has(p) + 1);
          p.spent += units;
          p.unbooked += units;
          admitted += units;
          break;
        }
        case 11:
        case 12:
        case 13: {  // the pump
          if (p.unbooked == 0) break;
          w.book({usage(kShard, name, ++p.seq, kTenant, p.unbooked, {kBucket}, w.epoch)});
          e.booked += p.unbooked;
          booked += p.unbooked;
          p.unbooked = 0;
          break;
        }
        case 14:
          if (random() % 6 == 0) {  // Redis forgets; sidecars settle what the ledger lent them, some of them
            const int64_t old = w.epoch;
            for (size_t i = 0; i < kPods; ++i) {  // records of the old epoch come in time, to keep the model plain
              Purse& q = pods[i];
              if (q.unbooked > 0) {
                w.book({usage(kShard, "pod." + std::to_string(i), ++q.seq, kTenant, q.unbooked, {kBucket}, old)});
                e.booked += q.unbooked;
                booked += q.unbooked;
              }
            }
            ASSERT_GT(w.open_next(), old);
            ++opened;
            for (size_t i = 0; i < kPods; ++i) {
              Purse& q = pods[i];
              if (random() % 2 == 0) {
                const Answer a = w.ask("pod." + std::to_string(i), List{}, {settled(old, q.spent)});
                const int64_t absorbed = a.closed[0]["absorbed"].get<int64_t>();
                ASSERT_EQ(absorbed, std::min(q.spent, q.granted - q.returned));
                e.lent -= q.granted - q.returned - absorbed;
              }
              const int64_t seq = q.seq;
              q = {};
              q.seq = seq;
            }
            redis_free = 0;
          }
          break;
        default: {  // a repeated call changes nothing, nor does it matter what notes went
          w.number("select trim_ledger_leases(100)");
          const std::string before = w.state();
          w.ask(name, {wanted(p.granted, p.granted, p.returned)});
          ASSERT_TRUE(p.granted == 0 || w.state() == before);
        }
      }
      int64_t held = 0, in_flight = 0;
      for (const auto& [number, sums] : epochs) held += std::max<int64_t>(0, sums.funded + sums.lent - sums.booked);
      for (const auto& q : pods) in_flight += std::max<int64_t>(0, has(q));
      ASSERT_LE(admitted + in_flight + redis_free, kCapacity) << "NoOvershoot at step " << step;
      if (w.number("select count(*) from escrow_accounts") == 0) continue;
      ASSERT_EQ(w.held(kTenant, kBucket), held) << "step " << step;
      ASSERT_EQ(w.available(), kCapacity - booked - held) << "step " << step;
    }
    EXPECT_GT(grants, 5);
    EXPECT_GT(dry, 0);
    EXPECT_GT(opened, 0);
    w.audit();
  }
}

TEST(LedgerLease, RacingIncarnationsGetEveryUnitOnceAndNotOneMore) {
  constexpr int kPods = 8;
  constexpr int64_t kCapacity = 500;
  std::vector<std::string> names;
  for (int i = 0; i < kPods; ++i) names.push_back("pod." + std::to_string(i));
  LeaseWorld w(kCapacity, names);
  std::atomic<int64_t> total = 0;
  std::vector<std::thread> threads;
  for (const auto& name : names) {
    threads.emplace_back([&, name] {
      ledger::Session session(w.url);
      int64_t granted = 0;
      for (;;) {
        const Answer a = lease(session, name, w.epoch, {wanted(granted + 1, granted + 7)});
        if (a.status != "GRANT") break;
        granted = a.of("granted");
      }
      total += granted;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(total, kCapacity);
  EXPECT_EQ(w.available(), 0);
  w.audit();
}

// Money: units are paid for before they are lent, and a purchase beside it cannot spend that money again.
TEST(LedgerLease, DebtFloorHoldsWhileTheWalletIsSpentBeside) {
  LeaseWorld w(1000, {"pod.0", "pod.1", "pod.2"});
  auto record = tenant_record(kTenant, {});
  ledger::PricedMeter sms;
  sms.meter = *MeterName::parse("sms");
  sms.settlement = tenant::Settlement::kWallet;
  sms.currency = "GBP";
  sms.per_units = 1;
  sms.tiers = {{tenant::kUnbounded, 50'000}};
  record.meters.push_back(sms);
  record.wallet = ledger::WalletTerms{"GBP", 2'000'000};
  w.publish(record);
  must(w.session.exec("select add_wallet_credits($1, 'top-up', null, 'GBP', 10000000, 'x', to_timestamp($2))",
                      {kTenant, kNow_s}));
  std::atomic<int64_t> units = 0, purchases = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, name = "pod." + std::to_string(i)] {
      ledger::Session session(w.url);
      int64_t granted = 0, waits = 0;
      while (waits < 3) {
        const Answer a = lease(session, name, w.epoch, {wanted(granted + 1, granted + 5, 0, "sms$")});
        if (a.status == "GRANT")
          granted = a.of("granted");
        else
          ++waits;
      }
      units += granted;
    });
    threads.emplace_back([&, i] {
      ledger::Session session(w.url);
      for (int n = 0; n < 40; ++n) {
        const auto rows =
            must(session.exec("select success from check_balance_and_deduct_asset_cost($1, $2, null, 'GBP', 200000, "
                              "'x', to_timestamp($3), null, false)",
                              {kTenant, "k" + std::to_string(i) + "-" + std::to_string(n), kNow_s}));
        purchases += rows.boolean(0, 0) ? 1 : 0;
        const auto floor =
            must(session.exec("select balance_micros + debt_limit_micros - held_micros >= 0 from wallets"));
        EXPECT_TRUE(floor.boolean(0, 0)) << "DebtFloor";
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GT(units, 0);
  EXPECT_GT(purchases, 0);
  EXPECT_EQ(w.number("select held_micros from wallets"), units * 50'000);
  EXPECT_EQ(w.number("select balance_micros from wallets"), 10'000'000 - purchases * 200'000);
  // All that was lent is used: the money held pays for it exactly, and nothing else is left over or short.
  int64_t seq = 2;
  w.book({usage(kShard, "pod.0", seq, kTenant, units, {"sms$"}, w.epoch, "sms")});
  EXPECT_EQ(w.number("select held_micros from wallets"), 0);
  EXPECT_GE(w.number("select balance_micros + debt_limit_micros from wallets"), 0);
  w.audit();
}

// What Redis has can be recalled; what the ledger lent cannot.
TEST(LedgerLease, IsNoFloatThatCouldBeRecalled) {
  LeaseWorld w(1000);
  auto record = tenant_record(kTenant, {});
  ledger::PricedMeter sms = record.meters[0];
  sms.meter = *MeterName::parse("sms");
  sms.settlement = tenant::Settlement::kWallet;
  sms.per_units = 1;
  sms.tiers = {{tenant::kUnbounded, 1'000'000}};
  record.meters.push_back(sms);
  record.wallet = ledger::WalletTerms{"GBP", 0};
  w.publish(record);
  must(w.session.exec("select add_wallet_credits($1, 'top-up', null, 'GBP', 10000000, 'x', to_timestamp($2))",
                      {kTenant, kNow_s}));
  w.ask("pod.a", {wanted(6, 6, 0, "sms$")});
  const auto buy = [&] {
    return std::string(
        must(
            w.session.exec("select reason from check_balance_and_deduct_asset_cost($1, 'k', null, 'GBP', 9000000, 'x', "
                           "to_timestamp($2))",
                           {kTenant, kNow_s}))
            .text(0, 0));
  };
  EXPECT_EQ(buy(), "InsufficientBalance");
  must(w.session.exec("update wallets set suspended_reason = 'dispute'"));
  EXPECT_EQ(w.ask("pod.a", {wanted(7, 7, 0, "sms$")}).status, "SUSPENDED") << "by the ledger itself";
  must(w.session.exec("update wallets set suspended_reason = null"));
  w.ask("pod.a", {wanted(6, 6, 6, "sms$")});
  EXPECT_EQ(buy(), "");
}

}  // namespace
}  // namespace tallygate::testing
