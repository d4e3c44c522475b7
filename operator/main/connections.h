// How many connections to PostgreSQL this process opens, and whether the server has them.
#pragma once

#include <cstdint>
#include <string>

#include "operator/ledger/session.h"
#include "operator/main/settings.h"

namespace tallygate::operator_main {

// The most that it holds at once, by its settings: one for each loop of its roles, and the API's, unless that has a
// server of its own.
int64_t connections_needed(const RunSettings& settings);

// Why so many cannot be had, with the numbers and the fix; empty: they can. Those that this process has already count
// as had (those of its name, from its address). Asks the server over `session`.
Result<std::string> lack_of_connections(ledger::Session& session, int64_t needed);

}  // namespace tallygate::operator_main
