// Amounts that a request gives in another currency, by a quote that was made before.
#pragma once

#include <optional>
#include <string>

#include "core/exchange.h"
#include "core/http/message.h"
#include "core/telemetry/json_text.h"
#include "operator/api/fields.h"
#include "operator/api/wallet_sql.h"

namespace tallygate::api {

struct Call;

// What a request asks a wallet for.
struct Price {
  Micros amount = 0;                    // of the wallet's currency
  std::optional<std::string> currency;  // the wallet's; none: the tenant's only one
  std::optional<QuotedAmount> quoted;   // as asked for, where a quote converts it
};

// Reads `quoteId`; empty where there is none.
std::string read_quote_id(Fields& fields);
// `amount` of the member `name` as a price. With a quote it is of the quote's `from`, which `currency` may repeat, and
// is converted by the quote's rate to micros, rounded half to even; an expired quote holds for a commit of
// `committed_call` that was reserved under it, and for a repetition: where a transaction with `idempotency_key` is
// there already, which is all that the ledger will answer. Without a quote it is of the wallet's own currency.
tl::expected<Price, http::Response> price_of(Call& call, const char* name, Micros amount,
                                             std::optional<std::string> currency, const std::string& quote_id,
                                             const std::string& committed_call, const std::string& idempotency_key);
tl::expected<Price, http::Response> price_of(Call& call, const char* name, Micros amount,
                                             std::optional<std::string> currency, const std::string& quote_id,
                                             const std::string& committed_call = "");

// From four columns: quote, its from, the amount of that, the rate in picos.
std::optional<QuotedAmount> read_quoted(const ledger::Rows& rows, size_t row, size_t first_column);

// Member `quoted`, or of another name: quoteId, currency, amount, rate; nothing where nothing was quoted.
void put_quoted(JsonWriter& json, const std::optional<QuotedAmount>& quoted, std::string_view name = "quoted");

}  // namespace tallygate::api
