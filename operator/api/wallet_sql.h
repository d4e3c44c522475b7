// The wallet's SQL functions (operator/api/SQL.md) as calls, and what they answer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/exchange.h"
#include "core/http/message.h"
#include "core/money.h"
#include "operator/ledger/session.h"

namespace tallygate::api {

struct Call;
struct AsyncCall;

// One wallet_result row.
struct WalletResult {
  bool success = false, duplicate = false;
  std::string reason, tenant, currency;
  Micros balance = 0, reserved = 0, floating = 0, effective = 0, debt_limit = 0, requested = 0, shortfall = 0;
  int64_t transaction_id = 0;  // 0: none
  std::string transaction;     // the same as its tenant sees it (seal.h), in answers of the API
  int64_t reservation_id = 0;
  std::string call_id, state;
  Micros amount = 0, committed = 0, released = 0;
  std::string expires_at;  // RFC 3339, empty: none
  std::string recall;      // JSON
};

// What a request asked for in another currency, at a quote's rate.
struct QuotedAmount {
  std::string quote_id, currency;
  Micros amount = 0;  // of `currency`
  ExchangeRate rate;
};

// Calls the function, with others' operations in one transaction where it can be. Where `may_recall`, the last two
// parameters (recalled, may_recall) are added here: float is recalled in at most four rounds; where Redis is away, the
// answer is what the ledger alone can give. `quoted` is kept with the transaction that it made, in a commit of its own.
Result<WalletResult> run_wallet(Call& call, const std::string& function, ledger::Params params, bool may_recall,
                                const std::optional<QuotedAmount>& quoted = std::nullopt);

// The same, and answers the call: by `respond` where the ledger did it, else by why not. Does not block, except where
// something is quoted: that wants a worker.
void answer_wallet(const std::shared_ptr<AsyncCall>& call, const std::string& function, ledger::Params params,
                   bool may_recall, const std::optional<QuotedAmount>& quoted,
                   std::function<http::Response(const WalletResult&)> respond);

// The kill switch (status_check), read-only. Without a currency: the tenant's only wallet.
struct StatusResult {
  bool end_call = false;
  std::string reason, currency;  // no currency: no wallet
  Micros balance = 0, reserved = 0, floating = 0, effective = 0, debt_limit = 0, call_hold = 0;
};
Result<StatusResult> run_status_check(Call& call, const std::optional<std::string>& currency,
                                      const std::string& call_id);
// Does not block. `respond` as above.
void answer_status_check(const std::shared_ptr<AsyncCall>& call, const std::optional<std::string>& currency,
                         const std::string& call_id, std::function<http::Response(const StatusResult&)> respond);

WalletResult read_wallet_result(const ledger::Rows& rows, size_t row = 0);

}  // namespace tallygate::api
