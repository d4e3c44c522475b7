// A healthy deployment is right; each damage of the database has a row of its own.
#include <nlohmann/json.hpp>

#include "tests/integration/operator/operator_process.h"
#include "tests/integration/verify/world.h"

namespace tallygate::testing {
namespace {

using verify::Outcome;

std::vector<std::string> arguments(const VerifyWorld& world) {
  return {"verify", "--database-url=" + world.url,
          "--redis-url=redis://127.0.0.1:" + std::to_string(world.server.port())};
}
std::vector<std::string> environment() {
  return {std::string("STRIPE_API_KEY=") + StripeEmulator::kKey, "STRIPE_API_BASE=" + VerifyWorld::stripe().base()};
}

TEST(Verify, HealthyDeploymentEndsWithZero) {
  VerifyWorld world;
  const auto report = world.verify();
  EXPECT_TRUE(report.all_right()) << report.table();
  EXPECT_EQ(report.count(Outcome::kSkipped), 1) << report.table();

  const Ended ended = run_operator(arguments(world), environment());
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_NE(ended.output.find("everything that was looked at is right"), std::string::npos) << ended.output;
  EXPECT_NE(ended.output.find("skipped: no Kubernetes source"), std::string::npos) << ended.output;
  EXPECT_EQ(ended.output.find(StripeEmulator::kKey), std::string::npos) << "the key is told";
}

TEST(Verify, UnitsThatAnEndedEpochHoldsAreTold) {
  VerifyWorld world;
  const auto held = [&] { return row_of(world.verify(), "postgres: units on hold").detail; };
  EXPECT_EQ(held(), "none of an ended epoch");
  const auto bucket = [&](const std::string& name, const std::string& window_end) {
    world.sql(
        "insert into escrow_accounts (tenant, name, bucket, wallet, window_start, window_end, created_at) values "
        "('shop/acme', '" +
        name + "', '" + name + "', false, now() - interval '1 day', " + window_end + ", now())");
    world.sql(
        "insert into escrow_floats (account, epoch, funded, booked, recalled) select id, 0, 50, 7, 3 from "
        "escrow_accounts "
        "where bucket = '" +
        name + "'");
  };
  bucket("open", "now() + interval '1 day'");
  bucket("over", "now()");
  EXPECT_NE(held().find("40 in 1 buckets"), std::string::npos) << held();
  EXPECT_TRUE(world.verify().all_right()) << "it is no fault";
}

TEST(Verify, JsonIsOneDocument) {
  VerifyWorld world;
  world.sql("drop index epochs_closing");
  auto words = arguments(world);
  words.insert(words.end(), {"--output", "json"});
  words.push_back("--stripe=disabled");
  const Ended ended = run_operator(words);
  EXPECT_EQ(ended.code, 1) << ended.output;
  const auto document = nlohmann::json::parse(ended.output, nullptr, false);
  ASSERT_TRUE(document.is_object()) << ended.output;
  EXPECT_EQ(document["ok"], false);
  EXPECT_EQ(document["counts"]["missing"], 1) << ended.output;
  EXPECT_EQ(document["counts"]["skipped"], 2) << "Stripe and the CRDs";
  bool told = false;
  for (const auto& row : document["checks"]) {
    told = told || (row["check"] == "postgres: index epochs_closing" && row["result"] == "missing");
  }
  EXPECT_TRUE(told) << ended.output;
}

TEST(Verify, WrongSettingsEndWith64) {
  const Ended ended = run_operator({"verify", "--database-url=nonsense", "--output=prose"});
  EXPECT_EQ(ended.code, 64) << ended.output;
  EXPECT_NE(ended.output.find("redis-url"), std::string::npos) << ended.output;
  const Ended keyless =
      run_operator({"verify", "--database-url=postgresql://127.0.0.1/x", "--redis-url=redis://127.0.0.1"});
  EXPECT_EQ(keyless.code, 64) << keyless.output;
  EXPECT_NE(keyless.output.find("STRIPE_API_KEY"), std::string::npos) << keyless.output;
}

struct Damage {
  const char* name;
  const char* sql;
  const char* check;
  Outcome outcome;
  const char* detail;
};

const Damage kDamages[] = {
    {"DroppedFunction", "drop function drop_old_usage_partitions(timestamptz)",
     "postgres: function drop_old_usage_partitions(p_before timestamp with time zone)", Outcome::kMissing, "not there"},
    {"ChangedFunction",
     "create or replace function aggregate_account_kind(p_settlement text) returns text language sql immutable as "
     "$$ select 'free' $$",
     "postgres: function aggregate_account_kind(p_settlement text)", Outcome::kWrong, "body"},
    {"FunctionForEverybody", "grant execute on function secure_tables() to public",
     "postgres: function secure_tables()", Outcome::kWrong, "executed by public"},
    {"DroppedTable", "drop table provider_calls cascade", "postgres: table provider_calls", Outcome::kMissing,
     "not there"},
    {"DroppedIndex", "drop index escrow_accounts_window", "postgres: index escrow_accounts_window", Outcome::kMissing,
     "not there"},
    {"DroppedColumn", "alter table wallets drop column suspended_reason", "postgres: column wallets.suspended_reason",
     Outcome::kMissing, "not there"},
    {"ColumnOfAnotherType", "alter table epochs alter column number type integer", "postgres: column epochs.number",
     Outcome::kWrong, "is: integer"},
    {"DroppedConstraint", "alter table escrow_floats drop constraint escrow_floats_booked_check",
     "postgres: constraint escrow_floats.escrow_floats_booked_check", Outcome::kMissing, "booked >= 0"},
    {"RlsOff", "alter table wallets disable row level security", "postgres: rls wallets", Outcome::kWrong,
     "is: off forced"},
    {"RlsNotForced", "alter table audit_log no force row level security", "postgres: rls audit_log", Outcome::kWrong,
     "enabled not forced"},
    {"ForeignPolicy", "create policy anybody on wallets using (true)", "postgres: policy wallets.anybody",
     Outcome::kWrong, "no migration makes it"},
    {"TooMuchGranted", "grant update on ledger_postings to tallygate_api",
     "postgres: grant ledger_postings to tallygate_api", Outcome::kWrong, "update"},
    {"AppendOnlyTriggerDisabled", "alter table ledger_postings disable trigger ledger_postings_append_only",
     "postgres: trigger ledger_postings.ledger_postings_append_only", Outcome::kWrong, "DISABLED"},
    {"ZeroSumTriggerDropped", "drop trigger ledger_postings_zero_sum on ledger_postings",
     "postgres: trigger ledger_postings.ledger_postings_zero_sum", Outcome::kMissing, "not there"},
    {"MigrationUnknown", "insert into schema_migrations (name, sha256) values ('9999_future', 'x')",
     "postgres: migrations", Outcome::kWrong, "9999_future"},
    {"AuditDiffers",
     "insert into wallets (tenant, currency, balance_micros) values ('shop/acme', 'GBP', 5) on conflict (tenant, "
     "currency) "
     "do update set balance_micros = 5",
     "ledger audit: balance", Outcome::kWrong, "expected 0, is 5"},
    {"LedgerThatHasGoneBack", "select ledger_found_behind('mark 9 was known', now())", "ledger history",
     Outcome::kWrong, "mark 9 was known"},
};

TEST(Verify, EachDamageOfTheDatabaseHasItsRow) {
  for (const Damage& damage : kDamages) {
    SCOPED_TRACE(damage.name);
    verify::Report report;
    const std::string url = PostgresServer::shared().create_database();
    ledger::Session session(url);
    auto done = session.exec("insert into tenants (id, shard, doc, version) values ('shop/acme', 0, '{}', 1)");
    ASSERT_TRUE(done) << done.error().message;
    done = session.exec(damage.sql);
    ASSERT_TRUE(done) << done.error().message;
    verify::check_postgres(url, report);
    const verify::Row row = row_of(report, damage.check);
    EXPECT_EQ(row.outcome, damage.outcome) << report.table();
    EXPECT_NE(row.detail.find(damage.detail), std::string::npos) << report.table();
    EXPECT_FALSE(report.all_right());
  }
}

TEST(Verify, MissingRoleHasItsRow) {
  VerifyWorld world;
  world.sql("alter role tallygate_admin rename to somebody_else");
  const auto report = world.verify();
  world.sql("alter role somebody_else rename to tallygate_admin");
  expect_fault(report, "postgres: role tallygate_admin", Outcome::kMissing, "not there");
  expect_fault(report, "postgres: membership in tallygate_admin", Outcome::kMissing, "no member");
}

TEST(Verify, PartitionWithoutRowLevelSecurityHasItsRow) {
  VerifyWorld world;
  const auto name = world.session.exec(
      "select relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = "
      "'usage_records'::regclass order by 1 limit 1");
  ASSERT_TRUE(name && !name->empty());
  world.sql("alter table " + std::string(name->text(0, 0)) + " disable row level security");
  expect_fault(world.verify(), "postgres: partitions", Outcome::kWrong, std::string(name->text(0, 0)));
}

TEST(Verify, DatabaseThatIsNotMigratedOrAwayIsToldInOneRow) {
  verify::Report fresh;
  EXPECT_FALSE(verify::check_postgres(PostgresServer::shared().create_database(false), fresh));
  expect_fault(fresh, "postgres: migrations", Outcome::kWrong, "tallygate-operator migrate");
  verify::Report away;
  EXPECT_FALSE(verify::check_postgres("postgresql://127.0.0.1:1/none?connect_timeout=2", away));
  expect_fault(away, "postgres: reachable", Outcome::kMissing, "");
}

TEST(Verify, ChangesNothing) {
  VerifyWorld world;
  const auto before = world.redis.call({"DBSIZE"});
  const auto epoch = world.redis.call({"HGETALL", redis_contract::epoch_key(0)});
  world.verify();
  const auto after = world.redis.call({"HGETALL", redis_contract::epoch_key(0)});
  ASSERT_TRUE(before && epoch && after && epoch->is_array() && after->is_array());
  EXPECT_EQ(world.redis.call({"DBSIZE"})->integer, before->integer);
  ASSERT_EQ(after->elements.size(), epoch->elements.size());
  for (size_t i = 0; i < epoch->elements.size(); ++i) EXPECT_EQ(after->elements[i].text, epoch->elements[i].text);
}

}  // namespace
}  // namespace tallygate::testing
