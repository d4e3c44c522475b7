// The commands `ledger status` and `ledger recover`: what to do about a ledger that was restored from a backup
// (docs/runbooks/ledger-restore.md).
#pragma once

#include "core/env.h"
#include "operator/main/settings.h"

namespace tallygate::operator_main {

// Each prints what it found or did; returns the exit code.
int ledger_status(Env& env, const LedgerSettings& settings);
int ledger_recover(Env& env, const LedgerSettings& settings);

}  // namespace tallygate::operator_main
