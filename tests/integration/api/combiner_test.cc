// Group commit on a real PostgreSQL: who shares a round, who does not, and what one operation's fault does to others.
#include "operator/api/combiner.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/integration/support/postgres_server.h"

namespace tallygate::api {
namespace {

// Answers what each operation says, after a pause of the round; "bad" is no number.
constexpr char kEcho[] = "select e.v::bigint, pg_sleep(0.01) is null, e.n from unnest($1::echo[]) e order by random()";

// The same, but each takes as many milliseconds as it says.
constexpr char kSleep[] = "select e.v::bigint, pg_sleep(e.v::bigint / 1000.0) is null, e.n from unnest($1::echo[]) e";

std::string operation(const std::string& value) {
  std::string row;
  ledger::append_row_field(row, value);
  return row;
}
std::string operation(int value) { return operation(std::to_string(value)); }

class Combining : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(ledger::Session(url).exec("create type echo as (n integer, v text)")); }
  void make(CombinerOptions options, const char* statement = kEcho) {
    options.statement = statement;
    pool.emplace(system_env(), PoolOptions{.database_url = url, .deadline_ms = 3000});
    combiner.emplace(system_env(), *pool, std::move(options));
    combiner->start();
  }
  // Each asks for its own number at the same time; → what each was answered, -1 for an error.
  std::vector<int64_t> crowd(int size, const std::function<std::string(int)>& tenant, int bad = -1) {
    std::vector<int64_t> answers(static_cast<size_t>(size), -2);
    std::vector<std::thread> threads;
    for (int i = 0; i < size; ++i) {
      threads.emplace_back([&, i] {
        const std::string value = i == bad ? "bad \\ \"" : std::to_string(1000 + i);
        const auto own = combiner->run(tenant(i), operation(value), system_env().mono_ms() + wait_ms);
        if (!own) {
          const std::lock_guard lock(mutex);
          error = own.error();
        }
        answers[static_cast<size_t>(i)] = own ? own->rows.integer(own->row, 0) : -1;
      });
    }
    for (auto& thread : threads) thread.join();
    return answers;
  }

  void submit(const std::string& name, const std::string& tenant, int value) {
    combiner->submit(tenant, operation(value), system_env().mono_ms() + wait_ms,
                     [this, name](const Result<OwnRow>& own) {
                       const std::lock_guard lock(mutex);
                       order += own ? name : "!";
                     });
  }
  std::string order_of(size_t size) {
    for (int i = 0; i < 5000; ++i) {
      {
        const std::lock_guard lock(mutex);
        if (order.size() >= size) return order;
      }
      system_env().sleep_ms(1);
    }
    return order + "?";
  }
  void await_rounds(uint64_t count) {
    for (int i = 0; i < 5000 && combiner->stats().rounds < count; ++i) system_env().sleep_ms(1);
  }

  const std::string url = testing::PostgresServer::shared().create_database();
  std::string order;  // names of those that are answered
  int64_t wait_ms = 5000;
  std::mutex mutex;
  Error error;
  std::optional<Pool> pool;
  std::optional<Combiner> combiner;  // the last: its threads use what is above
};

// stop() comes while a thread tells somebody that he has waited for too long, and nothing else is left to do.
TEST_F(Combining, StopsWhileItRefusesWhoWaitedTooLong) {
  make({.rounds = 1, .beside_ms = 60'000, .slow_ms = 60'000}, kSleep);
  submit("1", "a", 60);
  await_rounds(1);
  std::thread stopping;
  std::atomic<bool> refused = false;
  combiner->submit("b", operation(1), system_env().mono_ms() + 20, [&](const Result<OwnRow>& own) {
    refused = !own;
    order_of(1);  // until the round has ended
    stopping = std::thread([&] { combiner->stop(); });
    system_env().sleep_ms(50);
  });
  while (!refused) system_env().sleep_ms(1);
  system_env().sleep_ms(200);
  stopping.join();
  EXPECT_EQ(order_of(1), "1");
}

// The thread that looks after deadlines is called away to lead a round: another one looks.
TEST_F(Combining, RefusesInTimeWhateverRoundsWaitFor) {
  make({.rounds = 2, .beside_ms = 1, .slow_ms = 60'000}, kSleep);
  submit("1", "a", 700);
  await_rounds(1);
  combiner->submit("a", operation(1), system_env().mono_ms() + 60, [this](const Result<OwnRow>& own) {
    const std::lock_guard lock(mutex);
    order += own ? "?" : "late";
  });
  system_env().sleep_ms(20);
  submit("2", "b", 700);
  await_rounds(2);
  EXPECT_EQ(order_of(4).substr(0, 4), "late") << "before either round has ended";
}

// One that came while its tenant was in a round has waited for longer than who came after it.
TEST_F(Combining, WhoWaitsLongestGoesFirst) {
  make({.rounds = 1, .batch_max = 2}, kSleep);
  submit("1", "a", 50);
  await_rounds(1);
  submit("2", "a", 1);
  submit("3", "b", 1);
  submit("4", "c", 1);
  submit("5", "d", 1);
  const std::string told = order_of(5);
  EXPECT_EQ(told.substr(0, 1), "1");
  EXPECT_NE(told.substr(1, 2).find('2'), std::string::npos) << told;
}

TEST_F(Combining, ARoundBeginsBesideAnotherForEnoughOfThem) {
  make({.rounds = 2, .beside_min = 3, .beside_ms = 60'000, .slow_ms = 60'000}, kSleep);
  submit("1", "a", 300);
  await_rounds(1);
  submit("2", "b", 1);
  submit("3", "c", 1);
  EXPECT_EQ(combiner->stats().rounds, 1u) << "two are not enough";
  submit("4", "d", 1);
  EXPECT_EQ(order_of(4).substr(3), "1");
}

TEST_F(Combining, ARoundBeginsBesideOneThatLasts) {
  make({.rounds = 2, .beside_min = 3, .beside_ms = 1, .slow_ms = 60'000}, kSleep);
  submit("1", "a", 300);
  await_rounds(1);
  submit("2", "b", 1);
  EXPECT_EQ(order_of(2), "21");
}

TEST_F(Combining, ACrowdSharesRoundsAndEachGetsItsOwnRow) {
  make({.rounds = 1, .batch_max = 64});
  const auto answers = crowd(100, [](int) { return "t"; });
  for (int i = 0; i < 100; ++i) EXPECT_EQ(answers[static_cast<size_t>(i)], 1000 + i);
  EXPECT_EQ(combiner->stats().operations, 100u);
  EXPECT_LE(combiner->stats().rounds, 30u);
  EXPECT_GE(combiner->stats().rounds, 2u) << "no round takes more than its maximum";
}

TEST_F(Combining, OneOperationsFaultIsItsOwn) {
  make({.rounds = 1});
  const auto answers = crowd(
      40, [](int) { return "t"; }, 17);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(answers[static_cast<size_t>(i)], i == 17 ? -1 : 1000 + i);
  EXPECT_EQ(error.errc, Errc::kInvalid) << error.message;
  EXPECT_EQ(combiner->stats().operations, 40u) << "each counts once";
}

TEST_F(Combining, ALoneCallerWaitsForNobody) {
  make({.rounds = 1});
  EXPECT_EQ(crowd(1, [](int) { return "t"; })[0], 1000);
  EXPECT_EQ(combiner->stats().rounds, 1u);
}

TEST_F(Combining, WhoGetsNoRoundInTimeIsToldSo) {
  wait_ms = 60;
  make({.rounds = 1, .batch_max = 1});
  const auto answers = crowd(12, [](int) { return "t"; });
  int served = 0;
  for (const int64_t answer : answers) served += answer >= 1000 ? 1 : 0;
  EXPECT_GE(served, 1);
  EXPECT_LT(served, 12);
  EXPECT_EQ(error.errc, Errc::kUnavailable);
}

TEST_F(Combining, RoundsDoNotWaitForEachOther) {
  make({.rounds = 8});
  const auto answers = crowd(64, [](int i) { return "t" + std::to_string(i); });
  for (int i = 0; i < 64; ++i) EXPECT_EQ(answers[static_cast<size_t>(i)], 1000 + i);
}

// Takes a lock for "v" of 7, which another transaction holds.
constexpr char kLocking[] =
    "select e.v::bigint, case when e.v = '7' then pg_advisory_xact_lock(7) is null end, e.n from unnest($1::echo[]) e";

TEST_F(Combining, ATenantThatWaitsForALockStopsNobodyElse) {
  pool.emplace(system_env(), PoolOptions{.database_url = url, .deadline_ms = 1500});
  combiner.emplace(system_env(), *pool, CombinerOptions{.statement = kLocking, .rounds = 1, .slow_ms = 50});
  combiner->start();
  const auto ask = [&](const std::string& tenant, int value) {
    return combiner->run(tenant, operation(value), system_env().mono_ms() + 1500);
  };
  ledger::Session holder(url);
  std::vector<std::thread> locked;
  int64_t slowest_ms = 0;
  const auto held = holder.transact([&](ledger::Transaction& transaction) -> Result<void> {
    (void)transaction.exec("select pg_advisory_xact_lock(7)");
    for (int i = 0; i < 10; ++i) locked.emplace_back([&] { EXPECT_FALSE(ask("locked", 7)); });
    const int64_t end_ms = system_env().mono_ms() + 4'000;
    system_env().sleep_ms(100);
    while (system_env().mono_ms() < end_ms) {
      const int64_t began_ms = system_env().mono_ms();
      const auto own = ask("other", 1);
      EXPECT_TRUE(own) << own.error().message;
      slowest_ms = std::max(slowest_ms, system_env().mono_ms() - began_ms);
      system_env().sleep_ms(5);
    }
    return {};
  });
  EXPECT_TRUE(held);
  for (auto& thread : locked) thread.join();
  EXPECT_LT(slowest_ms, 300);
  EXPECT_TRUE(ask("locked", 7)) << "and it goes on once the lock is free";
}

TEST_F(Combining, StoppingAnswersEverybody) {
  make({.rounds = 1, .batch_max = 1});
  std::atomic<int> served = 0, refused = 0;
  const auto submit = [&] {
    combiner->submit("t", operation(1), system_env().mono_ms() + wait_ms,
                     [&](Result<OwnRow> own) { own ? ++served : ++refused; });
  };
  for (int i = 0; i < 50; ++i) submit();
  while (served == 0) system_env().sleep_ms(1);
  combiner->stop();
  EXPECT_EQ(served + refused, 50) << "rounds under way have ended, and nobody waits";
  EXPECT_GT(refused, 0);
  const int before = refused;
  submit();
  EXPECT_EQ(refused, before + 1) << "at once";
  combiner->stop();
  combiner->start();
  combiner->start();
  EXPECT_EQ(crowd(1, [](int) { return "t"; })[0], 1000) << "and it can start again";
}

// All rounds that there may be wait for locks: who waits for one is still answered in time.
TEST_F(Combining, WhoWaitsBehindLockedRoundsIsAnsweredInTime) {
  pool.emplace(system_env(), PoolOptions{.database_url = url, .deadline_ms = 3000});
  combiner.emplace(system_env(), *pool,
                   CombinerOptions{.statement = kLocking, .rounds = 1, .slow_ms = 1, .rounds_max = 2});
  combiner->start();
  ledger::Session holder(url);
  std::atomic<int> locked = 0;
  const auto held = holder.transact([&](ledger::Transaction& transaction) -> Result<void> {
    (void)transaction.exec("select pg_advisory_xact_lock(7)");
    for (const char* tenant : {"a", "b"}) {
      combiner->submit(tenant, operation(7), system_env().mono_ms() + 3000, [&](const auto&) { ++locked; });
      while (combiner->stats().rounds < (tenant[0] == 'a' ? 1 : 2)) system_env().sleep_ms(1);
    }
    const auto own = combiner->run("c", operation(1), system_env().mono_ms() + 100);
    EXPECT_FALSE(own);
    EXPECT_EQ(own.error().errc, Errc::kUnavailable);
    EXPECT_EQ(locked, 0) << "it was answered while they waited";
    return {};
  });
  EXPECT_TRUE(held);
  combiner->stop();
  EXPECT_EQ(locked, 2);
}

// A migration may change what a statement answers while connections have it prepared.
TEST_F(Combining, AStatementWhoseAnswerChangesIsPreparedAnew) {
  make({});
  ledger::Session owner(url);
  ASSERT_TRUE(owner.exec("create table changing (a integer); grant select on changing to tallygate_api"));
  for (const size_t columns : {1u, 2u}) {
    const auto rows = pool->exec("select * from changing where $1", {true}, system_env().mono_ms() + 3000);
    ASSERT_TRUE(rows) << rows.error().message;
    EXPECT_EQ(rows->columns(), columns);
    if (columns == 1) {
      ASSERT_TRUE(owner.exec("alter table changing add b integer"));
    }
  }
}

// A plan made while a table was small is kept while it grows: none may scan. Measured once: 20 times slower.
TEST_F(Combining, SessionsOfThePoolScanNoTableAndSeeOneTenant) {
  make({});
  const auto rows = pool->exec("select current_setting('enable_seqscan'), current_user, $1::text", {"x"},
                               system_env().mono_ms() + 3000);
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ(rows->text(0, 0), "off");
  EXPECT_EQ(rows->text(0, 1), "tallygate_api");
}

TEST_F(Combining, ADatabaseThatIsAwayFailsAllInBoundedTime) {
  pool.emplace(system_env(), PoolOptions{.database_url = "postgresql://nobody@127.0.0.1:1/none", .deadline_ms = 300});
  combiner.emplace(system_env(), *pool, CombinerOptions{.statement = kEcho, .rounds = 1});
  combiner->start();
  wait_ms = 2000;
  const int64_t begin_ms = system_env().mono_ms();
  for (const int64_t answer : crowd(20, [](int) { return "t"; })) EXPECT_EQ(answer, -1);
  EXPECT_EQ(error.errc, Errc::kUnavailable);
  EXPECT_LT(system_env().mono_ms() - begin_ms, 10'000);
}

}  // namespace
}  // namespace tallygate::api
