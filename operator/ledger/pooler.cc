#include "operator/ledger/pooler.h"

namespace tallygate::ledger {
namespace {

// A pooler hands out the session that was free last, or the one that was free longest: either shows at once where it
// has nobody else to serve, and within a few rounds where it has.
constexpr int kRounds = 6;

Result<int64_t> server_session_of(Session& session) {
  return session.exec("select pg_backend_pid()").map([](const Rows& rows) { return rows.integer(0, 0); });
}

}  // namespace

Result<void> refuse_pooler(const std::string& url, std::string_view flag, std::string_view fix) {
  Session first(url), second(url);
  Result<int64_t> mine = server_session_of(first);
  if (!mine) return tl::unexpected(mine.error());
  for (int round = 0; round < kRounds; ++round) {
    const Result<int64_t> others = server_session_of(second);
    if (!others) return tl::unexpected(others.error());
    const Result<int64_t> again = server_session_of(first);
    if (!again) return tl::unexpected(again.error());
    if (*others != *mine && *again == *mine) continue;
    return fail(Errc::kConflict, std::string(flag) +
                                     " leads through a pooler that gives each transaction another session "
                                     "(pool_mode=transaction): use the server itself, or a pooler with "
                                     "pool_mode=session" +
                                     std::string(fix));
  }
  return {};
}

Result<void> refuse_read_only(Session& session) {
  const Result<Rows> rows = session.exec("select current_setting('transaction_read_only')");
  if (!rows) return tl::unexpected(rows.error());
  if (rows->text(0, 0) != "on") return {};
  session.close();
  return fail(Errc::kUnavailable,
              "PostgreSQL 25006: the server takes no writes: it is a standby, or default_transaction_read_only is on; "
              "lead the database's URL to the primary");
}

}  // namespace tallygate::ledger
