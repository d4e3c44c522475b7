#include "operator/api/wallet_json.h"

#include <algorithm>

namespace tallygate::api {
namespace {

struct Refusal {
  ReasonName reason;
  int status;
  const char* detail;
};

constexpr Refusal kRefusals[] = {
    {"InsufficientBalance", 402, "The wallet's effective balance does not cover this."},
    {"DebtLimitExceeded", 402, "The cost is above the balance and the debt limit together."},
    {"IdempotencyMismatch", 422, "This key or call id was used for another request: this one needs its own."},
    {"Suspended", 403, "The tenant is suspended: no purchase and no new hold."},
    {"UnknownTenant", 404, "There is no such tenant."},
    {"NoWallet", 404, "The tenant has no wallet in this currency: the first credit in its plan's currency makes one."},
    {"UnknownReservation", 404, "There is no reservation for this call."},
    {"CurrencyRequired", 422, "The tenant has several wallets: name a currency."},
    {"CurrencyMismatch", 422, "The reservation is in another currency."},
    {"CurrencyNotDeclared", 422, "Neither the tenant's plan nor a wallet of its manifest is in this currency."},
    {"TenantDeleted", 410, "The tenant was deleted: no purchase and no new hold."},
    {"AlreadyCommitted", 409, "The call was committed before."},
    {"AlreadyReleased", 409, "The call's hold was released, or expired, before: another call needs an id of its own."},
    {"InvalidAmount", 422, "The amount is out of range."},
    {"InvalidKey", 422, "The Idempotency-Key must have 1 to 255 characters and not begin with '~'."},
    {"InvalidCall", 422, "The call id must have 1 to 255 characters."},
    {"InvalidExpiry", 422, "The expiry must be after now."},
    {"ReasonRequired", 422, "A reason is required."},
    {"BalanceLimit", 422, "The balance would be out of range."},
    {"WalletInUse", 409, "The wallet is not empty, or suspended, or its currency is that of the tenant's plan."},
};

// Nothing for a reason that clients are not told.
const Refusal* refusal_of(std::string_view reason) {
  const auto* found = std::find_if(std::begin(kRefusals), std::end(kRefusals),
                                   [&](const Refusal& refusal) { return refusal.reason.str() == reason; });
  return found == std::end(kRefusals) ? nullptr : found;
}

// The field that a refusal is about, where it is one of the request's.
const char* field_of(std::string_view reason) {
  if (reason == "CurrencyRequired" || reason == "CurrencyMismatch" || reason == "CurrencyNotDeclared")
    return "currency";
  if (reason == "InvalidAmount" || reason == "BalanceLimit") return "amount";
  if (reason == "InvalidKey") return "Idempotency-Key";
  if (reason == "InvalidCall") return "callId";
  if (reason == "InvalidExpiry") return "expiresAt";
  if (reason == "ReasonRequired") return "reason";
  return nullptr;
}

std::string quoted_money(Micros micros, const std::string& currency) {
  std::string out;
  append_json_string(out, money_text(micros, currency));
  return out;
}

}  // namespace

std::string money_text(Micros micros, const std::string& currency) {
  return format_money(micros, currency_digits(currency).value_or(2));
}

void put_money(JsonWriter& json, std::string_view name, Micros micros, const std::string& currency) {
  json.key(name);
  json.value(money_text(micros, currency));
}

void put_text_unless_empty(JsonWriter& json, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  json.key(name);
  json.value(value);
}

void put_wallet(JsonWriter& json, const WalletResult& result) {
  json.key("currency");
  json.value(result.currency);
  put_money(json, "balance", result.balance, result.currency);
  put_money(json, "reserved", result.reserved, result.currency);
  put_money(json, "float", result.floating, result.currency);
  put_money(json, "effective", result.effective, result.currency);
  put_money(json, "debtLimit", result.debt_limit, result.currency);
}

void put_reservation(JsonWriter& json, const WalletResult& result) {
  json.key("callId");
  json.value(result.call_id);
  json.key("state");
  json.value(result.state);
  put_money(json, "amount", result.amount, result.currency);
  put_money(json, "committed", result.committed, result.currency);
  put_money(json, "released", result.released, result.currency);
  put_text_unless_empty(json, "expiresAt", result.expires_at);
}

std::string_view refusal_detail(std::string_view reason) {
  const Refusal* refusal = refusal_of(reason);
  return refusal == nullptr ? "The ledger refused this." : refusal->detail;
}

http::Response refusal_response(const WalletResult& result) {
  const Refusal* refusal = refusal_of(result.reason);
  if (refusal == nullptr) {
    return http::problem_response({422, "Refused", std::string(refusal_detail(result.reason)), "", {}});
  }
  http::Problem problem{refusal->status, refusal->reason, refusal->detail, "", {}};
  if (!result.currency.empty() && refusal->status == 402) {
    std::string currency;
    append_json_string(currency, result.currency);
    problem.members = {{"currency", currency},
                       {"balance", quoted_money(result.balance, result.currency)},
                       {"effective", quoted_money(result.effective, result.currency)},
                       {"debtLimit", quoted_money(result.debt_limit, result.currency)},
                       {"requested", quoted_money(result.requested, result.currency)},
                       {"shortfall", quoted_money(result.shortfall, result.currency)}};
  }
  if (const char* field = field_of(result.reason); field != nullptr) {
    problem.members.emplace_back("errors",
                                 std::string("[{\"field\":\"") + field + "\",\"detail\":\"" + refusal->detail + "\"}]");
  }
  return http::problem_response(problem);
}

http::Response wallet_response(int status, const WalletResult& result, JsonWriter& json) {
  http::Response response = http::json_response(status, json.take());
  if (result.duplicate) response.headers.emplace_back("Idempotent-Replayed", "true");
  return response;
}

}  // namespace tallygate::api
