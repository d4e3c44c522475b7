// Whether a URL of the ledger leads to the server itself, or through a pooler that gives each transaction another of
// the server's sessions. What belongs to a session is then not ours: who leads (an advisory lock), temporary tables,
// the role, time-outs, prepared statements.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "operator/ledger/session.h"

namespace tallygate::ledger {

// kConflict, with what to do, where two connections are found in one session of the server, or one connection in two.
// kUnavailable and the like: nobody answered. `flag` is the setting with the URL; `fix` what else would help, or "".
Result<void> refuse_pooler(const std::string& url, std::string_view flag, std::string_view fix = "");

// kUnavailable where the server takes no writes, and the connection is closed: another may reach the primary.
Result<void> refuse_read_only(Session& session);

}  // namespace tallygate::ledger
