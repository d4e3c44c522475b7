#include "operator/api/wallet_command.h"

#include <cstdio>

#include "core/ids.h"
#include "core/telemetry/json_text.h"
#include "operator/api/text.h"
#include "operator/api/wallet_history.h"
#include "operator/api/wallet_json.h"
#include "operator/api/wallet_sql.h"
#include "operator/ledger/escrow_store.h"
#include "operator/ledger/session.h"

namespace tallygate::api {
namespace {

constexpr int kExitRefused = 1;
constexpr int kAttempts = 5;

config::Parser<std::string> tenant_id() {
  return {[](std::string_view in) -> config::Parsed<std::string> {
            if (!TenantId::parse(in))
              return config::refuse(config::quoted(in) + " is no tenant", "write namespace/name");
            return std::string(in);
          },
          "NAMESPACE/NAME"};
}

config::Parser<std::string> currency_code() {
  return {[](std::string_view in) -> config::Parsed<std::string> {
            if (!is_currency(in))
              return config::refuse(config::quoted(in) + " is no currency of ISO 4217", "write its code, such as GBP");
            return std::string(in);
          },
          "CODE"};
}

config::Parser<Micros> amount_of(bool negative) {
  return {[negative](std::string_view in) -> config::Parsed<Micros> {
            const auto micros = parse_money(in, negative);
            if (!micros || *micros == 0) {
              return config::refuse(
                  config::quoted(in) + " is no amount",
                  negative ? "write a decimal such as 12.50 or -3, not 0" : "write a decimal above 0, such as 12.50");
            }
            return *micros;
          },
          "DECIMAL"};
}

config::Parser<std::string> clean(size_t max) {
  const auto base = config::text(1, max);
  return {[base](std::string_view in) -> config::Parsed<std::string> {
            if (!is_clean_text(in)) return config::refuse("it has control characters or is no UTF-8", "leave them out");
            return base(in);
          },
          "TEXT"};
}

ledger::Param currency_param(const WalletSettings& settings) {
  return settings.currency.empty() ? ledger::Param(std::nullopt) : ledger::Param(settings.currency);
}

// A table or a function that is not there.
bool is_not_migrated(const Error& error) {
  return error.message.starts_with("PostgreSQL 42P01") || error.message.starts_with("PostgreSQL 42883");
}

// By key a repetition is safe, so what nobody knows the end of is tried again.
Result<void> transact(Env& env, const WalletSettings& settings,
                      const std::function<Result<void>(ledger::Transaction&)>& body) {
  ledger::Session session(settings.database.url.text);
  for (int attempt = 1;; ++attempt) {
    auto done = session.transact([&](ledger::Transaction& transaction) -> Result<void> {
      auto chosen = transaction.exec("select set_config('tallygate.tenant', $1, true)", {settings.tenant});
      if (!chosen) return tl::unexpected(chosen.error());
      return body(transaction);
    });
    const bool repeatable = !done && (done.error().errc == Errc::kUnavailable || done.error().errc == Errc::kTimeout);
    if (!done && is_not_migrated(done.error())) {
      return fail(done.error().errc, "the database is not this program's: run `tallygate-operator migrate` (" +
                                         done.error().message + ")");
    }
    if (!repeatable || attempt == kAttempts) return done;
    env.sleep_ms(100 * attempt);
  }
}

// A credit is audited in the transaction that makes it; adjust_wallet audits itself.
Result<void> audit_credit(ledger::Transaction& transaction, const WalletSettings& settings, const WalletResult& result,
                          const std::string& now) {
  JsonWriter details;
  details.begin_object();
  put_money(details, "amount", settings.amount, result.currency);
  details.key("currency");
  details.value(result.currency);
  details.key("idempotencyKey");
  details.value(settings.idempotency_key);
  details.end_object();
  auto rows = transaction.exec(
      "insert into audit_log (at, tenant, actor, action, reason, request_id, details) values ($1, $2, $3, "
      "'wallet.credit', $4, $5, $6)",
      {now, settings.tenant, settings.actor, settings.reason, "cli", details.take()});
  if (!rows) return tl::unexpected(rows.error());
  return {};
}

Result<WalletResult> change(Env& env, WalletAction action, const WalletSettings& settings) {
  const std::string now = ledger::timestamp_text(env.wall_ns());
  WalletResult result;
  const auto done = transact(env, settings, [&](ledger::Transaction& transaction) -> Result<void> {
    const bool credit = action == WalletAction::kCredit;
    auto rows = credit ? transaction.exec("select * from add_wallet_credits($1, $2, null, $3, $4, $5, $6)",
                                          {settings.tenant, settings.idempotency_key, currency_param(settings),
                                           settings.amount, settings.reason, now})
                       : transaction.exec("select * from adjust_wallet($1, $2, null, $3, $4, $5, $6, $7, $8)",
                                          {settings.tenant, settings.idempotency_key, currency_param(settings),
                                           settings.amount, settings.reason, settings.actor, "cli", now});
    if (!rows) return tl::unexpected(rows.error());
    result = read_wallet_result(*rows);
    if (!credit || !result.success || result.duplicate) return {};
    return audit_credit(transaction, settings, result, now);
  });
  if (!done) return tl::unexpected(done.error());
  return result;
}

void print_wallet(const WalletResult& result) {
  const auto line = [&](const char* name, Micros micros) {
    std::printf("%-12s %s %s\n", name, result.currency.c_str(), money_text(micros, result.currency).c_str());
  };
  line("balance", result.balance);
  line("reserved", result.reserved);
  line("float", result.floating);
  line("effective", result.effective);
  line("debt limit", result.debt_limit);
}

int refused(const WalletResult& result) {
  std::fprintf(stderr, "tallygate-operator wallet: refused: %s (%s)\n",
               std::string(refusal_detail(result.reason)).c_str(), result.reason.c_str());
  if (result.shortfall > 0) {
    std::fprintf(stderr, "%s %s is missing\n", result.currency.c_str(),
                 money_text(result.shortfall, result.currency).c_str());
  }
  if (result.shortfall > 0 && result.floating > 0) {
    std::fprintf(stderr, "%s %s is on loan to sidecars: POST /v1/wallet/adjustments takes back what they do not use\n",
                 result.currency.c_str(), money_text(result.floating, result.currency).c_str());
  }
  return kExitRefused;
}

int failed(const Error& error) {
  std::fprintf(stderr, "tallygate-operator wallet: %s\n", error.message.c_str());
  return kExitRefused;
}

int run_change(Env& env, WalletAction action, const WalletSettings& settings) {
  const auto result = change(env, action, settings);
  if (!result) return failed(result.error());
  if (!result->success) return refused(*result);
  std::printf("%s %s %s, transaction %lld%s\n", action == WalletAction::kCredit ? "credited" : "adjusted by",
              result->currency.c_str(), money_text(settings.amount, result->currency).c_str(),
              static_cast<long long>(result->transaction_id),
              result->duplicate ? " (was done before under this key)" : "");
  print_wallet(*result);
  return 0;
}

// What is on loan to sidecars, and when it is free at the latest where something keeps it from being used.
void print_floats(const ledger::Rows& rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string state(rows.text(i, 3));
    std::printf("  %s units of %s, epoch %s: ", std::string(rows.text(i, 2)).c_str(),
                std::string(rows.text(i, 0)).c_str(), std::string(rows.text(i, 1)).c_str());
    if (state == "CURRENT") {
      std::printf("on loan to sidecars\n");
    } else if (state == "SILENT") {
      std::printf("on loan to sidecars; %s not heard of: its part is free by %s\n",
                  std::string(rows.text(i, 4)).c_str(), format_moment_sql(rows.text(i, 5)).c_str());
    } else {
      std::printf("not reported since that epoch ended; free by %s\n", format_moment_sql(rows.text(i, 5)).c_str());
    }
  }
}

int run_show(Env& env, const WalletSettings& settings) {
  WalletResult result;
  ledger::Rows floats;
  const auto done = transact(env, settings, [&](ledger::Transaction& transaction) -> Result<void> {
    auto rows = transaction.exec("select * from wallet_facts($1, $2)", {settings.tenant, currency_param(settings)});
    if (!rows) return tl::unexpected(rows.error());
    result = read_wallet_result(*rows);
    auto held = transaction.exec(
        "select * from wallet_floats($1, $2, $3 * interval '1 millisecond', $4, $5 * interval '1 millisecond')",
        {settings.tenant, result.currency, ledger::kPresenceRound_ms, int64_t{ledger::kSilentRounds},
         ledger::kWriteOffAfter_ms});
    if (!held) return tl::unexpected(held.error());
    floats = std::move(*held);
    return {};
  });
  if (!done) return failed(done.error());
  if (!result.reason.empty()) return refused(result);
  print_wallet(result);
  print_floats(floats);
  return 0;
}

int run_close(Env& env, const WalletSettings& settings) {
  WalletResult result;
  const auto done = transact(env, settings, [&](ledger::Transaction& transaction) -> Result<void> {
    auto rows = transaction.exec("select * from close_wallet($1, $2, $3, $4, $5)",
                                 {settings.tenant, currency_param(settings), settings.reason, settings.actor,
                                  ledger::timestamp_text(env.wall_ns())});
    if (!rows) return tl::unexpected(rows.error());
    result = read_wallet_result(*rows);
    return {};
  });
  if (!done) return failed(done.error());
  if (!result.success) return refused(result);
  std::printf("closed the wallet in %s%s; a credit opens it again\n", result.currency.c_str(),
              result.duplicate ? " (it was closed before)" : "");
  return 0;
}

int run_history(Env& env, const WalletSettings& settings) {
  const auto done = transact(env, settings, [&](ledger::Transaction& transaction) -> Result<void> {
    auto rows = transaction.exec("select * from wallet_transactions($1, $2, null, $3)",
                                 {settings.tenant, currency_param(settings), settings.limit});
    if (!rows) return tl::unexpected(rows.error());
    std::printf("%-10s %-27s %-16s %16s %16s  %s\n", "id", "at", "kind", "amount", "balance after", "description");
    for (size_t row = 0; row < rows->size(); ++row) {
      using Column = HistoryColumn;
      const std::string currency(rows->text(row, Column::kCurrency));
      std::printf("%-10s %-27s %-16s %12s %s %12s %s  %s\n", std::string(rows->text(row, Column::kId)).c_str(),
                  format_moment_sql(rows->text(row, Column::kUpdatedAt)).c_str(),
                  std::string(rows->text(row, Column::kKind)).c_str(),
                  money_text(rows->integer(row, Column::kAmount), currency).c_str(), currency.c_str(),
                  money_text(rows->integer(row, Column::kBalanceAfter), currency).c_str(), currency.c_str(),
                  description_of(*rows, row).c_str());
    }
    return {};
  });
  return done ? 0 : failed(done.error());
}

}  // namespace

void declare_wallet(config::OptionSet& options, WalletAction action, WalletSettings& s) {
  const bool moves = action == WalletAction::kCredit || action == WalletAction::kAdjust;
  ledger::declare_database(options, s.database);
  options.add("tenant", &s.tenant, tenant_id()).required().help("whose wallet");
  options.add("currency", &s.currency, currency_code())
      .help("needed where the tenant has several wallets, or none yet");
  if (action == WalletAction::kHistory) {
    options.add("limit", &s.limit, config::integer(1, 500)).fallback("50").help("how many, newest first");
  }
  if (!moves && action != WalletAction::kClose) return;
  if (moves) {
    options.add("amount", &s.amount, amount_of(action == WalletAction::kAdjust))
        .required()
        .help("in the currency, not in minor units");
  }
  options.add("reason", &s.reason, clean(500)).required().help("why; kept in the audit log");
  options.add("actor", &s.actor, clean(200)).required().help("who; kept in the audit log");
  if (!moves) return;
  options.add("idempotency-key", &s.idempotency_key, clean(255))
      .required()
      .help("of your choice; the same key again does nothing twice");
}

int run_wallet_command(Env& env, WalletAction action, const WalletSettings& settings) {
  switch (action) {
    case WalletAction::kShow:
      return run_show(env, settings);
    case WalletAction::kHistory:
      return run_history(env, settings);
    case WalletAction::kClose:
      return run_close(env, settings);
    default:
      return run_change(env, action, settings);
  }
}

}  // namespace tallygate::api
