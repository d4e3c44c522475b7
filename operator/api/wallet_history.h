// A row of wallet_transactions: what a key did to a wallet, or an hour's usage that it paid for.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "operator/api/wallet_sql.h"

namespace tallygate::api {

struct HistoryColumn {
  enum : size_t {
    kPlace,  // in the order of the history: the cursor
    kId,
    kCurrency,
    kKind,
    kKey,
    kAmount,
    kBalanceAfter,
    kCallId,
    kDescription,
    kCreatedAt,
    kUpdatedAt,
    kUnits,
    kQuote,
    kQuotedCurrency,
    kQuotedAmount,
    kRate
  };
};

// Units by meter of a row of usage; empty where it is none.
std::map<std::string, int64_t> units_in(const ledger::Rows& rows, size_t row);
// What was asked for in another currency.
std::optional<QuotedAmount> quoted_in(const ledger::Rows& rows, size_t row);
// For people: "120 units of sms, 7 units of calls: counted twice", "call c-17, 3.00 USD at 0.79".
std::string description_of(const ledger::Rows& rows, size_t row);

}  // namespace tallygate::api
