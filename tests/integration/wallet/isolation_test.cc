// B7: row-level security on every table, tried from one tenant against another, and what nobody may change.
#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

constexpr const char* kTables =
    "select c.relname, c.relrowsecurity and c.relforcerowsecurity, exists (select from pg_attribute a where a.attrelid "
    "= c.oid "
    "and a.attname = 'tenant' and not a.attisdropped) from pg_class c where c.relnamespace = 'public'::regnamespace "
    "and "
    "c.relkind in ('r', 'p') order by 1";

// What `sql` answers to the API's role of `tenant`, with every right on `table` granted, so that policies alone decide.
Result<ledger::Rows> as_api(ledger::Session& owner, const std::string& table, const std::string& tenant,
                            const std::string& sql) {
  ledger::Rows rows;
  const Result<void> done = owner.transact([&](ledger::Transaction& t) -> Result<void> {
    for (const std::string& step : {"grant select, insert, update, delete on " + table + " to tallygate_api",
                                    std::string("set local role tallygate_api"),
                                    "select set_config('tallygate.tenant', '" + tenant + "', true)"}) {
      if (auto result = t.exec(step); !result) return tl::unexpected(result.error());
    }
    auto result = t.exec(sql);
    if (!result) return tl::unexpected(result.error());
    rows = *result;
    return fail(Errc::kNotFound, "roll back");
  });
  if (done.error().errc == Errc::kNotFound) return rows;
  return tl::unexpected(done.error());
}

TEST(Isolation, EveryTableIsUnderForcedRowLevelSecurity) {
  WalletWorld w(1000);
  const auto tables = must(w.owner.exec(kTables));
  EXPECT_GE(tables.size(), 31U);
  for (size_t i = 0; i < tables.size(); ++i) EXPECT_TRUE(tables.boolean(i, 1)) << tables.text(i, 0);
}

TEST(Isolation, NoTenantReadsOrWritesAnothersRows) {
  WalletWorld mine(1000), other(1000);
  other.api.reserve("c", 10);
  const auto tables = must(mine.owner.exec(kTables));
  int with_rows = 0;
  for (size_t i = 0; i < tables.size(); ++i) {
    const std::string table(tables.text(i, 0));
    if (!tables.boolean(i, 2)) continue;
    SCOPED_TRACE(table);
    const std::string others = " where tenant = '" + other.tenant + "'";
    with_rows += mine.number("select count(*) from " + table + others) > 0;
    const auto read = as_api(mine.owner, table, mine.tenant, "select count(*) from " + table + others);
    EXPECT_TRUE(read && read->integer(0, 0) == 0);
    // Nothing set: nothing seen.
    const auto nobody = as_api(mine.owner, table, "", "select count(*) from " + table + " where tenant is not null");
    EXPECT_TRUE(nobody && nobody->integer(0, 0) == 0);
    const auto written =
        as_api(mine.owner, table, mine.tenant,
               "insert into " + table + " overriding system value select * from jsonb_populate_record(null::" + table +
                   ", '{\"tenant\": \"" + other.tenant + "\"}')");
    ASSERT_FALSE(written);
    EXPECT_NE(written.error().message.find("row-level security"), std::string::npos) << written.error().message;
    for (const std::string& change :
         {"with x as (update " + table + " set tenant = tenant" + others + " returning 1) select count(*) from x",
          "with x as (delete from " + table + others + " returning 1) select count(*) from x"}) {
      const auto changed = as_api(mine.owner, table, mine.tenant, change);
      EXPECT_TRUE(!changed || changed->integer(0, 0) == 0);
    }
  }
  EXPECT_GE(with_rows, 5);
}

TEST(Isolation, TablesWithoutATenantShowOnlyWhatIsOnesOwn) {
  WalletWorld mine(1000), other(1000);
  const auto tables = must(mine.owner.exec(kTables));
  for (size_t i = 0; i < tables.size(); ++i) {
    const std::string table(tables.text(i, 0));
    // The same for everybody, and nobody's: the currencies; how far the ledger is (a restored one is told by it).
    if (tables.boolean(i, 2) || table == "currencies" || table == "ledger_history") continue;
    SCOPED_TRACE(table);
    const auto rows = as_api(mine.owner, table, mine.tenant, "select count(*) from " + table);
    ASSERT_TRUE(rows);
    EXPECT_EQ(rows->integer(0, 0), table == "tenants" ? 1 : table == "ledger_postings" ? 2 : 0);
  }
  // A posting to an account of another's is refused, whatever the transfer.
  const std::string account = std::to_string(
      mine.number("select id from ledger_accounts where tenant = $1 and kind = 'wallet'", {other.tenant}));
  EXPECT_FALSE(
      mine.api.session.exec("insert into ledger_postings select max(id), " + account + ", 5 from ledger_transfers"));
  EXPECT_FALSE(mine.api.session.exec("update wallets set debt_limit_micros = 1000000"));
}

TEST(Isolation, FunctionsServeTheirTransactionsTenantOnly) {
  WalletWorld mine(1000), other(1000);
  EXPECT_EQ(
      must(mine.api.call("check_balance_and_deduct_asset_cost($1, 'k', null, null, 1, '', $2)", {other.tenant, kNow}))
          .reason,
      "UnknownTenant");
  EXPECT_EQ(must(mine.api.call("wallet_facts($1, null)", {other.tenant})).reason, "UnknownTenant");
  for (const char* function : {"provider_call_starting($1, 'p', 'c', 'GBP', 1, 'infinity', null, $2)",
                               "provider_call_ended($1, 'p', 'c', 'GBP', 1, '', '{}', null, null, '', $2)",
                               "provider_message_settled($1, 'p', 'c', 'GBP', true, 1, '', '{}', '', $2)"}) {
    EXPECT_EQ(must(mine.api.call(function, {other.tenant, kNow})).reason, "UnknownTenant") << function;
  }
  EXPECT_EQ(must(mine.api.session.exec("select count(*) from wallet_transactions($1, null, null, 10)", {other.tenant}))
                .integer(0, 0),
            0);
  EXPECT_FALSE(mine.api.session.exec("select recall_plan($1, 'GBP', 1)", {other.tenant}));
  EXPECT_FALSE(mine.api.session.exec("select apply_recall($1, '[]')", {other.tenant}));
  EXPECT_FALSE(mine.api.session.exec("select correct_usage($1, 1, 'c', 'f', 'u', 1, 'why', 'who', 'r', now(), now())",
                                     {other.tenant}));
  EXPECT_FALSE(mine.api.session.exec("select * from cleanup_expired_reservations(now(), 1)"));
}

TEST(Isolation, AppendOnlyForTheOwnerToo) {
  WalletWorld w(1000);
  for (const std::string table : {"ledger_postings", "ledger_transfers", "credit_transactions", "audit_log"}) {
    const std::string column = table == "ledger_postings" ? "transfer" : "id";
    EXPECT_FALSE(w.owner.exec("update " + table + " set " + column + " = " + column)) << table;
    EXPECT_FALSE(w.owner.exec("delete from " + table)) << table;
    EXPECT_FALSE(w.owner.exec("truncate " + table + " cascade")) << table;
  }
}

// What is referred to is there, and stays.
TEST(Isolation, ReferencesHoldForTheOwnerToo) {
  WalletWorld w(1000);
  w.api.reserve("c", 400);
  const auto refused = [&](const std::string& sql, const std::string& why) {
    const auto done = w.owner.exec(sql);
    ASSERT_FALSE(done) << sql;
    EXPECT_NE(done.error().message.find(why), std::string::npos) << sql << ": " << done.error().message;
  };
  const std::string dangling = "that is not there", nothing = "999999999999";
  refused("insert into ledger_postings select " + nothing + ", min(id), 0 from ledger_accounts", dangling);
  refused("insert into ledger_postings select max(id), " + nothing + ", 0 from ledger_transfers", dangling);
  // Of what only wallet_write writes, all in one statement, the audit tells.
  const auto found = [&](const std::string& sql, const std::string& what) {
    std::string told;
    (void)w.owner.transact([&](ledger::Transaction& transaction) -> Result<void> {
      if (const auto done = transaction.exec(sql); !done) ADD_FAILURE() << sql << ": " << done.error().message;
      const auto rows = transaction.exec("select detail from ledger_audit() where check_name = 'reference'");
      for (size_t i = 0; rows && i < rows->size(); ++i) told += rows->text(i, 0);
      return fail(Errc::kInternal, "rolled back");
    });
    EXPECT_NE(told.find(what), std::string::npos) << sql << ": " << told;
  };
  const std::string transfer =
      "insert into ledger_transfers (source, posted_at, kind, tenant, resolves) values ('x', now(), 'k', ";
  found(transfer + "'nobody/t', null)", "the tenant of transfer");
  found(transfer + "null, " + nothing + ")", "resolves");
  const std::string copy = "insert into %t select (jsonb_populate_record(x, jsonb_build_object('id', " + nothing +
                           ", 'call_id', 'other', 'idempotency_key', 'other', %c))).* from %t x where tenant = '" +
                           w.tenant + "' limit 1";
  struct Change {
    std::string table, column, told;
  };
  for (const auto& [table, change, told] : std::vector<Change>{
           {"credit_transactions", "'currency', 'ZZZ'", "the wallet of transaction"},
           {"credit_transactions", "'transfer', " + nothing, "the transfer of transaction"},
           {"credit_reservations", "'currency', 'ZZZ'", "the wallet of reservation"},
           {"credit_reservations", "'hold', " + nothing, "the hold of reservation"},
           {"credit_reservations", "'reserve_transaction', " + nothing, "a transaction of reservation"},
           {"credit_reservations", "'commit_transaction', " + nothing, "a transaction of reservation"}}) {
    std::string sql = copy;
    for (size_t at; (at = sql.find("%t")) != std::string::npos;) sql.replace(at, 2, table);
    sql.replace(sql.find("%c"), 2, change);
    sql.replace(sql.find(" select"), 0, " overriding system value");
    found(sql, told);
  }
  found("update credit_reservations set commit_transaction = " + nothing + " where call_id = 'c'",
        "a transaction of reservation");
  refused("update credit_reservations set hold = " + nothing, dangling);
  refused("update credit_reservations set hold = null", dangling);
  for (const char* change :
       {"update credit_reservations set call_id = call_id", "update wallets set currency = currency",
        "delete from wallets", "truncate wallets cascade", "update ledger_accounts set kind = kind",
        "delete from ledger_accounts"}) {
    refused(change, "append-only");
  }
}

// Money moves through the functions alone, for the caller's tenant too.
TEST(Isolation, TheApisRoleWritesNoMoneyItself) {
  WalletWorld w(1000);
  w.api.reserve("c", 400);
  for (const char* sql :
       {"update wallets set balance_micros = 5", "insert into wallets (tenant, currency) values ('x', 'USD')",
        "insert into ledger_transfers (kind, source, posted_at) values ('k', 's', now())",
        "insert into ledger_postings select max(id), 1, 5 from ledger_transfers",
        "insert into ledger_accounts (kind, commodity) values ('k', 'GBP')",
        "update credit_reservations set amount_micros = 1", "delete from credit_reservations",
        "insert into credit_transactions select * from credit_transactions", "select wallet_write('{}')",
        "select add_wallet_credits('x', 'k', null, 'GBP', 5, '', now())"}) {
    const auto done = w.api.session.exec(sql);
    ASSERT_FALSE(done) << sql;
    EXPECT_NE(done.error().message.find("permission denied"), std::string::npos) << sql << ": " << done.error().message;
  }
}

TEST(Isolation, AHoldIsResolvedOnce) {
  WalletWorld w(1000);
  w.api.reserve("c", 400);
  w.api.commit("c", 300);
  EXPECT_FALSE(
      w.owner.exec("insert into ledger_transfers (kind, source, posted_at, tenant, resolves) select 'release', 'x', "
                   "now(), tenant, resolves "
                   "from ledger_transfers where tenant = $1 and resolves is not null",
                   {w.tenant}));
}

TEST(Retention, DropsOldAggregatedMonthsOnly) {
  WalletWorld w(0);
  must(w.owner.exec("select ensure_usage_partitions('2020-02-10 00:00:00+00')"));
  const auto tables = must(w.owner.exec(kTables));
  for (size_t i = 0; i < tables.size(); ++i) EXPECT_TRUE(tables.boolean(i, 1)) << tables.text(i, 0);
  must(
      w.owner.exec("insert into usage_records (incarnation_id, seq, shard, tenant, meter, units, requests, second, "
                   "dims, buckets, epoch, booked_at) "
                   "values (1, 1, 1, $1, 'm', 1, 1, '2020-02-10 00:00:00+00', '{}', '{}', 0, now())",
                   {w.tenant}));
  EXPECT_EQ(w.number("select drop_old_usage_partitions('2020-05-01 00:00:00+00')"), 3);
  must(w.owner.exec("update usage_records set aggregate_id = 1"));
  EXPECT_EQ(w.number("select drop_old_usage_partitions('2020-02-29 00:00:00+00')"), 0);
  EXPECT_EQ(w.number("select drop_old_usage_partitions('2020-03-01 00:00:00+00')"), 1);
}

}  // namespace
}  // namespace tallygate::testing
