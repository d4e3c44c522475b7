#include "operator/api/wallet_sql.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/telemetry/log.h"
#include "operator/api/call.h"
#include "operator/api/seal.h"
#include "operator/api/text.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr int kRecallRounds = 4;

// The fields of the type wallet_operation (migrations/0041) after the place, in its order.
enum Field : size_t {
  kOperation,
  kOfTenant,
  kKey,
  kFingerprint,
  kOfCurrency,
  kCall,
  kAmountMicros,
  kUntil,
  kDescription,
  kNow,
  kRecalled,
  kMayRecall,
  kFields
};

// Those that wallet_operate knows, what calls and sales do all day: which field each parameter of the function is.
struct BatchedOperation {
  std::string_view function, operation;
  std::vector<Field> parameters;
};
const BatchedOperation* batched_operation(std::string_view function) {
  static const std::vector<BatchedOperation> kAll = {
      {"check_balance_and_deduct_asset_cost",
       "purchase",
       {kOfTenant, kKey, kFingerprint, kOfCurrency, kAmountMicros, kDescription, kNow, kRecalled, kMayRecall}},
      {"reserve_call_credits",
       "reserve",
       {kOfTenant, kKey, kFingerprint, kOfCurrency, kCall, kAmountMicros, kUntil, kDescription, kNow, kRecalled,
        kMayRecall}},
      {"commit_reserved_credits",
       "commit",
       {kOfTenant, kKey, kFingerprint, kOfCurrency, kCall, kAmountMicros, kDescription, kNow, kRecalled, kMayRecall}},
      {"release_reserved_credits", "release", {kOfTenant, kKey, kFingerprint, kCall, kDescription, kNow}}};
  const auto found = std::find_if(kAll.begin(), kAll.end(), [&](const auto& one) { return one.function == function; });
  return found == kAll.end() ? nullptr : &*found;
}

std::string operation_row(const BatchedOperation& batched, const ledger::Params& params) {
  TG_ASSERT(params.size() <= batched.parameters.size());
  std::array<std::optional<std::string_view>, kFields> fields;
  fields[kOperation] = batched.operation;
  for (size_t i = 0; i < params.size(); ++i) fields[batched.parameters[i]] = params[i].text;
  std::string row;
  row.reserve(320);
  for (const auto& field : fields) ledger::append_row_field(row, field);
  return row;
}

Result<WalletResult> run_once(Call& call, const std::string& function, const ledger::Params& params,
                              const std::optional<QuotedAmount>& quoted, bool recalled) {
  // What was recalled is counted under its shard's lock, which comes before all wallets: not behind other tenants'.
  const BatchedOperation* batched = quoted || recalled ? nullptr : batched_operation(function);
  if (batched != nullptr) {
    auto own = call.services.wallet_operations.run(call.tenant, operation_row(*batched, params), call.until_ms);
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

namespace {

// Goes on where the ledger wants float recalled: in at most four rounds.
Result<WalletResult> with_float(Call& call, const std::string& function, ledger::Params params,
                                const std::optional<QuotedAmount>& quoted, Result<WalletResult> result) {
  std::string last;
  for (int round = 0;; ++round) {
    if (!result || result->reason != "RecallFloat") return result;
    if (round > kRecallRounds) return fail(Errc::kInternal, "the ledger asks for float that it was told cannot be had");
    auto recalled = round < kRecallRounds ? call.services.recaller.recall(call.tenant, result->recall, call.until_ms)
                                          : fail(Errc::kExhausted, "float is recalled as fast as it is funded");
    if (recalled) {
      // Nothing more was idle: the rest is with the sidecars.
      if (*recalled == last) params.back() = ledger::Param(false);
      params[params.size() - 2] = ledger::Param(*recalled);
      last = std::move(*recalled);
    } else {
      static log::Throttle throttle(10);
      log::warn(throttle, "float could not be recalled for a wallet",
                {{"tenant", call.tenant}, {"error", recalled.error().message}});
      params.back() = ledger::Param(false);
    }
    result = run_once(call, function, params, quoted, !last.empty());
  }
}

void add_recall(const Call& call, ledger::Params& params) {
  params.emplace_back(std::nullopt);
  params.emplace_back(call.services.recaller.possible());
}

// What is left of a call while its operation is in a round.
struct Pending {
  AsyncCallPtr call;
  std::string function;
  ledger::Params params;
  std::function<http::Response(const WalletResult&)> respond;
  void answer(Result<WalletResult> result) const {
    if (result) result->transaction = shown_number(*call, result->transaction_id);
    call->answer(!result            ? failure_response(*call, result.error())
                 : !result->success ? refusal_response(*result)
                                    : respond(*result));
  }
};

// The fields of the type status_question after the place.
std::string status_row(const Call& call, const std::optional<std::string>& currency, const std::string& call_id) {
  std::string row;
  ledger::append_row_field(row, call.tenant);
  ledger::append_row_field(row, currency);
  ledger::append_row_field(row, call_id.empty() ? std::nullopt : std::optional<std::string_view>(call_id));
  return row;
}

StatusResult read_status_result(const OwnRow& own) {
  const ledger::Rows& rows = own.rows;
  enum Column : size_t { kEndCall, kReason, kCurrency, kBalance, kReserved, kFloat, kEffective, kDebtLimit, kCallHold };
  StatusResult out;
  out.end_call = rows.boolean(own.row, kEndCall);
  out.reason = rows.text(own.row, kReason);
  out.currency = rows.text(own.row, kCurrency);
  out.balance = rows.integer(own.row, kBalance);
  out.reserved = rows.integer(own.row, kReserved);
  out.floating = rows.integer(own.row, kFloat);
  out.effective = rows.integer(own.row, kEffective);
  out.debt_limit = rows.integer(own.row, kDebtLimit);
  out.call_hold = rows.integer(own.row, kCallHold);
  return out;
}

}  // namespace

Result<WalletResult> run_wallet(Call& call, const std::string& function, ledger::Params params, bool may_recall,
                                const std::optional<QuotedAmount>& quoted) {
  if (may_recall) add_recall(call, params);
  auto result = run_once(call, function, params, quoted, false);
  result = with_float(call, function, std::move(params), quoted, std::move(result));
  if (result) result->transaction = shown_number(call, result->transaction_id);
  return result;
}

void answer_wallet(const AsyncCallPtr& call, const std::string& function, ledger::Params params, bool may_recall,
                   const std::optional<QuotedAmount>& quoted,
                   std::function<http::Response(const WalletResult&)> respond) {
  const auto pending = std::make_shared<Pending>(Pending{call, function, std::move(params), std::move(respond)});
  if (quoted) return pending->answer(run_wallet(*call, function, std::move(pending->params), may_recall, quoted));
  if (may_recall) add_recall(*call, pending->params);
  const auto go_on = [pending](const Result<OwnRow>& own) {
    if (!own) return pending->answer(tl::unexpected(own.error()));
    WalletResult result = read_wallet_result(own->rows, own->row);
    if (result.reason != "RecallFloat") return pending->answer(result);
    pending->call->reply.on_worker([pending, result = std::move(result)] {
      pending->answer(with_float(*pending->call, pending->function, std::move(pending->params), std::nullopt, result));
    });
  };
  const BatchedOperation* batched = batched_operation(function);
  TG_ASSERT(batched != nullptr);
  call->services.wallet_operations.submit(
      call->tenant, operation_row(*batched, pending->params), call->until_ms,
      [call, go_on](Result<OwnRow> own) { call->reply.on_io_thread([go_on, own = std::move(own)] { go_on(own); }); });
}

Result<StatusResult> run_status_check(Call& call, const std::optional<std::string>& currency,
                                      const std::string& call_id) {
  return call.services.status_checks.run(call.tenant, status_row(call, currency, call_id), call.until_ms)
      .map(read_status_result);
}

void answer_status_check(const AsyncCallPtr& call, const std::optional<std::string>& currency,
                         const std::string& call_id, std::function<http::Response(const StatusResult&)> respond) {
  const auto go_on = [call, respond = std::move(respond)](const Result<OwnRow>& own) {
    call->answer(own ? respond(read_status_result(*own)) : failure_response(*call, own.error()));
  };
  call->services.status_checks.submit(
      call->tenant, status_row(*call, currency, call_id), call->until_ms,
      [call, go_on](Result<OwnRow> own) { call->reply.on_io_thread([go_on, own = std::move(own)] { go_on(own); }); });
}

}  // namespace tallygate::api
