// The checks of one peer each; `verify` runs them in this order. All of them only look. One thread; they block.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/redis_client/url.h"
#include "core/result.h"
#include "operator/billing/stripe_api.h"
#include "operator/verify/report.h"

namespace tallygate {
class HttpClient;
}

namespace tallygate::verify {

// What Redis and Stripe must agree with.
struct LedgerFacts {
  std::vector<int64_t> epochs;  // of each shard; 0: none was opened yet
  std::string ledger;           // its id
  std::string generation;       // of the last publication; empty: there was none
  int64_t version = 0;
  std::vector<std::string> tenants;    // the first few that are not deleted
  std::vector<std::string> meters;     // settled by invoice, of tenants that are not deleted
  std::vector<std::string> customers;  // the first few of those tenants
  int64_t customers_in_all = 0;
  std::vector<std::string> without_customer;  // the first few tenants with such meters and no customer
};

// Nothing where the ledger could not be read; a row then says why.
std::optional<LedgerFacts> check_postgres(const std::string& database_url, Report& report);

// As they are now.
Result<LedgerFacts> read_facts(const std::string& database_url);

// `facts` null: what is compared with the ledger is skipped. Where the two differ, it waits for `settle_ms` and
// compares once more with what `again` answers: an operator may be opening an epoch or publishing just now.
using ReadFacts = std::function<Result<LedgerFacts>()>;
void check_redis(Env& env, const redis::Endpoint& endpoint, const LedgerFacts* facts, const ReadFacts& again,
                 int64_t settle_ms, Report& report);

void check_stripe(HttpClient& http, const billing::StripeOptions& stripe, const LedgerFacts* facts, Report& report);

// "a, b, c and 4 more"
std::string listed(const std::vector<std::string>& names, size_t in_all);

}  // namespace tallygate::verify
