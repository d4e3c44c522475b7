// Applies migrations/: forward only, each in a transaction of its own under an advisory lock, its SHA-256 kept in
// schema_migrations. Any number of migrators may run at once.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "operator/ledger/session.h"

namespace tallygate::ledger {

struct Migration {
  std::string_view name;  // "0001_ledger"
  std::string_view sql;
};

// Those of the source tree, in order, embedded at build time.
std::span<const Migration> embedded_migrations();

// Whether the server takes writes: kConflict with why not, and the fix. Changes nothing.
Result<void> check_writable(Session& session);

// Returns the names it applied. kConflict: a file that was applied has changed, or the database has a migration that
// this program does not know (it is older than the schema), or nothing can be made there (read-only, no right to,
// another application's tables): the reason first, then what to do.
Result<std::vector<std::string>> migrate(Session& session,
                                         std::span<const Migration> migrations = embedded_migrations());

// Whether the schema is this program's: kConflict with what is missing or changed, otherwise nothing. Changes nothing.
Result<void> check_schema(Session& session, std::span<const Migration> migrations = embedded_migrations());

}  // namespace tallygate::ledger
