// The wallet's answers as JSON and as problems.
#pragma once

#include "core/http/message.h"
#include "core/telemetry/json_text.h"
#include "operator/api/wallet_sql.h"

namespace tallygate::api {

// A decimal string with the currency's digits, more only where they are needed.
std::string money_text(Micros micros, const std::string& currency);
void put_money(JsonWriter& json, std::string_view name, Micros micros, const std::string& currency);
void put_text_unless_empty(JsonWriter& json, std::string_view name, std::string_view value);

// Members currency, balance, reserved, float, effective, debtLimit.
void put_wallet(JsonWriter& json, const WalletResult& result);
// Members of a reservation: callId, state, amount, committed, released, expiresAt.
void put_reservation(JsonWriter& json, const WalletResult& result);

// What people are told of a refusal, by the ledger's reason.
std::string_view refusal_detail(std::string_view reason);
// A refusal as a problem, with the ledger's reason.
http::Response refusal_response(const WalletResult& result);
// An Idempotent-Replayed header where the ledger answered a duplicate.
http::Response wallet_response(int status, const WalletResult& result, JsonWriter& json);

}  // namespace tallygate::api
