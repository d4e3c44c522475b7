// Quotes: made at the rate in force, kept with it.
#include "operator/api/call.h"
#include "operator/api/text.h"
#include "operator/api/wallet_json.h"

namespace tallygate::api {
namespace {

constexpr size_t kIdBytes = 16;
constexpr char kColumns[] =
    "id, fingerprint, from_currency, to_currency, rate_picos, amount_micros, converted_micros, created_at, expires_at";
enum Column : size_t { kId, kFingerprint, kFrom, kTo, kRate, kAmount, kConverted, kCreatedAt, kExpiresAt };

void put_quote(JsonWriter& json, const ledger::Rows& rows) {
  const std::string from(rows.text(0, kFrom)), to(rows.text(0, kTo));
  json.key("id");
  json.value(rows.text(0, kId));
  json.key("from");
  json.value(from);
  json.key("to");
  json.value(to);
  json.key("rate");
  json.value(ExchangeRate{rows.integer(0, kRate)}.str());
  if (!rows.is_null(0, kAmount)) {
    put_money(json, "amount", rows.integer(0, kAmount), from);
    put_money(json, "converted", rows.integer(0, kConverted), to);
  }
  json.key("createdAt");
  json.value(format_moment_sql(rows.text(0, kCreatedAt)));
  json.key("expiresAt");
  json.value(format_moment_sql(rows.text(0, kExpiresAt)));
}

// The currency of the tenant's only wallet.
tl::expected<std::string, http::Response> own_currency(Call& call) {
  const auto facts = run_wallet(call, "wallet_facts", {call.tenant, std::nullopt}, false);
  if (!facts) return tl::unexpected(failure_response(call, facts.error()));
  if (facts->reason == "CurrencyRequired") {
    return tl::unexpected(faulty_fields({{"to", "is required: the tenant has several wallets"}}));
  }
  if (!facts->reason.empty()) return tl::unexpected(refusal_response(*facts));
  return facts->currency;
}

struct NewQuote {
  std::string from, to;
  ExchangeRate rate;
  std::optional<Micros> amount, converted;
};

std::optional<http::Response> complete(Call& call, NewQuote& quote) {
  const auto rate = call.services.rates.find(quote.from, quote.to);
  if (!rate) {
    return faulty_fields({{"from", quote.from == quote.to
                                       ? "must differ from to"
                                       : "has no rate to " + quote.to + ": the operator's --exchange-rates has none"}});
  }
  quote.rate = *rate;
  if (!quote.amount) return std::nullopt;
  const auto converted = convert(*quote.amount, quote.rate);
  if (!converted) return faulty_fields({{"amount", "is out of range in " + quote.to}});
  quote.converted = *converted;
  return std::nullopt;
}

// Inserts it, or finds the one that this key made before.
Result<ledger::Rows> store(Call& call, const NewQuote& quote, const std::string& fingerprint, bool& made) {
  const std::string id = "qt_" + call.services.env.random_hex(kIdBytes);
  ledger::Rows found;
  const auto done = as_tenant(call, [&](ledger::Transaction& transaction) -> Result<void> {
    auto rows = transaction.exec(
        "insert into quotes (id, tenant, idempotency_key, fingerprint, from_currency, to_currency, rate_picos, "
        "amount_micros, converted_micros, created_at, expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "
        "$11) "
        "on conflict (tenant, idempotency_key) do nothing",
        {id, call.tenant, call.idempotency_key, fingerprint, quote.from, quote.to, quote.rate.picos,
         nullable(quote.amount), nullable(quote.converted), ledger::timestamp_text(call.now_ns),
         ledger::timestamp_text(call.now_ns + call.services.quote_lifetime_ms * 1'000'000)});
    if (rows) {
      rows = transaction.exec(
          std::string("select ") + kColumns + " from quotes where tenant = $1 and idempotency_key = $2",
          {call.tenant, call.idempotency_key});
    }
    if (!rows) return tl::unexpected(rows.error());
    // The one of this key was old, and went in between.
    if (rows->empty()) return fail(Errc::kUnavailable, "the key's quote was dropped just now");
    found = std::move(*rows);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  made = found.text(0, kId) == id;
  return found;
}

}  // namespace

http::Response create_quote(Call& call) {
  Fields fields(call.request, Fields::Body::kRequired);
  NewQuote quote;
  quote.from = fields.currency("from", true).value_or("");
  const auto to = fields.currency("to");
  quote.amount = fields.optional_amount("amount", 1);
  if (auto refused = fields.refusal()) return *refused;
  if (to) {
    quote.to = *to;
  } else {
    auto own = own_currency(call);
    if (!own) return std::move(own.error());
    quote.to = std::move(*own);
  }
  if (auto refused = complete(call, quote)) return *refused;
  const std::string fingerprint = fingerprint_of(call, fields);
  bool made = false;
  const auto rows = store(call, quote, fingerprint, made);
  if (!rows) return failure_response(call, rows.error());
  if (rows->text(0, kFingerprint) != fingerprint) {
    WalletResult mismatch;
    mismatch.reason = "IdempotencyMismatch";
    return refusal_response(mismatch);
  }
  if (made) call.services.metrics.quotes_made.add();
  WalletResult result;
  result.duplicate = !made;
  JsonWriter json;
  json.begin_object();
  json.key("duplicate");
  json.value(result.duplicate);
  put_quote(json, *rows);
  json.end_object();
  return wallet_response(201, result, json);
}

http::Response get_quote(Call& call) {
  Fields fields(call.request, Fields::Body::kNone);
  if (auto refused = fields.refusal()) return *refused;
  const std::string id(call.request.param("quote_id"));
  ledger::Rows none;
  const auto rows =
      !is_clean_text(id)
          ? Result<ledger::Rows>(none)
          : select_as_tenant(call, std::string("select ") + kColumns + " from quotes where tenant = $1 and id = $2",
                             {call.tenant, id});
  if (!rows) return failure_response(call, rows.error());
  if (rows->empty()) return http::problem_response({404, "UnknownQuote", "There is no such quote.", "", {}});
  JsonWriter json;
  json.begin_object();
  put_quote(json, *rows);
  json.end_object();
  return http::json_response(200, json.take());
}

}  // namespace tallygate::api
