#include "operator/ledger/history.h"

#include <algorithm>

namespace tallygate::ledger {
namespace {

constexpr const char* kLook = "select id, generation, mark, coalesce(behind_reason, '') from ledger_history";
constexpr const char* kAdvance =
    "select o_id, o_generation, o_mark, coalesce(o_behind, '') from ledger_advance($1, $2)";

Result<Past> past_of(const Result<Rows>& rows) {
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty()) return fail(Errc::kInternal, "ledger_history has no row");
  return Past{std::string(rows->text(0, 0)), {rows->integer(0, 1), rows->integer(0, 2)}, std::string(rows->text(0, 3))};
}

}  // namespace

void History::heard(const Mark& mark) {
  const std::lock_guard lock(mutex_);
  learn(mark);
}

// A newer generation is a recovery that this process may have slept through: what is missing has not been looked at.
void History::learn(const Mark& mark) {
  if (mark.generation > known_.generation) expect_gaps();
  known_ = std::max(known_, mark);
}

Mark History::known() const {
  const std::lock_guard lock(mutex_);
  return known_;
}

Result<void> History::read(const Past& past) {
  const std::lock_guard lock(mutex_);
  if (id_.empty()) id_ = past.id;
  if (id_ != past.id)
    return fail(Errc::kConflict, "the database holds another ledger (" + past.id + ") than before (" + id_ +
                                     "): restart, for nothing that is known here is of it");
  if (past.behind.empty()) learn(past.mark);
  return {};
}

std::string History::id() const {
  const std::lock_guard lock(mutex_);
  return id_;
}

void History::set_foreign(const std::string& why) {
  const std::lock_guard lock(mutex_);
  why_foreign_ = why;
  foreign_.store(!why.empty(), std::memory_order_release);
  ours_.store(why.empty(), std::memory_order_release);
}

void History::set_behind(const std::string& why) {
  const std::lock_guard lock(mutex_);
  why_behind_ = why;
  if (!why.empty()) expect_gaps();
  behind_.store(!why.empty(), std::memory_order_release);
}

std::string History::trouble() const {
  const std::lock_guard lock(mutex_);
  return why_behind_.empty() ? why_foreign_ : "gone back: " + why_behind_;
}

void History::set_gaps(const Gaps& gaps) {
  filling_.store(gaps.open > 0 || gaps.parked > 0, std::memory_order_release);
  open_gaps_.store(gaps.open, std::memory_order_relaxed);
  lost_.store(gaps.lost, std::memory_order_relaxed);
}

Result<Past> HistoryStore::look() { return past_of(session_.exec(kLook)); }

Result<Past> HistoryStore::advance(const Mark& known) {
  return past_of(session_.exec(kAdvance, {known.generation, known.mark}));
}

Result<Past> HistoryStore::look(Transaction& transaction) { return past_of(transaction.exec(kLook)); }

Result<Past> HistoryStore::advance(Transaction& transaction, const Mark& known) {
  return past_of(transaction.exec(kAdvance, {known.generation, known.mark}));
}

Result<bool> HistoryStore::found_behind(const std::string& why) {
  const Result<Rows> rows =
      session_.exec("select ledger_found_behind($1, $2::timestamptz)", {why, timestamp_text(env_.wall_ns())});
  if (!rows) return tl::unexpected(rows.error());
  return rows->boolean(0, 0);
}

Result<std::vector<MemberMark>> HistoryStore::watermarks(std::span<const int> shards) {
  std::string list = "{";
  for (const int shard : shards) list += (list.size() > 1 ? "," : "") + std::to_string(shard);
  const Result<Rows> rows = session_.exec(
      "select i.shard, i.incarnation, i.watermark from incarnations i where i.shard = any ($1::integer[]) and "
      "(i.last_epoch is null or exists (select from usage_gaps g where g.shard = i.shard and "
      "g.incarnation = i.incarnation and g.resolved_at is null))",
      {list + "}"});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<MemberMark> marks;
  for (size_t i = 0; i < rows->size(); ++i)
    marks.push_back({static_cast<int>(rows->integer(i, 0)), std::string(rows->text(i, 1)), rows->integer(i, 2)});
  return marks;
}

Result<Gaps> HistoryStore::tend_gaps(const std::string& first) {
  const Result<Rows> rows = session_.exec("select o_open, o_parked, o_lost from tend_gaps($1::jsonb, $2::timestamptz)",
                                          {first, timestamp_text(env_.wall_ns())});
  if (!rows) return tl::unexpected(rows.error());
  Gaps gaps{rows->integer(0, 0), rows->integer(0, 1), rows->integer(0, 2), {}};
  if (gaps.open == 0) return gaps;
  const Result<Rows> open =
      session_.exec("select shard, incarnation from usage_gaps where resolved_at is null order by 1, 2");
  if (!open) return tl::unexpected(open.error());
  for (size_t i = 0; i < open->size(); ++i)
    gaps.incarnations.emplace_back(static_cast<int>(open->integer(i, 0)), std::string(open->text(i, 1)));
  return gaps;
}

}  // namespace tallygate::ledger
