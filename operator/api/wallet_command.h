// `tallygate-operator wallet credit|adjust|show|history|close`: the wallet from a terminal, as the database URL's user.
// Writes need a key, so that a repetition after a lost answer does nothing twice, and an actor and a reason for the
// audit log.
#pragma once

#include <optional>
#include <string>

#include "core/config/options.h"
#include "core/env.h"
#include "core/money.h"
#include "operator/ledger/settings.h"

namespace tallygate::api {

enum class WalletAction : uint8_t { kCredit, kAdjust, kShow, kHistory, kClose };

struct WalletSettings {
  ledger::DatabaseSettings database;
  std::string tenant, currency, reason, actor, idempotency_key;
  Micros amount = 0;
  int64_t limit = 0;
};

// `settings` outlives the parse.
void declare_wallet(config::OptionSet& options, WalletAction action, WalletSettings& settings);
// Prints what came of it; returns the exit code.
int run_wallet_command(Env& env, WalletAction action, const WalletSettings& settings);

}  // namespace tallygate::api
