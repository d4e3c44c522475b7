#include "operator/api/wallet_sql.h"

#include "core/telemetry/json_text.h"
#include "core/telemetry/log.h"
#include "operator/api/call.h"
#include "operator/api/text.h"

namespace tallygate::api {
namespace {

constexpr int kRecallRounds = 4;

// Those that wallet_batch knows: what calls and sales do all day.
bool is_batched(std::string_view function) {
  return function == "check_balance_and_deduct_asset_cost" || function == "reserve_call_credits" ||
         function == "commit_reserved_credits" || function == "release_reserved_credits";
}

// A call as the batch functions (migrations/0036) take it.
std::string operation_of(const std::string& function, const ledger::Params& params) {
  JsonWriter json;
  json.begin_object();
  if (!function.empty()) {
    json.key("fn");
    json.value(function);
  }
  json.key("a");
  json.begin_array();
  for (const auto& param : params) param.text ? json.value(*param.text) : json.null();
  json.end_array();
  json.end_object();
  return json.take();
}

Result<WalletResult> run_once(Call& call, const std::string& function, const ledger::Params& params,
                              const std::optional<QuotedAmount>& quoted, bool recalled) {
  // What was recalled is counted under its shard's lock, which comes before all wallets: not behind other tenants'.
  if (!quoted && !recalled && is_batched(function)) {
    auto own = call.services.wallet_operations.run(call.tenant, operation_of(function, params), call.until_ms);
    if (!own) return tl::unexpected(own.error());
    return read_wallet_result(own->rows, own->row);
  }
  std::string sql = "select * from " + function + "(";
  for (size_t i = 1; i <= params.size(); ++i) sql += (i == 1 ? "$" : ", $") + std::to_string(i);
  WalletResult result;
  const auto done = as_tenant(call, [&](ledger::Transaction& transaction) -> Result<void> {
    auto rows = transaction.exec(sql + ")", params);
    if (!rows) return tl::unexpected(rows.error());
    if (rows->empty()) return fail(Errc::kInternal, "the ledger's function answered no row");
    result = read_wallet_result(*rows);
    if (!quoted || !result.success || result.duplicate) return {};
    return transaction
        .exec("insert into quoted_amounts (transaction, tenant, quote, amount_micros) values ($1, $2, $3, $4)",
              {result.transaction_id, call.tenant, quoted->quote_id, quoted->amount})
        .map([](const auto&) {});
  });
  if (!done) return tl::unexpected(done.error());
  if (quoted && result.success && !result.duplicate) call.services.metrics.quotes_used.add();
  return result;
}

}  // namespace

WalletResult read_wallet_result(const ledger::Rows& rows, size_t row) {
  // The columns of the type wallet_result, in its order.
  enum Column : size_t {
    kSuccess,
    kDuplicate,
    kReason,
    kTenant,
    kCurrency,
    kBalance,
    kReserved,
    kFloat,
    kEffective,
    kDebtLimit,
    kRequested,
    kShortfall,
    kTransaction,
    kReservation,
    kCallId,
    kState,
    kAmount,
    kCommitted,
    kReleased,
    kExpiresAt,
    kRecall
  };
  WalletResult out;
  out.success = rows.boolean(row, kSuccess);
  out.duplicate = rows.boolean(row, kDuplicate);
  out.reason = rows.text(row, kReason);
  out.tenant = rows.text(row, kTenant);
  out.currency = rows.text(row, kCurrency);
  out.balance = rows.integer(row, kBalance);
  out.reserved = rows.integer(row, kReserved);
  out.floating = rows.integer(row, kFloat);
  out.effective = rows.integer(row, kEffective);
  out.debt_limit = rows.integer(row, kDebtLimit);
  out.requested = rows.integer(row, kRequested);
  out.shortfall = rows.integer(row, kShortfall);
  out.transaction_id = rows.integer(row, kTransaction);
  out.reservation_id = rows.integer(row, kReservation);
  out.call_id = rows.text(row, kCallId);
  out.state = rows.text(row, kState);
  out.amount = rows.integer(row, kAmount);
  out.committed = rows.integer(row, kCommitted);
  out.released = rows.integer(row, kReleased);
  out.expires_at = format_moment_sql(rows.text(row, kExpiresAt));
  out.recall = rows.text(row, kRecall);
  return out;
}

Result<WalletResult> run_wallet(Call& call, const std::string& function, ledger::Params params, bool may_recall,
                                const std::optional<QuotedAmount>& quoted) {
  if (may_recall) {
    params.emplace_back(std::nullopt);
    params.emplace_back(call.services.recaller.possible());
  }
  std::string last;
  for (int round = 0;; ++round) {
    auto result = run_once(call, function, params, quoted, !last.empty());
    if (!result || result->reason != "RecallFloat") return result;
    if (round > kRecallRounds) return fail(Errc::kInternal, "the ledger asks for float that it was told cannot be had");
    auto recalled = round < kRecallRounds ? call.services.recaller.recall(call.tenant, result->recall, call.until_ms)
                                          : fail(Errc::kExhausted, "float is recalled as fast as it is funded");
    if (!recalled) {
      static log::Throttle throttle(10);
      log::warn(throttle, "float could not be recalled for a wallet",
                {{"tenant", call.tenant}, {"error", recalled.error().message}});
      params.back() = ledger::Param(false);
      continue;
    }
    // Nothing more was idle: the rest is with the sidecars.
    if (*recalled == last) params.back() = ledger::Param(false);
    params[params.size() - 2] = ledger::Param(*recalled);
    last = std::move(*recalled);
  }
}

Result<StatusResult> run_status_check(Call& call, const std::optional<std::string>& currency,
                                      const std::string& call_id) {
  const auto call_param = call_id.empty() ? ledger::Param(std::nullopt) : ledger::Param(call_id);
  auto own = call.services.status_checks.run(
      call.tenant, operation_of("", {call.tenant, nullable(currency), call_param}), call.until_ms);
  if (!own) return tl::unexpected(own.error());
  const ledger::Rows& rows = own->rows;
  enum Column : size_t { kEndCall, kReason, kCurrency, kBalance, kReserved, kFloat, kEffective, kDebtLimit, kCallHold };
  StatusResult out;
  out.end_call = rows.boolean(own->row, kEndCall);
  out.reason = rows.text(own->row, kReason);
  out.currency = rows.text(own->row, kCurrency);
  out.balance = rows.integer(own->row, kBalance);
  out.reserved = rows.integer(own->row, kReserved);
  out.floating = rows.integer(own->row, kFloat);
  out.effective = rows.integer(own->row, kEffective);
  out.debt_limit = rows.integer(own->row, kDebtLimit);
  out.call_hold = rows.integer(own->row, kCallHold);
  return out;
}

}  // namespace tallygate::api
