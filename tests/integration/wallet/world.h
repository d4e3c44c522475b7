// What the wallet's tests share: one database for the binary, owned by a user who is no superuser, so that row-level
// security binds everybody; a tenant per test; the functions as the API calls them.
#pragma once

#include <gtest/gtest.h>

#include "tests/integration/support/postgres_server.h"

namespace tallygate::testing {

template <class T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().message;
    throw std::runtime_error(result.error().message);
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// The owner's URL of the migrated database.
inline const std::string& owner_url() {
  static const std::string url = PostgresServer::shared().create_database();
  return url;
}

struct Answer {
  bool success = false, duplicate = false;
  std::string reason = "";
  int64_t balance = 0, reserved = 0, effective = 0, shortfall = 0, transaction = 0, reservation = 0, released = 0;
  std::string state = "", recall = "";
};

inline constexpr const char* kAnswer =
    "select success, duplicate, reason, balance_micros, reserved_micros, effective_micros, shortfall_micros, "
    "transaction_id, reservation_id, released_micros, state, recall from ";

inline Answer to_answer(const ledger::Rows& rows) {
  Answer a;
  a.success = rows.boolean(0, 0);
  a.duplicate = rows.boolean(0, 1);
  a.reason = rows.text(0, 2);
  a.balance = rows.integer(0, 3);
  a.reserved = rows.integer(0, 4);
  a.effective = rows.integer(0, 5);
  a.shortfall = rows.integer(0, 6);
  a.transaction = rows.integer(0, 7);
  a.reservation = rows.integer(0, 8);
  a.released = rows.integer(0, 9);
  a.state = rows.text(0, 10);
  a.recall = rows.text(0, 11);
  return a;
}

inline constexpr const char* kApiSetup = "set role tallygate_api";
inline constexpr const char* kNow = "2026-11-21 12:00:00+00";
inline constexpr const char* kLater = "2026-11-21 13:00:00+00";

// The functions, as one tenant's API request calls them, or with another setup as a loop does.
class WalletCaller {
 public:
  explicit WalletCaller(std::string tenant, std::string setup = kApiSetup)
      : tenant_(std::move(tenant)),
        session(owner_url(), setup + ";select set_config('tallygate.tenant', '" + tenant_ + "', false)") {}

  Result<Answer> call(const std::string& function, const ledger::Params& params) {
    auto rows = session.exec(kAnswer + function, params);
    if (!rows) return tl::unexpected(rows.error());
    return to_answer(*rows);
  }
  Answer credit(const std::string& key, int64_t amount, const std::string& currency = "GBP") {
    ledger::Session loops(owner_url());  // the API makes no money
    return to_answer(must(loops.exec(std::string(kAnswer) + "add_wallet_credits($1, $2, null, $3, $4, '', $5)",
                                     {tenant_, key, currency, amount, kNow})));
  }
  Answer purchase(const std::string& key, int64_t amount) {
    return must(
        call("check_balance_and_deduct_asset_cost($1, $2, null, null, $3, '', $4)", {tenant_, key, amount, kNow}));
  }
  Answer reserve(const std::string& call_id, int64_t amount, ledger::Param key = std::nullopt,
                 const char* expires = kLater) {
    return must(call("reserve_call_credits($1, $2, null, null, $3, $4, $5, '', $6)",
                     {tenant_, key, call_id, amount, expires, kNow}));
  }
  Answer commit(const std::string& call_id, int64_t cost, ledger::Param key = std::nullopt) {
    return must(
        call("commit_reserved_credits($1, $2, null, null, $3, $4, '', $5)", {tenant_, key, call_id, cost, kNow}));
  }
  Answer release(const std::string& call_id, ledger::Param key = std::nullopt) {
    return must(call("release_reserved_credits($1, $2, null, $3, '', $4)", {tenant_, key, call_id, kNow}));
  }
  Answer facts() { return must(call("wallet_facts($1, null)", {tenant_})); }

 private:
  std::string tenant_;

 public:
  ledger::Session session;
};

// A tenant with an account in GBP: balance and debt limit.
class WalletWorld {
 public:
  explicit WalletWorld(int64_t balance, int64_t debt_limit = 0)
      : tenant(next_tenant()), owner(owner_url()), api(tenant) {
    publish(debt_limit);
    if (balance > 0) {
      EXPECT_TRUE(api.credit("opening", balance).success);
    }
  }
  void publish(int64_t debt_limit, bool suspended = false) {
    must(owner.exec(
        "select upsert_tenants(jsonb_build_array(jsonb_build_object('id', $1::text, 'shard', 1, 'version', 1, "
        "'suspended', $2::boolean, 'doc', '{}'::jsonb, 'meters', '[]'::jsonb, 'limits', '[]'::jsonb, 'wallet', "
        "jsonb_build_object('currency', 'GBP', 'debt_limit_micros', $3::bigint))), $4)",
        {tenant, suspended, debt_limit, kNow}));
  }
  int64_t number(const std::string& sql, const ledger::Params& params = {}) {
    const auto rows = must(owner.exec(sql, params));
    return rows.empty() ? -1 : rows.integer(0, 0);
  }
  // Everything in the whole database agrees.
  void audit() {
    const auto rows =
        must(owner.exec("select check_name || ' ' || coalesce(tenant, '') || ' ' || expected || ' ' || actual || ' ' "
                        "|| detail from ledger_audit()"));
    for (size_t i = 0; i < rows.size(); ++i) ADD_FAILURE() << rows.text(i, 0);
  }
  ~WalletWorld() { audit(); }

  static std::string next_tenant() {
    static std::atomic<int> count = 0;
    return "wallets/t" + std::to_string(++count);
  }
  const std::string tenant;
  ledger::Session owner;
  WalletCaller api;
};

}  // namespace tallygate::testing
