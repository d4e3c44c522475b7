// The wallet: what is there, what happened, purchases, adjustments, the kill switch.
#include "operator/api/call.h"
#include "operator/api/quotes.h"
#include "operator/api/seal.h"
#include "operator/api/text.h"
#include "operator/api/wallet_history.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr size_t kDescriptionMax = 500;
constexpr int64_t kPageDefault = 50, kPageMax = 500;

// What a purchase or an adjustment did.
http::Response moved(const WalletResult& result, Micros amount,
                     const std::optional<QuotedAmount>& quoted = std::nullopt) {
  JsonWriter json;
  json.begin_object();
  json.key("transactionId");
  json.value(result.transaction);
  json.key("duplicate");
  json.value(result.duplicate);
  put_money(json, "amount", amount, result.currency);
  put_quoted(json, quoted);
  json.key("wallet");
  json.begin_object();
  put_wallet(json, result);
  json.end_object();
  json.end_object();
  return wallet_response(201, result, json);
}

// The wallet's amounts in another currency, to its own digits.
Result<WalletResult> wallet_in(const WalletResult& wallet, const std::string& currency, ExchangeRate rate) {
  WalletResult out;
  out.currency = currency;
  const int digits = currency_digits(currency).value_or(2);
  for (const auto amount : {&WalletResult::balance, &WalletResult::reserved, &WalletResult::floating,
                            &WalletResult::effective, &WalletResult::debt_limit}) {
    const auto converted = convert(wallet.*amount, rate, digits);
    if (!converted) return tl::unexpected(converted.error());
    out.*amount = *converted;
  }
  return out;
}

void put_transaction(const Call& call, JsonWriter& json, const ledger::Rows& rows, size_t row) {
  using Column = HistoryColumn;
  const std::string currency(rows.text(row, Column::kCurrency));
  json.begin_object();
  json.key("id");
  // Of usage the number of its first transfer, behind a "u": another sequence.
  const bool usage = !rows.is_null(row, Column::kUnits);
  json.value(usage ? "u" + shown_number(call, rows.integer(row, Column::kPlace))
                   : shown_number(call, rows.integer(row, Column::kId)));
  json.key("kind");
  json.value(rows.text(row, Column::kKind));
  json.key("currency");
  json.value(currency);
  put_money(json, "amount", rows.integer(row, Column::kAmount), currency);
  put_money(json, "balanceAfter", rows.integer(row, Column::kBalanceAfter), currency);
  if (const auto quoted = quoted_in(rows, row)) put_quoted(json, quoted);
  if (!rows.is_null(row, Column::kUnits)) {
    json.key("usage");
    json.begin_array();
    for (const auto& [meter, units] : units_in(rows, row)) {
      json.begin_object();
      json.key("meter");
      json.value(meter);
      json.key("units");
      json.value(units);
      json.end_object();
    }
    json.end_array();
  }
  put_text_unless_empty(json, "idempotencyKey", rows.text(row, Column::kKey));
  put_text_unless_empty(json, "callId", rows.text(row, Column::kCallId));
  put_text_unless_empty(json, "description", rows.text(row, Column::kDescription));
  json.key("createdAt");
  json.value(format_moment_sql(rows.text(row, Column::kCreatedAt)));
  json.key("updatedAt");
  json.value(format_moment_sql(rows.text(row, Column::kUpdatedAt)));
  json.end_object();
}

http::Response status_response(const StatusResult& status) {
  JsonWriter json;
  json.begin_object();
  json.key("endCall");
  json.value(status.end_call);
  json.key("reason");
  json.value(status.reason);
  if (!status.currency.empty()) {
    json.key("currency");
    json.value(status.currency);
    put_money(json, "balance", status.balance, status.currency);
    put_money(json, "reserved", status.reserved, status.currency);
    put_money(json, "float", status.floating, status.currency);
    put_money(json, "effective", status.effective, status.currency);
    put_money(json, "debtLimit", status.debt_limit, status.currency);
    put_money(json, "callHold", status.call_hold, status.currency);
  }
  json.end_object();
  return http::json_response(200, json.take());
}

}  // namespace

http::Response get_wallet(Call& call) {
  Fields fields(call.request, Fields::Body::kNone);
  const auto currency = fields.query_currency();
  const auto other = fields.query_currency("in");
  if (auto refused = fields.refusal()) return *refused;
  auto result = run_wallet(call, "wallet_facts", {call.tenant, nullable(currency)}, false);
  if (!result) return failure_response(call, result.error());
  if (!result->reason.empty()) return refusal_response(*result);
  const auto rate = other ? call.services.rates.find(result->currency, *other) : std::nullopt;
  if (other && !rate) {
    return faulty_fields({{"in", *other == result->currency ? "must differ from the wallet's own"
                                                            : "has no rate from " + result->currency +
                                                                  ": the operator's --exchange-rates has none"}});
  }
  JsonWriter json;
  json.begin_object();
  json.key("tenant");
  json.value(call.tenant);
  put_wallet(json, *result);
  if (rate) {
    const auto converted = wallet_in(*result, *other, *rate);
    if (!converted) return failure_response(call, converted.error());
    json.key("in");
    json.begin_object();
    json.key("rate");
    json.value(rate->str());
    put_wallet(json, *converted);
    json.end_object();
  }
  json.end_object();
  return http::json_response(200, json.take());
}

http::Response list_transactions(Call& call) {
  Fields fields(call.request, Fields::Body::kNone);
  const auto currency = fields.query_currency();
  const auto before = read_list_cursor(call, fields, 'H');
  const int64_t limit = fields.query_integer("limit", 1, kPageMax).value_or(kPageDefault);
  if (auto refused = fields.refusal()) return *refused;
  auto rows = select_as_tenant(call, "select * from wallet_transactions($1, $2, $3, $4)",
                               {call.tenant, nullable(currency), nullable(before), limit});
  if (!rows) return failure_response(call, rows.error());
  JsonWriter json;
  json.begin_object();
  json.key("items");
  json.begin_array();
  for (size_t row = 0; row < rows->size(); ++row) put_transaction(call, json, *rows, row);
  json.end_array();
  if (rows->size() == static_cast<size_t>(limit)) {
    json.key("nextCursor");
    json.value(list_cursor(call, 'H', rows->integer(rows->size() - 1, HistoryColumn::kPlace)));
  }
  json.end_object();
  return http::json_response(200, json.take());
}

void create_deduction(const AsyncCallPtr& call) {
  Fields fields(call->request, Fields::Body::kRequired);
  const Micros amount = fields.amount("amount", 1);
  const auto currency = fields.currency();
  const std::string description = fields.text("description", kDescriptionMax, false);
  const std::string quote_id = read_quote_id(fields);
  if (auto refused = fields.refusal()) return call->answer(*refused);
  if (!quote_id.empty() && call->moves_to_worker(create_deduction)) return;
  const auto price = price_of(*call, "amount", amount, currency, quote_id);
  if (!price) return call->answer(price.error());
  answer_wallet(call, "check_balance_and_deduct_asset_cost",
                {call->tenant, call->idempotency_key, fingerprint_of(*call, fields), nullable(price->currency),
                 price->amount, description, ledger::timestamp_text(call->now_ns)},
                true, price->quoted,
                [price = *price](const WalletResult& result) { return moved(result, price.amount, price.quoted); });
}

http::Response create_adjustment(Call& call) {
  Fields fields(call.request, Fields::Body::kRequired);
  const Micros amount = fields.amount("amount", 0, true);
  const auto currency = fields.currency();
  const std::string reason = fields.text("reason", kDescriptionMax);
  if (auto refused = fields.refusal()) return *refused;
  auto result = run_wallet(call, "adjust_wallet",
                           {call.tenant, call.idempotency_key, fingerprint_of(call, fields), nullable(currency), amount,
                            reason, call.principal->actor, call.request_id, ledger::timestamp_text(call.now_ns)},
                           true);
  if (!result) return failure_response(call, result.error());
  if (!result->success) return refusal_response(*result);
  return moved(*result, amount);
}

void check_status(const AsyncCallPtr& call) {
  Fields fields(call->request, Fields::Body::kOptional);
  const auto currency = fields.currency();
  const std::string call_id = fields.text("callId", 255, false);
  if (auto refused = fields.refusal()) return call->answer(*refused);
  answer_status_check(call, currency, call_id, status_response);
}

}  // namespace tallygate::api
