#include <random>
#include <thread>

#include "tests/integration/ledger/world.h"

namespace tallygate::testing {
namespace {

using ledger::FundRequest;
using ledger::FundStatus;

const std::string kTenant = "shop/acme";
const int kShard = redis_contract::shard_of(kTenant);
const std::string kBucket = window_of("calls-day");

// What Redis would ask: everything granted so far has arrived, `free` of it is left.
FundRequest ask(int64_t epoch, int64_t funded, int64_t free, int64_t need = 0, const std::string& bucket = kBucket) {
  return {kShard, epoch, kTenant, bucket, funded, 0, free, need};
}

ledger::TenantRecord acme(int64_t amount) { return tenant_record(kTenant, {hard_limit("calls-day", amount)}); }

TEST(Epochs, OpenByCompareAndSet) {
  LedgerWorld w;
  const ledger::ShardEpoch expected[] = {{3, 0}, {5, 0}, {7, 4}};
  const auto opened = must(w.store.open(expected));
  ASSERT_EQ(opened.size(), 3u);
  EXPECT_EQ(opened[0].number, 1);
  EXPECT_EQ(opened[1].number, 1);
  EXPECT_EQ(opened[2].number, 0);  // another one is current
  EXPECT_EQ(must(w.store.open(expected))[0].number, 0);
}

TEST(Epochs, OpeningBacksOffWhileTheyAreShortLived) {
  LedgerWorld w;
  EXPECT_EQ(w.open(3), 1);
  EXPECT_EQ(w.open(3), 0);  // at once again
  w.env.advance_ms(300);
  EXPECT_EQ(w.open(3), 2);
  w.env.advance_ms(300);
  EXPECT_EQ(w.open(3), 0);
  w.env.advance_ms(300);
  EXPECT_EQ(w.open(3), 3);
  w.env.advance_ms(20'000);  // a long life ends it
  EXPECT_EQ(w.open(3), 4);
  w.env.advance_ms(300);
  EXPECT_EQ(w.open(3), 5);
  EXPECT_EQ(w.number("select count(*) from epochs where shard = 3 and state = 'open'"), 1);
}

TEST(Epochs, WhatAClockThatWasAheadWroteKeepsNoneFromBeingOpened) {
  LedgerWorld w;
  w.env.advance_ms(3'600'000);
  EXPECT_EQ(w.open(3), 1);
  w.env.set_wall_ns(w.env.wall_ns() - 3'600'000'000'000);
  EXPECT_EQ(w.open(3), 2) << "the gap after the first ends in an hour by that clock";
  EXPECT_EQ(w.open(3), 0) << "the one after the second is a gap";
  w.env.advance_ms(300);
  EXPECT_EQ(w.open(3), 3) << "the first did not live short: it is of the future";
}

TEST(Funding, GrantsEveryLastUnitAndThenIsDry) {
  LedgerWorld w;
  w.publish(acme(7000));
  const int64_t epoch = w.open(kShard);
  int64_t funded = 0, rounds = 0;
  std::string dry;
  while (dry.empty() && ++rounds < 100) {
    const auto answer = w.fund(ask(epoch, funded, 0));
    ASSERT_EQ(answer.status, FundStatus::kOk);
    ASSERT_GT(answer.total, funded);
    funded = answer.total;
    dry = answer.dry;
  }
  EXPECT_EQ(funded, 7000);
  EXPECT_LT(rounds, 30);
  EXPECT_EQ(w.held(kTenant, kBucket), 7000);
  EXPECT_EQ(w.fund(ask(epoch, funded, 0)).granted, 0);
}

TEST(Funding, GrantsNothingWhileEnoughIsFree) {
  LedgerWorld w;
  w.publish(acme(7000));
  const int64_t epoch = w.open(kShard);
  const auto first = w.fund(ask(epoch, 0, 0));
  EXPECT_EQ(first.granted, 64);
  // Funded, yet Redis does not know it so far: counts as free.
  EXPECT_EQ(w.fund(ask(epoch, 0, 0)).total, first.total);
  EXPECT_EQ(w.fund(ask(epoch, first.total, first.total)).granted, 0);
}

// A tenant's traffic against the ledger, with what the bucket has in between.
struct Traffic {
  LedgerWorld& w;
  int64_t epoch;
  int64_t funded = 0, free = 0, low = 1, spent = 0;
  int rounds = 0;

  void fund(int64_t want = 0) {
    FundRequest request = ask(epoch, funded, free);
    request.want = want;
    const auto answer = w.fund(request);
    EXPECT_EQ(answer.status, FundStatus::kOk);
    free += answer.total - funded;
    funded = answer.total;
    low = answer.low;
    ++rounds;
  }
  void spend(int64_t units) {
    if (free < low) fund();
    ASSERT_GE(free, units);
    free -= units;
    spent += units;
  }
};

TEST(Funding, QuietTrafficLeavesLittleOnHoldWhereRedisIsLostAgainAndAgain) {
  LedgerWorld w;
  w.publish(acme(10'000));
  int64_t spent = 0;
  for (int loss = 0; loss < 10; ++loss) {
    Traffic traffic{w, w.open(kShard)};
    for (int tenth = 0; tenth < 200; ++tenth) {
      w.env.advance_ms(100);
      traffic.spend(1);
    }
    spent += traffic.spent;
    EXPECT_LE(traffic.free, 300) << "half a minute of ten a second";
  }
  EXPECT_LE(w.held(kTenant, kBucket) - spent, 10'000 / 4) << "nothing was booked, so what was spent is on hold too";
}

TEST(Funding, ABurstIsFundedAtFullSpeedSoon) {
  LedgerWorld w;
  w.publish(acme(100'000));
  Traffic traffic{w, w.open(kShard)};
  while (traffic.free < 5000 && traffic.rounds < 20) {
    w.env.advance_ms(5);
    traffic.spend(traffic.free);
    traffic.fund();
  }
  EXPECT_LE(traffic.rounds, 10) << "it doubles";
  Traffic known{w, w.open(kShard)};
  w.env.advance_ms(60'000);
  known.epoch = w.open(kShard);
  known.fund(3000);
  EXPECT_EQ(known.free, 3000) << "what somebody would take at once";
}

TEST(Funding, NeverMoreThanAQuarterOfWhatIsAvailableWhoeverWantsIt) {
  LedgerWorld w;
  w.publish(acme(7000));
  Traffic traffic{w, w.open(kShard)};
  traffic.fund(1'000'000);
  EXPECT_EQ(traffic.free, 1750);
}

TEST(Funding, ABucketOfAnotherMarkHasBeenLost) {
  LedgerWorld w;
  w.publish(acme(7000));
  FundRequest request = ask(w.open(kShard), 0, 0);
  request.born = "one";
  EXPECT_EQ(w.fund(request).status, FundStatus::kOk);
  EXPECT_EQ(w.fund(request).status, FundStatus::kOk) << "funded, and not told yet";
  request.born = "two";
  EXPECT_EQ(w.fund(request).status, FundStatus::kLost);
}

// What Redis answered, or what was booked of its units, it must not have forgotten.
TEST(Funding, WhatRedisAnsweredAndWhatWasBookedIsAcknowledged) {
  LedgerWorld w;
  w.publish(acme(7000));
  const int64_t epoch = w.open(kShard);
  const int64_t total = w.fund(ask(epoch, 0, 0, 500)).total;
  w.book({hello(kShard, "a"), usage(kShard, "a", 2, kTenant, 20, {kBucket}, epoch)});
  EXPECT_EQ(w.fund(ask(epoch, 0, 0)).status, FundStatus::kLost) << "20 were booked of it";
  EXPECT_EQ(w.fund(ask(epoch, 20, 0)).status, FundStatus::kOk);
  const ledger::FundedTotal answer{kTenant, kBucket, epoch, total};
  must(w.store.acknowledged(std::span(&answer, 1)));
  EXPECT_EQ(w.fund(ask(epoch, total - 1, 0)).status, FundStatus::kLost);
  EXPECT_EQ(w.fund(ask(epoch, total, 0)).status, FundStatus::kOk);
}

TEST(Funding, ServesASingleRequestAboveTheTarget) {
  LedgerWorld w;
  w.publish(acme(7000));
  const int64_t epoch = w.open(kShard);
  EXPECT_EQ(w.fund(ask(epoch, 0, 0, 6500), 100).total, 6500);
}

TEST(Funding, RefusesWhatNobodySells) {
  LedgerWorld w;
  w.publish(acme(7000));
  const int64_t epoch = w.open(kShard);
  const auto status = [&](const std::string& bucket) {
    const auto answer = w.fund(ask(epoch, 0, 0, 0, bucket));
    EXPECT_EQ(answer.status == FundStatus::kNone, !answer.dry.empty());
    return answer.status;
  };
  EXPECT_EQ(status(window_of("no-such-limit")), FundStatus::kNone);
  EXPECT_EQ(status("sms$"), FundStatus::kNone);
  EXPECT_EQ(status("calls-day@" + std::to_string(kWindowStart_s - 2 * kDay_s) + "+86400"), FundStatus::kNone);  // over
  EXPECT_EQ(status("calls-day@" + std::to_string(kWindowStart_s + 2 * kDay_s) + "+86400"),
            FundStatus::kNone);  // far ahead
  FundRequest unknown = ask(epoch, 0, 0);
  unknown.tenant = "shop/nobody";
  EXPECT_EQ(w.fund(unknown).status, FundStatus::kNone);
  EXPECT_EQ(w.number("select count(*) from escrow_accounts"), 0);
}

TEST(Funding, FencesByEpochAndNoticesLoss) {
  LedgerWorld w;
  w.publish(acme(7000));
  const int64_t epoch = w.open(kShard);
  const auto first = w.fund(ask(epoch, 0, 0));
  EXPECT_EQ(w.fund(ask(epoch, first.total, 0)).status, FundStatus::kOk);
  EXPECT_EQ(w.fund(ask(epoch, first.total - 1, 0)).status, FundStatus::kLost);  // it knew more before
  w.env.advance_ms(1000);
  const int64_t next = w.open(kShard);
  EXPECT_EQ(w.fund(ask(epoch, first.total, 0)).status, FundStatus::kEpoch);
  const int64_t held = w.held(kTenant, kBucket);
  // The old float stays on hold; the new one comes out of what is available.
  const auto fresh = w.fund(ask(next, 0, 0));
  EXPECT_EQ(fresh.status, FundStatus::kOk);
  EXPECT_EQ(w.held(kTenant, kBucket), held + fresh.total);
  EXPECT_EQ(fresh.avail, 7000 - held - fresh.total);
}

TEST(Funding, ALoweredLimitBindsAtOnceAndARaisedOneToo) {
  LedgerWorld w;
  w.publish(acme(7000));
  const int64_t epoch = w.open(kShard);
  const auto first = w.fund(ask(epoch, 0, 0, 1750));
  w.publish(acme(1000));  // below what is on hold
  auto answer = w.fund(ask(epoch, first.total, 0));
  EXPECT_EQ(answer.granted, 0);
  EXPECT_EQ(answer.avail, 0);
  EXPECT_FALSE(answer.dry.empty());
  EXPECT_LT(w.number("select available(id, now()) from escrow_accounts"), 0);
  w.publish(acme(2000));
  answer = w.fund(ask(epoch, first.total, 0));
  EXPECT_GT(answer.granted, 0);
  EXPECT_TRUE(answer.dry.empty());
  EXPECT_LE(answer.total, 2000);
}

TEST(Funding, SoftLimitsFundTheirGraceUntilItsDurationIsOver) {
  LedgerWorld w;
  tenant::Limit soft = hard_limit("calls-day", 100);
  soft.cap = tenant::Cap::kSoft;
  soft.capacity = 150;
  soft.grace_duration_s = 60;
  w.publish(tenant_record(kTenant, {soft}));
  const int64_t epoch = w.open(kShard);
  EXPECT_EQ(w.fund(ask(epoch, 0, 0, 120)).total, 120);
  EXPECT_EQ(w.book({hello(kShard, "a"), usage(kShard, "a", 2, kTenant, 110, {kBucket}, epoch)}), 2);
  EXPECT_EQ(w.number("select count(*) from escrow_accounts where crossed_at is not null"), 1);
  EXPECT_EQ(w.fund(ask(epoch, 120, 0, 20)).total, 140);
  w.env.advance_ms(61'000);
  const auto late = w.fund(ask(epoch, 140, 0, 10));
  EXPECT_EQ(late.granted, 0);
  EXPECT_FALSE(late.dry.empty());
}

ledger::TenantRecord prepaid(Micros debt_limit_micros) {
  ledger::TenantRecord record = tenant_record(kTenant, {});
  ledger::PricedMeter sms;
  sms.meter = *MeterName::parse("sms");
  sms.settlement = tenant::Settlement::kWallet;
  sms.currency = "GBP";
  sms.tiers = {{100, 50'000}, {tenant::kUnbounded, 70'000}};
  record.meters.push_back(sms);
  record.wallet = ledger::WalletTerms{"GBP", debt_limit_micros};
  return record;
}

TEST(Funding, AWalletPaysWhatItCanAndNoMore) {
  LedgerWorld w;
  w.publish(prepaid(1'000'000));
  must(w.session.exec("update wallets set balance_micros = 6000000"));
  const int64_t epoch = w.open(kShard);
  int64_t funded = 0;
  for (int i = 0; i < 40; ++i) funded = w.fund(ask(epoch, funded, 0, 0, "sms$")).total;
  // 7.00 pays 100 at 0.05 and 28 at 0.07; 0.04 are left.
  EXPECT_EQ(funded, 128);
  EXPECT_EQ(w.number("select held_micros from wallets"), 6'960'000);
  EXPECT_EQ(w.book({hello(kShard, "a"), usage(kShard, "a", 2, kTenant, 110, {"sms$"}, epoch, "sms")}), 2);
  EXPECT_EQ(w.number("select balance_micros from wallets"), 6'000'000 - 5'000'000 - 700'000);
  EXPECT_EQ(w.number("select held_micros from wallets"), 18 * 70'000);
  EXPECT_EQ(w.number("select sum(amount) from ledger_postings p join ledger_accounts a on a.id = p.account where "
                     "a.kind = 'wallet'"),
            -5'700'000);
  EXPECT_EQ(w.number("select sum(amount) from ledger_postings"), 0);
  EXPECT_EQ(w.book({usage(kShard, "a", 3, kTenant, 18, {"sms$"}, epoch, "sms")}), 3);
  EXPECT_EQ(w.number("select held_micros from wallets"), 0);
  EXPECT_EQ(w.number("select balance_micros + debt_limit_micros from wallets"), 40'000);
  EXPECT_EQ(w.fund(ask(epoch, 128, 0, 0, "sms$")).granted, 0);
}

// Redis forgets, and a sidecar that had leased never reports: the old epoch's money is free again an hour after its
// end.
TEST(Funding, AWalletsFloatOfAnEpochThatEndedIsWrittenOffAnHourLater) {
  LedgerWorld w;
  w.publish(prepaid(0));
  must(w.session.exec("select add_wallet_credits($1, 'k', null, 'GBP', 6000000, '', now())", {kTenant}));
  const auto write_off = [&](const char* ago) {
    return must(
        w.session.exec("select units, amount_micros from write_off_floats($1::timestamptz - $2::interval, 100, $1)",
                       {ledger::timestamp_text(w.env.wall_ns()), ago}));
  };
  const int64_t epoch = w.open(kShard);
  const int64_t funded = w.fund(ask(epoch, 0, 0, 0, "sms$")).total;
  ASSERT_GT(funded, 20);
  EXPECT_EQ(w.book({hello(kShard, "a"), usage(kShard, "a", 2, kTenant, 5, {"sms$"}, epoch, "sms")}), 2);
  EXPECT_EQ(write_off("0").size(), 0u) << "the epoch is open";
  w.env.advance_ms(60'000);
  const int64_t next = w.open(kShard);
  ASSERT_GT(next, epoch);
  w.env.advance_ms(3'000'000);
  EXPECT_EQ(write_off("1 hour").size(), 0u) << "too early";
  ASSERT_GT(w.number("select held_micros from wallets"), 0);
  w.env.advance_ms(1'000'000);
  const auto written = write_off("1 hour");
  ASSERT_EQ(written.size(), 1u);
  EXPECT_EQ(written.integer(0, 0), funded - 5);
  EXPECT_EQ(written.integer(0, 1), (funded - 5) * 50'000);
  EXPECT_EQ(write_off("1 hour").size(), 0u) << "once";
  EXPECT_EQ(w.number("select held_micros from wallets"), 0);
  EXPECT_EQ(w.held(kTenant, "sms$"), 0);
  EXPECT_EQ(
      w.number("select count(*) from audit_log where action = 'wallet.write_off_float' and tenant = $1", {kTenant}), 1);
  // All of it can be lent again under the new epoch, and what comes late is booked and frees nothing twice.
  int64_t again = 0;
  for (int i = 0; i < 40; ++i) again = w.fund(ask(next, again, 0, 0, "sms$")).total;
  EXPECT_EQ(again, 95 + (6'000'000 - 100 * 50'000) / 70'000);
  EXPECT_EQ(w.book({usage(kShard, "a", 3, kTenant, 10, {"sms$"}, epoch, "sms")}), 3);
  EXPECT_EQ(w.number("select balance_micros from wallets"), 6'000'000 - 15 * 50'000);
  EXPECT_EQ(w.held(kTenant, "sms$"), again);
  EXPECT_EQ(w.number("select count(*) from ledger_audit()"), 0);
}

// Sixteen threads fund and book at random: what is booked and on hold never passes the capacity, nor money the wallet.
TEST(Funding, NeverPassesCapacityUnderRaces) {
  LedgerWorld w;
  ledger::TenantRecord record = prepaid(0);
  record.tenant.limits = {hard_limit("calls-day", 3000), hard_limit("calls-week", 2000)};
  w.publish(record);
  must(w.session.exec("update wallets set balance_micros = 20000000"));
  const int64_t epoch = w.open(kShard);
  const std::vector<std::string> buckets = {kBucket, window_of("calls-week"), "sms$"};
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int n = 0; n < 16; ++n) {
    threads.emplace_back([&, n] {
      std::mt19937 random(static_cast<unsigned>(n));
      ManualEnv env(1, kNow_s * 1'000'000'000);
      ledger::Session session(w.url, ledger::kBookingSetup);
      ledger::EscrowStore store(env, session);
      const std::string incarnation = "i" + std::to_string(n);
      int64_t seq = 1;
      if (!store.book(std::vector{hello(kShard, incarnation)}, {})) ++failures;
      for (int i = 0; i < 40; ++i) {
        if (random() % 2 == 0) {
          std::vector<FundRequest> requests;
          for (const auto& bucket : buckets) {
            // Knows nothing of other threads' grants, so it says what Redis would: all of it is used up.
            const auto rows = session.exec(
                "select coalesce(max(funded), 0) from escrow_floats f join escrow_accounts a on a.id = f.account where "
                "bucket = $1",
                {bucket});
            requests.push_back(ask(epoch, rows ? rows->integer(0, 0) : 0, 0, 0, bucket));
          }
          const auto answers = store.fund(requests, 300);
          if (!answers) ++failures, ADD_FAILURE() << answers.error().message;
        } else {
          const auto& bucket = buckets[random() % buckets.size()];
          // Only out of what is on hold, as leases do.
          const auto rows = session.exec("select held_units(id) / 40 from escrow_accounts where bucket = $1", {bucket});
          const int64_t units = rows && !rows->empty() ? rows->integer(0, 0) : 0;
          const auto booked =
              store.book(std::vector{usage(kShard, incarnation, ++seq, kTenant, units, {bucket}, epoch)}, {});
          if (!booked) ++failures, ADD_FAILURE() << booked.error().message;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(w.number("select count(*) from escrow_accounts where available(id, to_timestamp($1)) < 0", {kNow_s}), 0);
  EXPECT_EQ(w.number("select count(*) from escrow_floats where booked > funded"), 0);
  EXPECT_EQ(w.number("select count(*) from wallets where balance_micros + debt_limit_micros < held_micros"), 0);
  EXPECT_EQ(w.number("select count(*) from wallets w where held_micros <> (select sum(held_micros) from "
                     "escrow_accounts a where a.tenant = w.tenant)"),
            0);
  EXPECT_EQ(w.number("select count(*) from wallets w where balance_micros - 20000000 <> (select coalesce(sum(amount), "
                     "0) from ledger_postings p "
                     "join ledger_accounts a on a.id = p.account where a.kind = 'wallet' and a.tenant = w.tenant)"),
            0);
  EXPECT_EQ(w.number("select sum(units) from usage_records"), w.number("select sum(booked) from escrow_accounts"));
  EXPECT_EQ(w.number("select count(*) from wallets w where balance_micros - 20000000 is distinct from (select "
                     "sum(amount_micros) from wallet_usage u where u.tenant = w.tenant)"),
            0)
      << "the wallet's history tells what sidecars' usage cost";
}

}  // namespace
}  // namespace tallygate::testing
