// Operations of a batch do what they do alone: the same lists of operations, one by one for some tenants and as batches
// for others, must be answered alike and leave alike.
#include <random>
#include <thread>

#include "core/env.h"
#include "core/telemetry/json_text.h"
#include "tests/integration/wallet/world.h"

namespace tallygate::testing {
namespace {

constexpr size_t kTenants = 3;

struct Operation {
  std::string function;
  std::vector<ledger::Param> params;  // after the tenant
};

Operation random_operation(std::mt19937& random) {
  const auto pick = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  const std::string key = "k" + std::to_string(pick(40)), call = "c" + std::to_string(pick(25));
  const int64_t amount = 1 + pick(4) * 100;
  switch (pick(5)) {
    case 0:
      return {"check_balance_and_deduct_asset_cost",
              {key, std::nullopt, std::nullopt, amount, "", kNow, std::nullopt, false}};
    case 1:
    case 2:
      return {"reserve_call_credits",
              {std::nullopt, std::nullopt, std::nullopt, call, amount, kLater, "", kNow, std::nullopt, false}};
    case 3:
      return {"commit_reserved_credits",
              {std::nullopt, std::nullopt, std::nullopt, call, amount, "", kNow, std::nullopt, false}};
    default:
      return {"release_reserved_credits", {std::nullopt, std::nullopt, call, "", kNow}};
  }
}

// All of an answer but ids of rows.
std::string answer_text(const ledger::Rows& rows, size_t row) {
  std::string text;
  for (size_t column = 0; column < 21; ++column) {
    if (column == 3 || column == 12 || column == 13) continue;  // tenant, transaction, reservation
    text += std::string(rows.text(row, column)) + '|';
  }
  return text;
}

std::string alone(WalletWorld& world, const Operation& operation) {
  std::string sql = "select * from " + operation.function + "($1";
  ledger::Params params{world.tenant};
  for (const auto& param : operation.params) {
    params.push_back(param);
    sql += ", $" + std::to_string(params.size());
  }
  return answer_text(must(world.api.session.exec(sql + ")", params)), 0);
}

// As wallet_operations names what the functions take in this order.
struct Form {
  std::string operation;
  std::vector<std::string> names;
};
const std::map<std::string, Form> kForms = {
    {"check_balance_and_deduct_asset_cost",
     {"purchase", {"key", "fingerprint", "currency", "amount_micros", "description", "now", "recalled", "may_recall"}}},
    {"reserve_call_credits",
     {"reserve",
      {"key", "fingerprint", "currency", "call_id", "amount_micros", "expires_at", "description", "now", "recalled",
       "may_recall"}}},
    {"commit_reserved_credits",
     {"commit",
      {"key", "fingerprint", "currency", "call_id", "amount_micros", "description", "now", "recalled", "may_recall"}}},
    {"release_reserved_credits", {"release", {"key", "fingerprint", "call_id", "description", "now"}}}};

void add(JsonWriter& json, size_t place, const std::string& tenant, const Operation& operation) {
  const Form& form = kForms.at(operation.function);
  json.begin_object();
  json.key("n");
  json.value(static_cast<int64_t>(place));
  json.key("operation");
  json.value(form.operation);
  json.key("tenant");
  json.value(tenant);
  for (size_t i = 0; i < operation.params.size(); ++i) {
    const auto& text = operation.params[i].text;
    json.key(form.names[i]);
    if (form.names[i] == "recalled" && text) {
      ASSERT_EQ(*text, "[]");
      json.begin_array();
      json.end_array();
    } else {
      text ? json.value(*text) : json.null();
    }
  }
  json.end_object();
}

TEST(Batch, DoesWhatItsOperationsDoAlone) {
  std::mt19937 random(20261126);
  std::vector<std::unique_ptr<WalletWorld>> single, batched;
  for (size_t i = 0; i < kTenants; ++i) {
    single.push_back(std::make_unique<WalletWorld>(3000, 500));
    batched.push_back(std::make_unique<WalletWorld>(3000, 500));
  }
  ledger::Session session(owner_url(), kApiSetup);
  std::map<std::string, int> reasons;
  for (int round = 0; round < 40; ++round) {
    std::vector<std::pair<size_t, Operation>> operations;
    for (int i = 0; i < 15; ++i) operations.emplace_back(random() % kTenants, random_operation(random));
    JsonWriter json;
    json.begin_array();
    for (size_t i = 0; i < operations.size(); ++i)
      add(json, i, batched[operations[i].first]->tenant, operations[i].second);
    json.end_array();
    const auto rows = must(session.exec("select (b.r).*, b.n from wallet_operations($1) b", {json.take()}));
    ASSERT_EQ(rows.size(), operations.size());
    std::vector<std::string> together(operations.size());
    for (size_t row = 0; row < rows.size(); ++row) {
      together[static_cast<size_t>(rows.integer(row, 21))] = answer_text(rows, row);
      ++reasons[std::string(rows.text(row, 2)) + (rows.boolean(row, 1) ? " duplicate" : "")];
    }
    for (size_t i = 0; i < operations.size(); ++i) {
      EXPECT_EQ(together[i], alone(*single[operations[i].first], operations[i].second))
          << "round " << round << ", operation " << i << ": " << operations[i].second.function;
    }
  }
  for (size_t i = 0; i < kTenants; ++i) {
    EXPECT_EQ(single[i]->api.facts().balance, batched[i]->api.facts().balance);
    EXPECT_EQ(single[i]->api.facts().reserved, batched[i]->api.facts().reserved);
  }
  for (const char* reason : {"", " duplicate", "InsufficientBalance", "IdempotencyMismatch", "UnknownReservation",
                             "AlreadyCommitted", "AlreadyReleased", "DebtLimitExceeded"}) {
    EXPECT_GT(reasons[reason], 0) << reason;
  }
}

TEST(Batch, OfSeveralTenantsShowsEachOperationItsOwnTenantOnly) {
  WalletWorld one(1000), other(500);
  ledger::Session session(owner_url(), kApiSetup);
  const Operation purchase{"check_balance_and_deduct_asset_cost",
                           {"same key", std::nullopt, std::nullopt, 500, "", kNow, std::nullopt, false}};
  JsonWriter json;
  json.begin_array();
  add(json, 0, other.tenant, purchase);
  add(json, 1, one.tenant, purchase);
  add(json, 2, "wallets/none", purchase);
  json.end_array();
  const auto rows = must(session.exec("select (b.r).*, b.n from wallet_operations($1) b order by b.n", {json.take()}));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_TRUE(rows.boolean(0, 0));
  EXPECT_TRUE(rows.boolean(1, 0));
  EXPECT_FALSE(rows.boolean(1, 1)) << "the other tenant's key is no duplicate";
  EXPECT_EQ(rows.text(2, 2), "UnknownTenant");
  EXPECT_EQ(one.api.facts().balance, 500);
  EXPECT_EQ(other.api.facts().balance, 0);
}

// What a batch has just done under a key, or for a call, is known to what follows in it.
TEST(Batch, RepeatsWithinItAreDuplicates) {
  WalletWorld world(1000);
  ledger::Session session(owner_url(), kApiSetup);
  const auto purchase = [](const char* key, int64_t amount) {
    return Operation{"check_balance_and_deduct_asset_cost",
                     {key, std::nullopt, std::nullopt, amount, "", kNow, std::nullopt, false}};
  };
  const auto reserve = [](const char* call) {
    return Operation{"reserve_call_credits",
                     {std::nullopt, std::nullopt, std::nullopt, call, 100, kLater, "", kNow, std::nullopt, false}};
  };
  const auto commit = [](const char* call, int64_t cost) {
    return Operation{"commit_reserved_credits",
                     {std::nullopt, std::nullopt, std::nullopt, call, cost, "", kNow, std::nullopt, false}};
  };
  const std::vector<Operation> operations = {purchase("k", 10), reserve("c"),    purchase("k", 10),
                                             purchase("k", 11), reserve("c"),    commit("c", 60),
                                             commit("c", 60),   commit("c", 61), purchase("k", 10)};
  JsonWriter json;
  json.begin_array();
  for (size_t i = 0; i < operations.size(); ++i) add(json, i, world.tenant, operations[i]);
  json.end_array();
  const auto rows = must(session.exec("select (b.r).*, b.n from wallet_operations($1) b order by b.n", {json.take()}));
  ASSERT_EQ(rows.size(), operations.size());
  std::string told;
  for (size_t row = 0; row < rows.size(); ++row) {
    told += rows.boolean(row, 1)                         ? "d"
            : rows.boolean(row, 0)                       ? "."
            : rows.text(row, 2) == "IdempotencyMismatch" ? "m"
                                                         : "?";
  }
  EXPECT_EQ(told, "..dmd.dmd");
  EXPECT_EQ(rows.integer(2, 5), 990) << "a duplicate answers the balance of the first";
  EXPECT_EQ(world.api.facts().balance, 930);
  EXPECT_EQ(world.api.facts().reserved, 0);
}

// Each currency's wallet is its own, also where a batch goes from one to the other and back.
TEST(Batch, OfATenantWithTwoWallets) {
  WalletWorld world(1000);
  world.api.credit("usd", 500, "USD");
  ledger::Session session(owner_url(), kApiSetup);
  const auto purchase = [](const std::string& key, ledger::Param currency, int64_t amount) {
    return Operation{"check_balance_and_deduct_asset_cost",
                     {key, std::nullopt, currency, amount, "", kNow, std::nullopt, false}};
  };
  JsonWriter json;
  json.begin_array();
  const char* currencies[] = {"GBP", "USD", "GBP", "USD", "USD"};
  for (size_t i = 0; i < 5; ++i) add(json, i, world.tenant, purchase("k" + std::to_string(i), currencies[i], 300));
  add(json, 5, world.tenant, purchase("k5", std::nullopt, 1));
  json.end_array();
  const auto rows = must(session.exec("select (b.r).*, b.n from wallet_operations($1) b order by b.n", {json.take()}));
  ASSERT_EQ(rows.size(), 6u);
  const std::vector<std::pair<std::string, int64_t>> expected = {{"", 700},
                                                                 {"", 200},
                                                                 {"", 400},
                                                                 {"InsufficientBalance", 200},
                                                                 {"InsufficientBalance", 200},
                                                                 {"CurrencyRequired", 0}};
  for (size_t row = 0; row < expected.size(); ++row) {
    EXPECT_EQ(rows.text(row, 2), expected[row].first) << row;
    EXPECT_EQ(rows.integer(row, 5), expected[row].second) << row;
  }
}

// A tenant's first wallet is opened while a batch waits for another tenant's: nobody has locked it, so nobody spends it
// twice.
TEST(Batch, SpendsNoWalletThatItHasNotLocked) {
  WalletWorld known(1000);
  const std::string fresh = WalletWorld::next_tenant();
  must(
      known.owner.exec("select upsert_tenants(jsonb_build_array(jsonb_build_object('id', $1::text, 'shard', 1, "
                       "'version', 1, 'suspended', "
                       "false, 'doc', '{}'::jsonb, 'meters', '[]'::jsonb, 'limits', '[]'::jsonb)), $2)",
                       {fresh, kNow}));
  JsonWriter json;
  json.begin_array();
  const Operation purchase{"check_balance_and_deduct_asset_cost",
                           {"p", std::nullopt, "GBP", 10, "", kNow, std::nullopt, false}};
  add(json, 0, fresh, purchase);
  add(json, 1, known.tenant, purchase);
  json.end_array();
  std::thread batch;
  Result<ledger::Rows> rows;
  must(known.owner.transact([&](ledger::Transaction& holder) -> Result<void> {
    if (auto locked = holder.exec("select from wallets where tenant = $1 for no key update", {known.tenant}); !locked) {
      return tl::unexpected(locked.error());
    }
    batch = std::thread([&] {
      ledger::Session session(owner_url(), kApiSetup);
      rows = session.exec("select (b.r).*, b.n from wallet_operations($1) b order by b.n", {json.take()});
    });
    ledger::Session watch(owner_url());
    for (int i = 0; i < 3000; ++i) {
      if (must(watch.exec("select count(*) from pg_locks where not granted")).integer(0, 0) > 0) break;
      system_env().sleep_ms(1);
    }
    WalletCaller opener(fresh);
    EXPECT_TRUE(opener.credit("top-up", 10).success);
    return {};
  }));
  batch.join();
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ(rows->text(0, 2), "NoWallet");
  EXPECT_TRUE(rows->boolean(1, 0));
  EXPECT_EQ(WalletCaller(fresh).facts().balance, 10);
}

// Wallets are locked once and in order. A second round, here for a key that comes twice, takes none that was opened
// since.
TEST(Batch, LocksNoWalletOfALaterRound) {
  WalletWorld world(1000);
  const Operation purchase{"check_balance_and_deduct_asset_cost",
                           {"twice", std::nullopt, "GBP", 10, "", kNow, std::nullopt, false}};
  JsonWriter json;
  json.begin_array();
  add(json, 0, world.tenant, purchase);
  add(json, 1, world.tenant, purchase);
  json.end_array();
  ledger::Session watch(owner_url());
  const auto await_waiting = [&](int64_t count) {
    for (int i = 0; i < 3000; ++i) {
      if (must(watch.exec("select count(*) from pg_locks where not granted")).integer(0, 0) >= count) return;
      system_env().sleep_ms(1);
    }
    ADD_FAILURE() << "nobody waits";
  };
  std::thread batch, other;
  Result<ledger::Rows> rows, single;
  must(world.owner.transact([&](ledger::Transaction& holder) -> Result<void> {
    if (auto locked = holder.exec("lock table credit_transactions in share mode"); !locked) {
      return tl::unexpected(locked.error());
    }
    batch = std::thread([&] {
      ledger::Session session(owner_url(), kApiSetup);
      rows = session.exec("select (b.r).*, b.n from wallet_operations($1) b order by b.n", {json.take()});
    });
    await_waiting(1);  // it has its locks, and wants to write
    must(watch.exec("select wallet_open($1, 'AUD')", {world.tenant}));
    other = std::thread([&] {
      ledger::Session session(owner_url(), kApiSetup);
      single =
          session
              .transact([&](ledger::Transaction& transaction) -> Result<void> {
                (void)transaction.exec("select set_config('tallygate.tenant', $1, true)", {world.tenant});
                return transaction
                    .exec("select * from check_balance_and_deduct_asset_cost($1, 'other', null, 'GBP', 10, '', $2)",
                          {world.tenant, kNow})
                    .map([](const auto&) {});
              })
              .map([] { return ledger::Rows(); });
    });
    await_waiting(2);  // it has the new wallet, and waits for the other
    return {};
  }));
  batch.join();
  other.join();
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_TRUE(single) << single.error().message;
  EXPECT_TRUE(rows->boolean(1, 1)) << "the second is a duplicate";
  EXPECT_EQ(world.number("select balance_micros from wallets where tenant = $1 and currency = 'GBP'", {world.tenant}),
            980);
}

// Numbers are the caller's: each operation is answered once, whatever they are.
TEST(Batch, AnswersEachOnceWhateverTheirNumbers) {
  WalletWorld world(1000), other(1000);
  ledger::Session session(owner_url(), kApiSetup);
  const auto purchase = [](const std::string& tenant, const char* n, const char* key) {
    return std::string("{\"operation\":\"purchase\",\"amount_micros\":5,\"now\":\"") + kNow + "\",\"tenant\":\"" +
           tenant + "\",\"n\":" + n + ",\"key\":\"" + key + "\"}";
  };
  const auto none =
      must(session.exec("select (b.r).*, b.n from wallet_operations($1) b",
                        {"[" + purchase(world.tenant, "null", "a") + "," + purchase(world.tenant, "null", "a") + "]"}));
  EXPECT_EQ(none.size(), 2u);
  const auto same =
      must(session.exec("select (b.r).*, b.n from wallet_operations($1) b",
                        {"[" + purchase(world.tenant, "1", "b") + "," + purchase(world.tenant, "2", "b") + "," +
                         purchase(other.tenant, "2", "b") + "," + purchase("wallets/none", "2", "b") + "]"}));
  EXPECT_EQ(same.size(), 4u);
  EXPECT_EQ(world.api.facts().balance, 990);
  EXPECT_EQ(other.api.facts().balance, 995);
}

// No arithmetic of what is not wanted: a charge that went through can be repeated under any debt limit.
TEST(Batch, RepeatsUnderAnUnboundedDebtLimit) {
  WalletWorld world(1000);
  must(
      world.owner.exec("update wallets set debt_limit_micros = 9223372036854775807 where tenant = $1", {world.tenant}));
  for (const bool duplicate : {false, true}) {
    const auto result = world.api.commit("c", 10);
    EXPECT_TRUE(result.success);
    EXPECT_EQ(result.duplicate, duplicate);
  }
}

// Rows are found by their keys: without statistics too, and however many tenants there are.
TEST(Batch, ReadsWhatItWantsAndNoMore) {
  const std::string url = PostgresServer::shared().create_database();
  ledger::Session session(url);
  must(
      session.exec("insert into tenants (id, shard, doc, version) select 'many/t' || i, 0, '{}', 1 from "
                   "generate_series(1, 2000) i"));
  must(session.exec("select wallet_open(id, 'GBP') from tenants"));
  must(session.exec("select ledger_account(id, k, 'GBP') from tenants, unnest(array['wallet', 'holds']) k"));
  must(session.exec("select add_wallet_credits('many/t1', 'top-up', null, 'GBP', 1000000, '', now())"));
  must(
      session.exec("select check_balance_and_deduct_asset_cost('many/t1', 'k' || n, null, null, 1, '', now()) "
                   "from generate_series(1, 2000) n"));
  must(session.exec(
      "select reserve_call_credits('many/t1', null, null, null, 'c' || n, 1, now() + interval '1 hour', '', now()) "
      "from generate_series(1, 500) n"));
  session.close();  // what it has planned for empty tables it would keep until their first analyze
  const auto read = [&](const char* statement, const char* tables = "^(credit_|ledger_accounts|wallets|tenants)") {
    int64_t rows = -1;
    must(session.transact([&](ledger::Transaction& transaction) -> Result<void> {
      if (auto done = transaction.exec(statement); !done) return tl::unexpected(done.error());
      rows = must(transaction.exec(
                      "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_user_tables "
                      "where relname ~ $1",
                      {tables}))
                 .integer(0, 0);
      return {};
    }));
    return rows;
  };
  EXPECT_LT(read("select check_balance_and_deduct_asset_cost('many/t1', 'new', null, null, 1, '', now())"), 40);
  EXPECT_LT(
      read("select reserve_call_credits('many/t1', null, null, null, 'new', 1, now() + interval '1 hour', '', now())"),
      40);
  EXPECT_LT(read("select commit_reserved_credits('many/t1', null, null, null, 'c7', 1, '', now())"), 40);
  EXPECT_LT(read("select add_wallet_credits('many/t2', 'top-up', null, 'GBP', 1, '', now())"), 40);
  EXPECT_LT(read("select cleanup_expired_reservations(now() + interval '2 hours', 10)", "^ledger_accounts"), 100);
}

// What no function would ask for is an error, not a verdict, and changes nothing.
TEST(Batch, RefusesMalformedOperations) {
  WalletWorld world(1000);
  world.api.reserve("c", 100);
  ledger::Session session(owner_url(), kApiSetup);
  const std::string common = ",\"n\":0,\"key\":\"k\",\"amount_micros\":1,\"now\":\"" + std::string(kNow) + "\"}]";
  const std::string own = "\"tenant\":\"" + world.tenant + "\"";
  for (const std::string& operation :
       {own, own + ",\"operation\":\"refund\"", std::string("\"operation\":\"purchase\""),
        own + ",\"operation\":\"purchase\",\"call_id\":\"c\"",
        own + ",\"operation\":\"release\",\"call_id\":\"c\",\"currency\":\"GBP\""}) {
    const auto rows = session.exec("select * from wallet_operations($1)", {"[{" + operation + common});
    ASSERT_FALSE(rows) << operation;
    EXPECT_EQ(rows.error().errc, Errc::kInvalid) << operation;
  }
  EXPECT_EQ(world.api.facts().balance, 1000);
  EXPECT_EQ(world.api.facts().reserved, 100);
}

// Operators of before 0044, whose operations the tests above are, that still run while a deployment is upgraded.
TEST(Batch, ServesStatusChecksOfOperatorsOfBeforeToo) {
  WalletWorld world(1000);
  ledger::Session session(owner_url(), kApiSetup);
  const auto status = must(
      session.exec("select * from status_checks(jsonb_build_array(jsonb_build_object('n', 1, 'tenant', $1::text)))",
                   {world.tenant}));
  EXPECT_FALSE(status.boolean(0, 0));
  EXPECT_EQ(status.integer(0, 3), 1000);
}

TEST(Batch, IsUndoneAsAWholeByAnError) {
  WalletWorld world(1000);
  ledger::Session session(owner_url(), kApiSetup);
  JsonWriter json;
  json.begin_array();
  add(json, 0, world.tenant,
      {"check_balance_and_deduct_asset_cost", {"k", std::nullopt, std::nullopt, 500, "", kNow, std::nullopt, false}});
  add(json, 1, world.tenant,
      {"check_balance_and_deduct_asset_cost", {"l", std::nullopt, std::nullopt, "x", "", kNow, std::nullopt, false}});
  json.end_array();
  const auto rows = session.exec("select (b.r).*, b.n from wallet_operations($1) b", {json.take()});
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().errc, Errc::kInvalid);
  EXPECT_EQ(world.api.facts().balance, 1000);
}

// Counting it locks a shard: behind another tenant's wallets that would be a deadlock with the opening of epochs.
TEST(Batch, WhatWasRecalledIsCountedAlone) {
  WalletWorld world(1000), other(1000);
  ledger::Session session(owner_url(), kApiSetup);
  const auto purchase = [](const char* key, ledger::Param recalled) {
    return Operation{"check_balance_and_deduct_asset_cost",
                     {key, std::nullopt, std::nullopt, 500, "", kNow, recalled, true}};
  };
  const auto run = [&](const std::vector<std::pair<std::string, Operation>>& operations) {
    JsonWriter json;
    json.begin_array();
    for (size_t i = 0; i < operations.size(); ++i) add(json, i, operations[i].first, operations[i].second);
    json.end_array();
    return session.exec("select (b.r).*, b.n from wallet_operations($1) b", {json.take()});
  };
  const auto together = run({{other.tenant, purchase("k", std::nullopt)}, {world.tenant, purchase("k", "[]")}});
  ASSERT_FALSE(together);
  EXPECT_EQ(together.error().errc, Errc::kInvalid);
  EXPECT_EQ(other.api.facts().balance, 1000);
  EXPECT_TRUE(must(run({{world.tenant, purchase("k", "[]")}})).boolean(0, 0));
  EXPECT_EQ(world.api.facts().balance, 500);
}

}  // namespace
}  // namespace tallygate::testing
