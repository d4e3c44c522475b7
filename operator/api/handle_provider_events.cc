// Events of outside providers: a call about to start is reserved for, a status check is the kill switch, a call's end
// is charged, a message's status settles its hold. What an event does it does once, in any order (migrations/0032,
// 0053).
#include "core/telemetry/json_text.h"
#include "core/telemetry/log.h"
#include "operator/api/call.h"
#include "operator/api/front.h"
#include "operator/api/provider/providers.h"
#include "operator/api/wallet_sql.h"

namespace tallygate::api {
namespace {

using Kind = Outcome::Kind;
constexpr int64_t kNano = 1'000'000'000;

http::Response reply(const Call& call, EventResult result, const Outcome& outcome) {
  call.provider->count(result);
  return call.provider->adapter->answer(outcome);
}

http::Response refuse(const Call& call, EventResult result, http::Response problem) {
  call.provider->count(result);
  return problem;
}

http::Response failed(const Call& call, const Error& error) {
  return refuse(call, EventResult::kFailed, failure_response(call, error));
}

Outcome outcome_of(Kind kind, const WalletResult& result) {
  Outcome outcome;
  outcome.kind = kind;
  outcome.reason = result.success ? "" : result.reason;
  outcome.duplicate = result.duplicate;
  outcome.currency = result.currency;
  outcome.amount = kind == Kind::kReserved ? result.amount : result.committed;
  outcome.effective = result.effective;
  return outcome;
}

// The call as the ledger knows it.
std::string key_of(const Call& call, const std::string& id) { return call.provider->name + ':' + id; }

ledger::Param moment_or_null(std::optional<int64_t> ns) {
  return ns ? ledger::Param(ledger::timestamp_text(*ns)) : ledger::Param(std::nullopt);
}

// The wallet that pays: the one that a hold is in, where costs can be put into its currency, or the manifest's, or the
// only one. "": no one can say.
Result<std::string> wallet_currency(Call& call, const std::string& key) {
  const plan::TenantBilling* billing = call.snapshot->billing(call.tenant);
  const bool named = billing != nullptr && billing->wallet;
  std::string convertible;
  for (const auto& [currency, rate] : call.provider->rates) convertible += (convertible.empty() ? "" : ",") + currency;
  auto rows = select_as_tenant(
      call,
      "select coalesce((select currency from credit_reservations where tenant = $1 and call_id = $2 "
      "and currency = any(string_to_array($4, ','))), $3, "
      "(select min(currency) from wallets where tenant = $1 and closed_at is null having count(*) = 1))",
      {call.tenant, key, named ? ledger::Param(billing->wallet->currency) : std::nullopt, convertible});
  if (!rows) return tl::unexpected(rows.error());
  return std::string(rows->text(0, 0));
}

// A provider's cost in the wallet's currency, and how it came about.
struct Price {
  std::optional<Micros> micros;
  ReasonName reason;  // why there is none: NoCost, NoWallet, NoRate, InvalidAmount; none where nobody asked for one
  std::string doc;    // JSON, for the record
};

Price price_of(const Provider& provider, const ProviderCost& cost, const std::string& wallet, std::string_view kind) {
  const std::string& currency = cost.currency.empty() ? provider.currency : cost.currency;
  const auto rate = provider.rates.find(wallet);
  const bool convertible = currency == provider.currency && rate != provider.rates.end();
  Price price;
  JsonWriter json;
  json.begin_object();
  json.key("kind");
  json.value(kind);
  if (cost.amount) {
    json.key("cost");
    json.value(cost.amount->text());
    json.key("currency");
    json.value(currency);
  }
  if (!cost.amount) {
    price.reason = "NoCost";
  } else if (wallet.empty()) {
    price.reason = "NoWallet";
  } else if (!convertible) {
    price.reason = "NoRate";
  } else {
    json.key("rate");
    json.value(rate->second.text());
    json.key("markup");
    json.value(provider.markup.text());
    const auto micros = to_micros(*cost.amount, rate->second, provider.markup);
    if (micros) price.micros = *micros;
    if (!micros) price.reason = "InvalidAmount";
  }
  json.end_object();
  price.doc = json.take();
  return price;
}

// What to do about a charge that was refused. Whatever it was, the call can be committed by its id through the API.
const char* remedy_of(std::string_view reason) {
  if (reason == "DebtLimitExceeded") return "top up the wallet: then it is charged by itself";
  if (reason == "NoWallet") return "give the tenant a wallet, then have the provider send its report again";
  if (reason == "NoRate")
    return "give the provider a rate to the wallet's currency, then have it send its report again";
  if (reason == "CurrencyMismatch")
    return "it was committed in another currency: deduct the rest with POST /v1/deductions";
  return "find out its cost, and charge it with POST /v1/reservations/{call_id}/commit";
}

void tell_unpaid(const Call& call, const std::string& key, const Price& price, const WalletResult& result) {
  log::error("a provider's call took place and could not be charged", {{"request_id", call.request_id},
                                                                       {"tenant", call.tenant},
                                                                       {"call_id", key},
                                                                       {"reason", result.reason},
                                                                       {"cost", price.doc},
                                                                       {"wallet_currency", result.currency},
                                                                       {"shortfall_micros", result.shortfall},
                                                                       {"remedy", remedy_of(result.reason)}});
}

http::Response settled(const Call& call, const std::string& key, const Price& price, const WalletResult& result) {
  const Outcome outcome = outcome_of(Kind::kSettled, result);
  if (result.success) return reply(call, result.duplicate ? EventResult::kDuplicate : EventResult::kSettled, outcome);
  if (result.reason == "IdempotencyMismatch" && result.duplicate) {
    log::warn("a provider reports another cost for a call that was charged",
              {{"tenant", call.tenant}, {"call_id", key}, {"cost", price.doc}, {"charged_micros", result.committed}});
    return reply(call, EventResult::kMismatch, outcome);
  }
  tell_unpaid(call, key, price, result);
  Outcome unpaid = outcome_of(Kind::kUnpaid, result);
  unpaid.amount = price.micros.value_or(0);
  return reply(call, EventResult::kUnpaid, unpaid);
}

http::Response receive(Call& call, const CallStarting& event) {
  const Provider& provider = *call.provider;
  const auto currency = wallet_currency(call, key_of(call, event.call_id));
  if (!currency) return failed(call, currency.error());
  const Price price = price_of(provider, {provider.reserve_amount, ""}, *currency, "call");
  if (!price.micros)
    return reply(call, EventResult::kRefused, {.kind = Kind::kRefused, .reason = std::string(price.reason.str())});
  const std::string expires_at = ledger::timestamp_text(call.now_ns + provider.reserve_ttl_s * kNano);
  const auto result = run_wallet(call, "provider_call_starting",
                                 {call.tenant, provider.name, event.call_id, *currency, *price.micros, expires_at,
                                  moment_or_null(event.started_ns), ledger::timestamp_text(call.now_ns)},
                                 true);
  if (!result) return failed(call, result.error());
  if (!result->success) return reply(call, EventResult::kRefused, outcome_of(Kind::kRefused, *result));
  return reply(call, result->duplicate ? EventResult::kDuplicate : EventResult::kReserved,
               outcome_of(Kind::kReserved, *result));
}

http::Response receive(Call& call, const StatusCheck& event) {
  const std::string key = key_of(call, event.call_id);
  const auto currency = wallet_currency(call, key);
  if (!currency) return failed(call, currency.error());
  const auto status = run_status_check(call, currency->empty() ? std::nullopt : std::optional(*currency), key);
  if (!status) return failed(call, status.error());
  return reply(call, status->end_call ? EventResult::kEndCall : EventResult::kContinue,
               {.kind = Kind::kStatus,
                .reason = status->reason,
                .end_call = status->end_call,
                .currency = status->currency,
                .amount = status->call_hold,
                .effective = status->effective});
}

http::Response receive(Call& call, const CallEnded& event) {
  const std::string key = key_of(call, event.call_id);
  const auto currency = wallet_currency(call, key);
  if (!currency) return failed(call, currency.error());
  const Price price = price_of(*call.provider, event.cost, *currency, "call");
  const auto result =
      run_wallet(call, "provider_call_ended",
                 {call.tenant, call.provider->name, event.call_id,
                  currency->empty() ? ledger::Param(std::nullopt) : ledger::Param(*currency), nullable(price.micros),
                  price.reason.str(), price.doc, moment_or_null(event.started_ns), moment_or_null(event.ended_ns),
                  call.request_id, ledger::timestamp_text(call.now_ns)},
                 true);
  if (!result) return failed(call, result.error());
  return settled(call, key, price, *result);
}

http::Response receive(Call& call, const MessageStatus& event) {
  const std::string key = key_of(call, event.message_id);
  const auto currency = wallet_currency(call, key);
  if (!currency) return failed(call, currency.error());
  Price price = price_of(*call.provider, event.price, *currency, "message");
  if (!event.price.amount) price.reason = {};  // what is on hold
  const auto result = run_wallet(
      call, "provider_message_settled",
      {call.tenant, call.provider->name, event.message_id,
       currency->empty() ? ledger::Param(std::nullopt) : ledger::Param(*currency), event.delivered,
       nullable(price.micros), price.reason.str(), price.doc, call.request_id, ledger::timestamp_text(call.now_ns)},
      true);
  if (!result) return failed(call, result.error());
  if (result->reason == "UnknownReservation") {
    if (call.provider->ignores_unknown_holds) return reply(call, EventResult::kIgnored, {});
    return refuse(call, EventResult::kMalformed,
                  http::problem_response({404,
                                          "UnknownReservation",
                                          "There is no hold for this message, nor a price. Reserve with the call id "
                                          "\"<provider>:<message>\" before it is sent.",
                                          "",
                                          {}}));
  }
  return settled(call, key, price, *result);
}

http::Response receive(Call& call, const Ignored& event) {
  if (event.known || call.provider->ignores_unknown_types) return reply(call, EventResult::kIgnored, {});
  return refuse(call, EventResult::kMalformed,
                faulty_fields({{"type",
                                "is no event that is known here: \"unknown-type\" in the provider's ignore list "
                                "passes over such"}}));
}

// Nobody's wallet can pay; whoever sent this must hear of it, where the ledger cannot keep it.
http::Response unknown_tenant(const Call& call, const Reading& reading) {
  if (call.provider->ignores_unknown_tenants) return reply(call, EventResult::kIgnored, {});
  const std::string kReason(ReasonName("UnknownTenant").str());
  if (std::holds_alternative<CallStarting>(reading.event)) {
    return reply(call, EventResult::kUnknownTenant, {.kind = Kind::kRefused, .reason = kReason});
  }
  if (std::holds_alternative<StatusCheck>(reading.event)) {
    return reply(call, EventResult::kUnknownTenant, {.kind = Kind::kStatus, .reason = kReason, .end_call = true});
  }
  const auto* ended = std::get_if<CallEnded>(&reading.event);
  log::error(
      "a provider reports for a tenant that is not known here: nothing was charged",
      {{"request_id", call.request_id},
       {"provider", call.provider->name},
       {"external_id", reading.external_id},
       {"call_id", ended != nullptr ? ended->call_id : std::get<MessageStatus>(reading.event).message_id},
       {"cost", ended != nullptr && ended->cost.amount ? ended->cost.amount->text() : ""},
       {"remedy", "give the tenant this external ID, or the provider's entry this tenant; then have it sent again"}});
  return refuse(
      call, EventResult::kUnknownTenant,
      http::problem_response({422, "UnknownTenant", "The event names no tenant that is known here.", "", {}}));
}

// The tenant that the event is for, where the provider may report for it.
std::optional<std::string> tenant_of(const Call& call, const Reading& reading) {
  const Principal& whom = call.provider->principal;
  if (call.provider->tenant_pointer.empty()) return whom.tenants.front();
  const std::string* tenant =
      reading.external_id.empty() ? nullptr : call.snapshot->tenant_of_external_id(reading.external_id);
  if (tenant == nullptr || !whom.may_act_for(*tenant)) return std::nullopt;
  return *tenant;
}

}  // namespace

http::Response receive_provider_event(Call& call) {
  const auto reading = call.provider->adapter->read(call.request, call.provider->tenant_pointer);
  if (!reading) {
    log::warn("a provider's event cannot be read",
              {{"request_id", call.request_id}, {"provider", call.provider->name}, {"problem", reading.error().body}});
    return refuse(call, EventResult::kMalformed, reading.error());
  }
  if (const auto* ignored = std::get_if<Ignored>(&reading->event)) return receive(call, *ignored);
  if (!call.snapshot) {
    return refuse(
        call, EventResult::kFailed,
        http::problem_response({503, "Unavailable", "The tenants are not known yet. Repeat the request.", "", {}},
                               {{"Retry-After", "1"}}));
  }
  const auto tenant = tenant_of(call, *reading);
  if (!tenant) return unknown_tenant(call, *reading);
  call.tenant = *tenant;
  const bool status = std::holds_alternative<StatusCheck>(reading->event);
  if (auto refused = call.front->limit_rate(status ? Share::kStatusEvents : Share::kEvents, *tenant, *call.principal)) {
    return refuse(call, EventResult::kRateLimited, std::move(*refused));
  }
  return std::visit([&call](const auto& event) { return receive(call, event); }, reading->event);
}

}  // namespace tallygate::api
