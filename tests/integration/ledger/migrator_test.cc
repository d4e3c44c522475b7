#include "operator/ledger/migrator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <thread>

#include "core/env.h"
#include "tests/integration/support/postgres_server.h"

namespace tallygate::ledger {
namespace {

using testing::PostgresServer;

TEST(Migrator, AppliesEachMigrationOnce) {
  Session session(PostgresServer::shared().create_database(false));
  EXPECT_EQ(check_schema(session).error().errc, Errc::kConflict);
  const auto first = migrate(session);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->size(), embedded_migrations().size());
  const auto second = migrate(session);
  ASSERT_TRUE(second);
  EXPECT_TRUE(second->empty());
  EXPECT_TRUE(check_schema(session));
}

TEST(Migrator, RefusesAChangedFile) {
  Session session(PostgresServer::shared().create_database(false));
  const std::array<Migration, 1> before = {Migration{"0001_a", "create table a (x int)"}};
  const std::array<Migration, 1> after = {Migration{"0001_a", "create table a (x bigint)"}};
  ASSERT_TRUE(migrate(session, before));
  const auto result = migrate(session, after);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().errc, Errc::kConflict);
  EXPECT_NE(result.error().message.find("0001_a was changed"), std::string::npos) << result.error().message;
}

TEST(Migrator, RefusesASchemaThatIsNewerThanTheProgram) {
  Session session(PostgresServer::shared().create_database(false));
  const std::array<Migration, 2> newer = {Migration{"0001_a", "select 1"}, Migration{"0002_b", "select 1"}};
  ASSERT_TRUE(migrate(session, newer));
  const auto result = migrate(session, std::span(newer).first(1));
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("0002_b"), std::string::npos);
}

// The wallet's tables change under operators that serve. Who began before may be told to try again; nobody deadlocks.
TEST(Migrator, ChangesTheWalletUnderLoad) {
  const std::string url = PostgresServer::shared().create_database(false);
  Session session(url);
  const auto all = embedded_migrations();
  const auto before =
      std::find_if(all.begin(), all.end(), [](const Migration& one) { return one.name == "0044_wallet_sets"; });
  ASSERT_NE(before, all.end());
  ASSERT_TRUE(migrate(session, all.first(static_cast<size_t>(before - all.begin()))));
  ASSERT_TRUE(
      session.exec("insert into tenants (id, shard, doc, version) select 'load/t' || i, 0, '{}', 1 from "
                   "generate_series(0, 5) i"));
  ASSERT_TRUE(session.exec("select add_wallet_credits(id, 'top-up', null, 'GBP', 1000000000, '', now()) from tenants"));
  std::atomic<bool> stop = false;
  std::atomic<int> done = 0, later = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&, caller] {
      Session own(url, "set role tallygate_api");
      for (int i = 0; !stop; ++i) {
        const std::string key = std::to_string(caller) + "/" + std::to_string(i);
        const auto rows = own.autocommit(
            "select (b.r).success from wallet_operations(jsonb_build_array("
            "jsonb_build_object('n', 0, 'operation', 'purchase', 'tenant', 'load/t' || $1, 'key', $2::text, "
            "'amount_micros', 1, 'now', now()), "
            "jsonb_build_object('n', 1, 'operation', 'reserve', 'tenant', 'load/t' || $3, 'call_id', $2::text, "
            "'amount_micros', 1, 'now', "
            "now(), 'expires_at', now() + interval '1 hour'))) b",
            {std::to_string(caller), key, std::to_string((caller + i) % 6)});
        if (rows) {
          EXPECT_TRUE(rows->boolean(0, 0) && rows->boolean(1, 0));
          ++done;
        } else {
          EXPECT_EQ(rows.error().errc, Errc::kUnavailable) << rows.error().message;
          EXPECT_EQ(rows.error().message.find("deadlock"), std::string::npos) << rows.error().message;
          ++later;
        }
      }
    });
  }
  const auto await = [&](int wanted) {
    for (int i = 0; i < 20'000 && done < wanted; ++i) system_env().sleep_ms(1);
    EXPECT_GE(done, wanted) << "callers are not served";
  };
  await(100);
  const auto applied = migrate(session);
  if (applied) await(done + 100);
  stop = true;
  for (auto& caller : callers) caller.join();
  ASSERT_TRUE(applied) << applied.error().message;
  EXPECT_LE(later, 6) << "those under way";
  const auto rows = session.exec("select count(*) from ledger_audit()");
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ(rows->integer(0, 0), 0);
}

TEST(Migrator, LeavesNothingOfAMigrationThatFails) {
  Session session(PostgresServer::shared().create_database(false));
  const std::array<Migration, 2> bad = {Migration{"0001_a", "create table a (x int)"},
                                        Migration{"0002_b", "create table b (x int); select no_such_thing()"}};
  const auto result = migrate(session, bad);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("0002_b"), std::string::npos);
  const auto rows = session.exec("select to_regclass('a') is not null, to_regclass('b') is not null");
  ASSERT_TRUE(rows);
  EXPECT_TRUE(rows->boolean(0, 0));
  EXPECT_FALSE(rows->boolean(0, 1));
}

// The wallet's history, a line each.
std::string history_of(Session& session) {
  std::string out;
  const auto rows = session.exec(
      "select kind, amount_micros, balance_after_micros, coalesce(units::text, ''), updated_at from "
      "wallet_transactions('shop/acme', null, null, 500)");
  if (!rows) return rows.error().message;
  for (size_t i = 0; i < rows->size(); ++i) {
    for (size_t column = 0; column < 5; ++column) out += std::string(rows->text(i, column)) + ' ';
    out += '\n';
  }
  return out;
}

// A wallet's life in two meters over three hours, with top-ups, holds and purchases in between.
void live(Session& session) {
  const auto run = [&](const std::string& sql) {
    const auto rows = session.exec(sql);
    ASSERT_TRUE(rows) << rows.error().message;
  };
  run("insert into tenants (id, shard, doc, version) values ('shop/acme', 0, '{}', 1)");
  run("insert into tenant_meters (tenant, meter, settlement, currency, per_units, tiers) select 'shop/acme', meter, "
      "'wallet', 'GBP', 1, '[{\"price_micros\": 7}]' from unnest(array['sms', 'calls']) meter");
  for (int i = 0; i < 60; ++i) {
    const std::string n = std::to_string(i), now = "'2026-11-21 1" + std::to_string(i / 25) + ":00:00+00'";
    if (i % 10 == 0) run("select add_wallet_credits('shop/acme', 'k" + n + "', null, 'GBP', 1000, '', " + now + ")");
    if (i % 10 == 4)
      run("select check_balance_and_deduct_asset_cost('shop/acme', 'k" + n + "', null, null, 3, '', " + now + ")");
    if (i % 20 == 7) {
      run("select reserve_call_credits('shop/acme', null, null, null, 'c" + n + "', 5, '2027-01-01', '', " + now + ")");
    }
    run("select book_direct_usage('shop/acme', 0, '[{\"id\": \"" + n + R"(", "fingerprint": "", "meter": ")" +
        (i % 3 == 0 ? "sms" : "calls") + R"(", "units": )" + std::to_string(1 + i) +
        R"(, "second": 1795255200, "dims": "{}", "buckets": [")" + (i % 3 == 0 ? "sms$" : "calls$") + "\"]}]', " + now +
        ")");
  }
}

TEST(Migrator, HistoriesOfBeforeTellUsageAsThoseOfAfter) {
  const auto all = embedded_migrations();
  const auto history =
      std::find_if(all.begin(), all.end(), [](const auto& m) { return m.name == "0035_wallet_history"; });
  ASSERT_NE(history, all.end());
  Session before(PostgresServer::shared().create_database(false)), after(PostgresServer::shared().create_database());
  ASSERT_TRUE(migrate(before, all.first(static_cast<size_t>(history - all.begin()))));
  live(before);
  ASSERT_TRUE(migrate(before));
  live(after);
  const std::string lines = history_of(after);
  EXPECT_EQ(history_of(before), lines);
  EXPECT_NE(lines.find("usage"), std::string::npos);
  // And the next charge goes on from there.
  for (Session* session : {&before, &after}) {
    ASSERT_TRUE(session->exec(
        "select book_direct_usage('shop/acme', 0, '[{\"id\": \"next\", \"fingerprint\": \"\", \"meter\": \"sms\", "
        "\"units\": 5, \"second\": 1795255200, \"dims\": \"{}\", \"buckets\": [\"sms$\"]}]', '2026-11-21 "
        "12:30:00+00')"));
  }
  EXPECT_EQ(history_of(before), history_of(after));
}

TEST(Migrator, ManyAtOnceApplyEachMigrationOnce) {
  const std::string url = PostgresServer::shared().create_database(false);
  std::array<size_t, 6> applied{};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < applied.size(); ++i) {
    threads.emplace_back([&, i] {
      Session session(url);
      const auto names = migrate(session);
      applied[i] = names ? names->size() : 1000;
    });
  }
  for (auto& thread : threads) thread.join();
  size_t total = 0;
  for (const size_t n : applied) total += n;
  EXPECT_EQ(total, embedded_migrations().size());
}

}  // namespace
}  // namespace tallygate::ledger
