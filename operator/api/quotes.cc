#include "operator/api/quotes.h"

#include "operator/api/call.h"
#include "operator/api/text.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr size_t kQuoteIdMax = 64;
constexpr Micros kAmountMax = 1'000'000'000 * kMicrosPerUnit;  // as the ledger's

http::Response faulty(const std::string& field, const std::string& detail) { return faulty_fields({{field, detail}}); }

}  // namespace

std::string read_quote_id(Fields& fields) { return fields.text("quoteId", kQuoteIdMax, false); }

tl::expected<Price, http::Response> price_of(Call& call, const char* name, Micros amount,
                                             std::optional<std::string> currency, const std::string& quote_id,
                                             const std::string& committed_call) {
  return price_of(call, name, amount, std::move(currency), quote_id, committed_call, call.idempotency_key);
}

tl::expected<Price, http::Response> price_of(Call& call, const char* name, Micros amount,
                                             std::optional<std::string> currency, const std::string& quote_id,
                                             const std::string& committed_call, const std::string& idempotency_key) {
  if (quote_id.empty()) return Price{amount, std::move(currency), std::nullopt};
  const auto rows =
      select_as_tenant(call, "select * from find_quote($1, $2, $3, $4, $5)",
                       {call.tenant, quote_id, idempotency_key, committed_call, ledger::timestamp_text(call.now_ns)});
  if (!rows) return tl::unexpected(failure_response(call, rows.error()));
  if (rows->empty()) return tl::unexpected(faulty("quoteId", "is no quote of this tenant"));
  enum Column : size_t { kFrom, kTo, kRate, kExpiresAt, kHolds };
  const std::string from(rows->text(0, kFrom)), to(rows->text(0, kTo));
  if (!rows->boolean(0, kHolds)) {
    return tl::unexpected(faulty(
        "quoteId", "has expired at " + format_moment_sql(rows->text(0, kExpiresAt)) + ": ask for another quote"));
  }
  if (currency && *currency != from) {
    return tl::unexpected(faulty("currency", "must be the quote's from, " + from + ", or absent"));
  }
  const ExchangeRate rate{rows->integer(0, kRate)};
  const auto converted = convert(amount, rate);
  if (!converted || *converted > kAmountMax || (*converted == 0 && amount != 0)) {
    return tl::unexpected(
        faulty(name, "must be from 0.000001 to 1000000000 in " + to + " at the quote's rate, " + rate.str()));
  }
  return Price{*converted, to, QuotedAmount{quote_id, from, amount, rate}};
}

std::optional<QuotedAmount> read_quoted(const ledger::Rows& rows, size_t row, size_t first_column) {
  if (rows.is_null(row, first_column)) return std::nullopt;
  return QuotedAmount{std::string(rows.text(row, first_column)), std::string(rows.text(row, first_column + 1)),
                      rows.integer(row, first_column + 2), ExchangeRate{rows.integer(row, first_column + 3)}};
}

void put_quoted(JsonWriter& json, const std::optional<QuotedAmount>& quoted, std::string_view name) {
  if (!quoted) return;
  json.key(name);
  json.begin_object();
  json.key("quoteId");
  json.value(quoted->quote_id);
  json.key("currency");
  json.value(quoted->currency);
  put_money(json, "amount", quoted->amount, quoted->currency);
  json.key("rate");
  json.value(quoted->rate.str());
  json.end_object();
}

}  // namespace tallygate::api
