// Holds by call id: made, looked at, committed, released.
#include "operator/api/call.h"
#include "operator/api/quotes.h"
#include "operator/api/seal.h"
#include "operator/api/text.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr size_t kDescriptionMax = 500, kCallIdMax = 255;
constexpr int64_t kPageDefault = 50, kPageMax = 500;
constexpr int64_t kTtlDefaultS = 3600, kTtlMaxS = 7 * 24 * 3600;
constexpr int64_t kNano = 1'000'000'000;

// From the path; a fault where it is not what a call id can be.
std::string call_id_of(const Call& call, Fields& fields) {
  const std::string_view id = call.request.param("call_id");
  if (id.size() > kCallIdMax || !is_clean_text(id))
    fields.refuse("callId", "must have 1 to 255 bytes, no control characters");
  return std::string(id);
}

http::Response resolved(int status, const WalletResult& result,
                        const std::optional<QuotedAmount>& quoted = std::nullopt) {
  JsonWriter json;
  json.begin_object();
  put_text_unless_empty(json, "transactionId", result.transaction);
  json.key("duplicate");
  json.value(result.duplicate);
  put_reservation(json, result);
  put_quoted(json, quoted);
  json.key("wallet");
  json.begin_object();
  put_wallet(json, result);
  json.end_object();
  json.end_object();
  return wallet_response(status, result, json);
}

// A row of wallet_reservations.
void put_row(JsonWriter& json, const ledger::Rows& rows, size_t row) {
  enum Column : size_t { kId, kCurrency, kCallId, kState, kAmount, kCommitted, kExpiresAt, kCreatedAt, kResolvedAt, kQuote, kCostQuote = kQuote + 4 };
  const std::string currency(rows.text(row, kCurrency));
  json.begin_object();
  json.key("callId");
  json.value(rows.text(row, kCallId));
  json.key("state");
  json.value(rows.text(row, kState));
  json.key("currency");
  json.value(currency);
  put_money(json, "amount", rows.integer(row, kAmount), currency);
  put_quoted(json, read_quoted(rows, row, kQuote));
  put_money(json, "committed", rows.integer(row, kCommitted), currency);
  put_quoted(json, read_quoted(rows, row, kCostQuote), "quotedCost");
  put_text_unless_empty(json, "expiresAt", format_moment_sql(rows.text(row, kExpiresAt)));
  json.key("createdAt");
  json.value(format_moment_sql(rows.text(row, kCreatedAt)));
  put_text_unless_empty(json, "resolvedAt", format_moment_sql(rows.text(row, kResolvedAt)));
  json.end_object();
}

// Until when: expiresAt, or ttlSeconds from now on.
int64_t expiry_of(const Call& call, Fields& fields) {
  const auto moment = fields.moment("expiresAt", false);
  const auto ttl_s = fields.integer("ttlSeconds", 1, kTtlMaxS, false);
  if (moment && ttl_s) fields.refuse("ttlSeconds", "must not be given together with expiresAt");
  if (!moment) return call.now_ns + ttl_s.value_or(kTtlDefaultS) * kNano;
  if (*moment <= call.now_ns || *moment > call.now_ns + kTtlMaxS * kNano) {
    fields.refuse("expiresAt", "must be after now and within seven days");
  }
  return *moment;
}

}  // namespace

void create_reservation(const AsyncCallPtr& call) {
  Fields fields(call->request, Fields::Body::kRequired);
  const std::string call_id = fields.text("callId", kCallIdMax);
  if (call_id == "." || call_id == "..") fields.refuse("callId", "must not be . or .., which no path can name");
  const Micros amount = fields.amount("amount", 1);
  const auto currency = fields.currency();
  const std::string description = fields.text("description", kDescriptionMax, false);
  const int64_t expires_ns = expiry_of(*call, fields);
  const std::string quote_id = read_quote_id(fields);
  if (auto refused = fields.refusal()) return call->answer(*refused);
  if (!quote_id.empty() && call->moves_to_worker(create_reservation)) return;
  const auto price = price_of(*call, "amount", amount, currency, quote_id);
  if (!price) return call->answer(price.error());
  answer_wallet(call, "reserve_call_credits",
                {call->tenant, call->idempotency_key, fingerprint_of(*call, fields), nullable(price->currency), call_id,
                 price->amount, ledger::timestamp_text(expires_ns), description, ledger::timestamp_text(call->now_ns)},
                true, price->quoted,
                [quoted = price->quoted](const WalletResult& result) { return resolved(201, result, quoted); });
}

http::Response list_reservations(Call& call) {
  Fields fields(call.request, Fields::Body::kNone);
  const auto state = fields.query_word("state", {"pending", "committed", "released", "expired"});
  const auto before = read_list_cursor(call, fields, 'R');
  const int64_t limit = fields.query_integer("limit", 1, kPageMax).value_or(kPageDefault);
  if (auto refused = fields.refusal()) return *refused;
  auto rows = select_as_tenant(call, "select * from wallet_reservations($1, $2, $3, $4)",
                               {call.tenant, nullable(state), nullable(before), limit});
  if (!rows) return failure_response(call, rows.error());
  JsonWriter json;
  json.begin_object();
  json.key("items");
  json.begin_array();
  for (size_t row = 0; row < rows->size(); ++row) put_row(json, *rows, row);
  json.end_array();
  if (rows->size() == static_cast<size_t>(limit)) {
    json.key("nextCursor");
    json.value(list_cursor(call, 'R', rows->integer(rows->size() - 1, 0)));
  }
  json.end_object();
  return http::json_response(200, json.take());
}

http::Response get_reservation(Call& call) {
  Fields fields(call.request, Fields::Body::kNone);
  const std::string call_id = call_id_of(call, fields);
  if (auto refused = fields.refusal()) return *refused;
  auto rows = select_as_tenant(call, "select * from wallet_reservation($1, $2)", {call.tenant, call_id});
  if (!rows) return failure_response(call, rows.error());
  if (rows->empty()) {
    return http::problem_response({404, "UnknownReservation", "There is no reservation for this call.", "", {}});
  }
  JsonWriter json;
  put_row(json, *rows, 0);
  return http::json_response(200, json.take());
}

void commit_reservation(const AsyncCallPtr& call) {
  Fields fields(call->request, Fields::Body::kRequired);
  const std::string call_id = call_id_of(*call, fields);
  const Micros cost = fields.amount("cost", 0);
  const auto currency = fields.currency();
  const std::string description = fields.text("description", kDescriptionMax, false);
  const std::string quote_id = read_quote_id(fields);
  if (auto refused = fields.refusal()) return call->answer(*refused);
  if (!quote_id.empty() && call->moves_to_worker(commit_reservation)) return;
  const auto price = price_of(*call, "cost", cost, currency, quote_id, call_id);
  if (!price) return call->answer(price.error());
  answer_wallet(call, "commit_reserved_credits",
                {call->tenant, call->idempotency_key, fingerprint_of(*call, fields), nullable(price->currency), call_id,
                 price->amount, description, ledger::timestamp_text(call->now_ns)},
                true, price->quoted,
                [quoted = price->quoted](const WalletResult& result) { return resolved(200, result, quoted); });
}

void release_reservation(const AsyncCallPtr& call) {
  Fields fields(call->request, Fields::Body::kOptional);
  const std::string call_id = call_id_of(*call, fields);
  const std::string description = fields.text("description", kDescriptionMax, false);
  if (auto refused = fields.refusal()) return call->answer(*refused);
  answer_wallet(call, "release_reserved_credits",
                {call->tenant, call->idempotency_key, fingerprint_of(*call, fields), call_id, description,
                 ledger::timestamp_text(call->now_ns)},
                false, std::nullopt, [](const WalletResult& result) { return resolved(200, result); });
}

}  // namespace tallygate::api
