#include "operator/api/wallet_json.h"

#include <map>

namespace tallygate::api {
namespace {

struct Refusal {
  int status;
  const char* reason;
  const char* detail;
};

const std::map<std::string, Refusal, std::less<>>& refusals() {
  static const std::map<std::string, Refusal, std::less<>> kRefusals = {
      {"InsufficientBalance", {402, "insufficient_balance", "The wallet's effective balance does not cover this."}},
      {"DebtLimitExceeded", {402, "debt_limit_exceeded", "The cost is above the balance and the debt limit together."}},
      {"IdempotencyMismatch",
       {422, "idempotency_mismatch", "This key or call id was used for another request: this one needs its own."}},
      {"Suspended", {403, "suspended", "The tenant is suspended: no purchase and no new hold."}},
      {"UnknownTenant", {404, "unknown_tenant", "There is no such tenant."}},
      {"NoWallet",
       {404, "no_wallet", "The tenant has no wallet in this currency: the first credit that names it makes one."}},
      {"UnknownReservation", {404, "unknown_reservation", "There is no reservation for this call."}},
      {"CurrencyRequired", {422, "currency_required", "The tenant has several wallets: name a currency."}},
      {"CurrencyMismatch", {422, "currency_mismatch", "The reservation is in another currency."}},
      {"TenantDeleted", {410, "tenant_deleted", "The tenant was deleted: no purchase and no new hold."}},
      {"AlreadyCommitted", {409, "already_committed", "The call was committed before."}},
      {"AlreadyReleased", {409, "already_released", "The call's hold was released before."}},
      {"InvalidAmount", {422, "invalid_amount", "The amount is out of range."}},
      {"InvalidKey", {422, "invalid_key", "The Idempotency-Key must have 1 to 255 characters and not begin with '~'."}},
      {"InvalidCall", {422, "invalid_call", "The call id must have 1 to 255 characters."}},
      {"InvalidExpiry", {422, "invalid_expiry", "The expiry must be after now."}},
      {"ReasonRequired", {422, "reason_required", "A reason is required."}},
      {"BalanceLimit", {422, "balance_limit", "The balance would be out of range."}},
  };
  return kRefusals;
}

// The field that a refusal is about, where it is one of the request's.
const char* field_of(std::string_view reason) {
  if (reason == "CurrencyRequired" || reason == "CurrencyMismatch") return "currency";
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
  const auto found = refusals().find(reason);
  return found == refusals().end() ? "The ledger refused this." : found->second.detail;
}

http::Response refusal_response(const WalletResult& result) {
  const auto found = refusals().find(result.reason);
  if (found == refusals().end()) {
    return http::problem_response({422, "refused", std::string(refusal_detail(result.reason)), "", {}});
  }
  const Refusal& refusal = found->second;
  http::Problem problem{refusal.status, refusal.reason, refusal.detail, "", {}};
  if (!result.currency.empty() && refusal.status == 402) {
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
                                 std::string("[{\"field\":\"") + field + "\",\"detail\":\"" + refusal.detail + "\"}]");
  }
  return http::problem_response(problem);
}

http::Response wallet_response(int status, const WalletResult& result, JsonWriter& json) {
  http::Response response = http::json_response(status, json.take());
  if (result.duplicate) response.headers.emplace_back("Idempotent-Replayed", "true");
  return response;
}

}  // namespace tallygate::api
