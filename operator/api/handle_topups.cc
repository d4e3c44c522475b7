// Top-ups: a customer pays on a page of Stripe's, and the wallet is credited once Stripe says that it was paid. The
// ledger knows of it before Stripe does, so that whatever is repeated, by whoever died in between, is the same session.
#include "core/telemetry/log.h"
#include "operator/api/call.h"
#include "operator/api/quotes.h"
#include "operator/api/text.h"
#include "operator/api/wallet_json.h"
#include "operator/stripe/amounts.h"
#include "operator/stripe/payments.h"

namespace tallygate::api {
namespace {

constexpr size_t kUrlMax = 2048;
constexpr size_t kIdBytes = 16;
constexpr int64_t kNano = 1'000'000'000;
// Stripe takes half an hour to a day; whoever has the page open should have time to find a card.
constexpr int64_t kLifetime_s = 3600;
// Stripe knows an Idempotency-Key for a day: an older attempt is looked for in its list before another is made.
constexpr int64_t kKeyLifetime_s = 23 * 3600;
constexpr int64_t kListedBefore_s = 300;  // Stripe's clock and ours
constexpr int kRounds = 3;

struct Wanted {
  std::string currency, pay_currency, quote, success_url, cancel_url;
  Micros amount = 0, pay = 0;
  int64_t pay_minor = 0;
};

// Columns of kColumns.
enum Column : size_t {
  kId,
  kState,
  kCurrency,
  kAmount,
  kPayCurrency,
  kPay,
  kPayMinor,
  kQuote,
  kCustomer,
  kSuccess,
  kCancel,
  kSession,
  kUrl,
  kExpiresAt,
  kExpires_s,
  kTenant,
  kAttemptKey,
  kVerdict,
  kLimit  // the last two of topup_begin alone
};
constexpr char kColumns[] =
    "(t).id, (t).state, (t).currency, (t).amount_micros, (t).pay_currency, (t).pay_micros, (t).pay_minor, (t).quote, "
    "(t).customer_id, (t).success_url, (t).cancel_url, (t).session_id, (t).url, (t).expires_at, "
    "extract(epoch from (t).expires_at)::bigint, (t).tenant, (t).attempt_key";

http::Response stripe_away(const Call& call, const Error& error) {
  static log::Throttle throttle(10);
  log::warn(throttle, "Stripe was asked for a top-up in vain",
            {{"request_id", call.request_id}, {"tenant", call.tenant}, {"error", error.message}});
  return http::problem_response(
      {503, "Unavailable", "Stripe does not answer. Repeat the request with the same key.", "", {}},
      {{"Retry-After", "2"}});
}

http::Response stripe_refuses(const Call& call, const Error& error) {
  log::error("Stripe refuses a top-up",
             {{"request_id", call.request_id}, {"tenant", call.tenant}, {"error", error.message}});
  for (const char* code : {"amount_too_small", "amount_too_large"}) {
    if (error.message.starts_with(code)) return faulty_fields({{"amount", "is refused by Stripe: " + error.message}});
  }
  return http::problem_response({502,
                                 "PaymentRefused",
                                 "Stripe does not open a payment for this. The request's id names why in our logs.",
                                 "",
                                 {}});
}

http::Response failed_at_stripe(const Call& call, const Error& error) {
  return error.errc == Errc::kInvalid ? stripe_refuses(call, error) : stripe_away(call, error);
}

http::Response answer(int status, const ledger::Rows& rows, bool duplicate) {
  const std::string currency(rows.text(0, kCurrency)), pay_currency(rows.text(0, kPayCurrency));
  JsonWriter json;
  json.begin_object();
  json.key("id");
  json.value(rows.text(0, kId));
  json.key("state");
  json.value(rows.text(0, kState));
  json.key("duplicate");
  json.value(duplicate);
  put_money(json, "amount", rows.integer(0, kAmount), currency);
  json.key("currency");
  json.value(currency);
  json.key("pay");
  json.begin_object();
  put_money(json, "amount", rows.integer(0, kPay), pay_currency);
  json.key("currency");
  json.value(pay_currency);
  json.end_object();
  put_text_unless_empty(json, "quoteId", rows.text(0, kQuote));
  put_text_unless_empty(json, "sessionId", rows.text(0, kSession));
  if (rows.text(0, kState) == "open") put_text_unless_empty(json, "url", rows.text(0, kUrl));
  json.key("expiresAt");
  json.value(format_moment_sql(rows.text(0, kExpiresAt)));
  json.end_object();
  http::Response response = http::json_response(status, json.take());
  if (duplicate) response.headers.emplace_back("Idempotent-Replayed", "true");
  return response;
}

// The wallet that is meant where the request names none.
tl::expected<std::string, http::Response> own_currency(Call& call) {
  const plan::TenantBilling* billing = call.snapshot->billing(call.tenant);
  if (billing != nullptr && billing->wallet) return billing->wallet->currency;
  const auto rows =
      select_as_tenant(call, "select min(currency) from wallets where tenant = $1 having count(*) = 1", {call.tenant});
  if (!rows) return tl::unexpected(failure_response(call, rows.error()));
  if (rows->empty())
    return tl::unexpected(faulty_fields({{"currency", "is required: which wallet is meant is not clear"}}));
  return std::string(rows->text(0, 0));
}

// Money opens no wallet that neither the manifest nor the ledger has: it would come with a debt limit of its own, and
// leave calls that name no currency without one.
std::optional<http::Response> other_wallet(Call& call, const std::string& currency) {
  const plan::TenantBilling* billing = call.snapshot->billing(call.tenant);
  if (billing != nullptr && ((billing->wallet && billing->wallet->currency == currency) ||
                             (!billing->wallet && billing->currency == currency)))
    return std::nullopt;
  const auto rows =
      select_as_tenant(call, "select 1 from wallets where tenant = $1 and currency = $2", {call.tenant, currency});
  if (!rows) return failure_response(call, rows.error());
  if (!rows->empty()) return std::nullopt;
  return faulty_fields(
      {{"currency", "is of no wallet of this tenant; ask for a quote from " + currency + " to its own"}});
}

std::string new_key(const Call& call, const char* what) {
  return std::string("tallygate-") + what + '-' + call.services.env.random_hex(kIdBytes);
}

std::string email_of(const plan::TenantBilling* billing) { return billing != nullptr ? billing->email : ""; }

// The tenant's customer at Stripe: the manifest's, or one that is made, once.
tl::expected<std::string, http::Response> customer_of(Call& call) {
  const plan::TenantBilling* billing = call.snapshot->billing(call.tenant);
  if (billing != nullptr && !billing->stripe_customer_id.empty()) return billing->stripe_customer_id;
  stripe::Checkout& checkout = call.services.payments->checkout;
  const std::string now = ledger::timestamp_text(call.now_ns);
  auto row = select_as_tenant(
      call, "select o_id, o_key, extract(epoch from o_attempted_at)::bigint from stripe_customer($1, $2, $3)",
      {call.tenant, new_key(call, "customer"), now});
  if (!row) return tl::unexpected(failure_response(call, row.error()));
  if (!row->is_null(0, 0)) return std::string(row->text(0, 0));
  std::string key(row->text(0, 1));
  const int64_t tried_s = row->integer(0, 2);
  const bool is_old = call.now_ns / kNano - tried_s > kKeyLifetime_s;
  auto made = is_old ? Result<std::string>(fail(Errc::kInternal, "its key is forgotten"))
                     : checkout.make_customer(call.tenant, email_of(billing), key, call.until_ms);
  // Nobody can say by the key whether Stripe has made one: its list can.
  if (!made && made.error().errc == Errc::kInternal) {
    auto found = checkout.find_customer(call.tenant, tried_s - kListedBefore_s, call.until_ms);
    if (!found) return tl::unexpected(failed_at_stripe(call, found.error()));
    if (*found) {
      made = **found;
    } else {
      const auto again = select_as_tenant(call, "select stripe_customer_again($1, $2, $3, $4)",
                                          {call.tenant, key, new_key(call, "customer"), now});
      if (!again) return tl::unexpected(failure_response(call, again.error()));
      made = checkout.make_customer(call.tenant, email_of(billing), std::string(again->text(0, 0)), call.until_ms);
    }
  }
  if (!made) return tl::unexpected(failed_at_stripe(call, made.error()));
  const std::string found = std::move(*made);
  const auto kept = select_as_tenant(call, "select stripe_customer_made($1, $2)", {call.tenant, found});
  if (!kept) return tl::unexpected(failure_response(call, kept.error()));
  return std::string(kept->text(0, 0));
}

tl::expected<ledger::Rows, http::Response> note(Call& call, const std::string& function, ledger::Params params) {
  auto rows = select_as_tenant(call, std::string("select ") + kColumns + " from " + function + " t", params);
  if (!rows) return tl::unexpected(failure_response(call, rows.error()));
  return std::move(*rows);
}

std::string state_of(const stripe::Session& session) {
  if (session.status == "complete") return "processing";  // its event tells the rest
  return session.status == "open" ? "open" : "expired";
}

// Has Stripe make the session of a row that is `opening`; the row as it is then.
tl::expected<ledger::Rows, http::Response> open_at_stripe(Call& call, const ledger::Rows& rows) {
  const auto text = [&](Column column) { return std::string(rows.text(0, column)); };
  const stripe::TopUp topup{text(kId),       text(kAttemptKey),          text(kTenant),
                            text(kCustomer), text(kPayCurrency),         text(kSuccess),
                            text(kCancel),   rows.integer(0, kPayMinor), rows.integer(0, kExpires_s)};
  const auto session = call.services.payments->checkout.open(topup, call.until_ms);
  const std::string now = ledger::timestamp_text(call.services.env.wall_ns());
  if (session)
    return note(call, "topup_opened($1, $2, $3, $4, $5)", {call.tenant, topup.id, session->id, session->url, now});
  if (session.error().errc == Errc::kInvalid) {
    const auto closed =
        note(call, "topup_closed($1, $2, 'failed', $3, $4)", {call.tenant, topup.id, session.error().message, now});
    if (!closed) return tl::unexpected(closed.error());
  }
  if (session.error().errc == Errc::kInternal) {
    const auto again = select_as_tenant(call, "select topup_again($1, $2, $3, $4)",
                                        {call.tenant, topup.id, topup.attempt_key, new_key(call, "topup")});
    if (!again) return tl::unexpected(failure_response(call, again.error()));
  }
  return tl::unexpected(failed_at_stripe(call, session.error()));
}

// Of other amounts: one page at a time, so that nobody pays twice by mistake.
std::optional<http::Response> close_other(Call& call, ledger::Rows other) {
  if (other.text(0, kState) == "opening") {
    auto opened = open_at_stripe(call, other);
    if (!opened) return std::move(opened.error());
    other = std::move(*opened);
  }
  const auto closed = call.services.payments->checkout.close(std::string(other.text(0, kSession)), new_key(call, "expire"), call.until_ms);
  if (!closed) return failed_at_stripe(call, closed.error());
  const auto noted =
      note(call, "topup_closed($1, $2, $3, '', $4)",
           {call.tenant, other.text(0, kId), state_of(*closed), ledger::timestamp_text(call.services.env.wall_ns())});
  if (!noted) return noted.error();
  return std::nullopt;
}

http::Response limited(std::string_view limit) {
  if (limit == "attempts") {
    return http::problem_response({429, "TopUpLimit", "So many payments were begun today that no more are.", "", {}},
                                  {{"Retry-After", "3600"}});
  }
  return http::problem_response(
      {422, "TopUpLimit", "This is more than may be paid in until a day after the first payment.", "", {}});
}

std::string row_json(const Wanted& wanted, const std::string& id, const std::string& tenant,
                     const std::string& customer, const std::string& attempt_key, int64_t expires_ns) {
  JsonWriter json;
  json.begin_object();
  const auto put = [&](const char* name, const auto& value) {
    json.key(name);
    json.value(value);
  };
  put("id", id);
  put("tenant", tenant);
  put("currency", wanted.currency);
  put("amount_micros", wanted.amount);
  put("pay_currency", wanted.pay_currency);
  put("pay_micros", wanted.pay);
  put("pay_minor", wanted.pay_minor);
  if (!wanted.quote.empty()) put("quote", wanted.quote);
  put("attempt_key", attempt_key);
  put("customer_id", customer);
  put("success_url", wanted.success_url);
  put("cancel_url", wanted.cancel_url);
  put("expires_at", ledger::timestamp_text(expires_ns));
  json.end_object();
  return json.take();
}

http::Response begin(Call& call, const Wanted& wanted, const std::string& fingerprint, const std::string& customer) {
  const stripe::PaymentSettings& settings = call.services.payments->settings;
  const std::string id = "tu_" + call.services.env.random_hex(kIdBytes);
  const std::string row =
      row_json(wanted, id, call.tenant, customer, new_key(call, "topup"), (call.now_ns / kNano + kLifetime_s) * kNano);
  for (int round = 0; round < kRounds; ++round) {
    auto rows = select_as_tenant(
        call,
        std::string("select ") + kColumns +
            ", o_verdict, o_limit from (select o_verdict, o_limit, o_topup as t from topup_begin($1, $2, $3, "
            "jsonb_populate_record(null::wallet_topups, $4::jsonb), $5, $6, $7)) b",
        {call.tenant, call.idempotency_key, fingerprint, row, settings.topups_per_day, settings.first_day_max,
         ledger::timestamp_text(call.now_ns)});
    if (!rows) return failure_response(call, rows.error());
    const std::string verdict(rows->text(0, kVerdict));
    if (verdict == "expire") {
      if (auto refused = close_other(call, *rows)) return std::move(*refused);
      continue;
    }
    if (verdict == "TopUpLimit") return limited(rows->text(0, kLimit));
    if (verdict != "new" && verdict != "known") {
      WalletResult refusal;
      refusal.reason = verdict;
      return refusal_response(refusal);
    }
    ledger::Rows topup = *rows;
    if (topup.text(0, kState) == "opening") {
      auto opened = open_at_stripe(call, topup);
      if (!opened) return std::move(opened.error());
      topup = std::move(*opened);
    }
    return answer(201, topup, verdict == "known");
  }
  return http::problem_response(
      {503, "Unavailable", "Several top-ups are begun at once. Repeat the request with the same key.", "", {}},
      {{"Retry-After", "1"}});
}

void check_urls(Fields& fields, const Call& call, const Wanted& wanted) {
  const auto& hosts = call.services.payments->settings.url_hosts;
  for (const auto& [name, url] :
       {std::pair{"successUrl", &wanted.success_url}, std::pair{"cancelUrl", &wanted.cancel_url}}) {
    if (url->empty()) continue;  // told already
    if (std::string fault = stripe::url_fault(*url, hosts); !fault.empty()) fields.refuse(name, fault);
  }
}

http::Response no_payments() {
  return http::problem_response({404, "NotFound", "Stripe is not enabled here.", "", {}});
}

// What this key has begun already: its quote may have expired since.
Result<std::string> begun_with(Call& call) {
  const auto rows =
      select_as_tenant(call, "select fingerprint from wallet_topup_keys where tenant = $1 and idempotency_key = $2",
                       {call.tenant, call.idempotency_key});
  if (!rows) return tl::unexpected(rows.error());
  return rows->empty() ? std::string() : std::string(rows->text(0, 0));
}

}  // namespace

http::Response create_topup(Call& call) {
  if (call.services.payments == nullptr) return no_payments();
  Fields fields(call.request, Fields::Body::kRequired);
  Wanted wanted;
  const Micros amount = fields.amount("amount", 1);
  const auto currency = fields.currency();
  wanted.quote = read_quote_id(fields);
  wanted.success_url = fields.text("successUrl", kUrlMax);
  wanted.cancel_url = fields.text("cancelUrl", kUrlMax);
  check_urls(fields, call, wanted);
  if (auto refused = fields.refusal()) return *refused;
  const std::string fingerprint = fingerprint_of(call, fields);
  const auto begun = begun_with(call);
  if (!begun) return failure_response(call, begun.error());
  if (!begun->empty()) return begin(call, wanted, fingerprint, "");
  // No key: those of top-ups are kept apart (begun_with), and another transaction's revives no quote.
  const auto price = price_of(call, "amount", amount, currency, wanted.quote, "", "");
  if (!price) return price.error();
  wanted.amount = price->amount;
  if (price->currency) {
    wanted.currency = *price->currency;
  } else {
    auto own = own_currency(call);
    if (!own) return std::move(own.error());
    wanted.currency = std::move(*own);
  }
  wanted.pay_currency = price->quoted ? price->quoted->currency : wanted.currency;
  wanted.pay = amount;
  const auto minor = stripe::to_minor(wanted.pay, wanted.pay_currency);
  if (!minor) return faulty_fields({{"amount", minor.error().message}});
  wanted.pay_minor = *minor;
  if (auto refused = other_wallet(call, wanted.currency)) return std::move(*refused);
  const auto customer = customer_of(call);
  if (!customer) return customer.error();
  return begin(call, wanted, fingerprint, *customer);
}

http::Response get_topup(Call& call) {
  if (call.services.payments == nullptr) return no_payments();
  Fields fields(call.request, Fields::Body::kNone);
  if (auto refused = fields.refusal()) return *refused;
  const std::string id(call.request.param("topup_id"));
  if (!is_clean_text(id)) return http::problem_response({404, "UnknownTopUp", "There is no such top-up.", "", {}});
  const auto rows = select_as_tenant(
      call, std::string("select ") + kColumns + " from wallet_topups t where t.tenant = $1 and t.id = $2",
      {call.tenant, id});
  if (!rows) return failure_response(call, rows.error());
  if (rows->empty()) return http::problem_response({404, "UnknownTopUp", "There is no such top-up.", "", {}});
  return answer(200, *rows, false);
}

// Short-lived, and nothing is kept of it: so it wants no key.
http::Response create_portal_session(Call& call) {
  if (call.services.payments == nullptr) return no_payments();
  Fields fields(call.request, Fields::Body::kRequired);
  const std::string url = fields.text("returnUrl", kUrlMax);
  if (!url.empty()) {
    std::string fault = stripe::url_fault(url, call.services.payments->settings.url_hosts);
    if (!fault.empty()) fields.refuse("returnUrl", fault);
  }
  if (auto refused = fields.refusal()) return *refused;
  const auto customer = customer_of(call);
  if (!customer) return customer.error();
  const auto page = call.services.payments->checkout.portal(*customer, url, new_key(call, "portal"), call.until_ms);
  if (!page) return failed_at_stripe(call, page.error());
  JsonWriter json;
  json.begin_object();
  json.key("url");
  json.value(*page);
  json.end_object();
  return http::json_response(201, json.take());
}

}  // namespace tallygate::api
