#include "operator/ledger/escrow_store.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/utf8.h"

namespace tallygate::ledger {
namespace {

using Json = nlohmann::json;
using redis_contract::Record;
using redis_contract::RecordKind;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

template <class Range, class Fn>
std::string array_text(const Range& range, Fn&& value) {
  std::string text = "{";
  for (const auto& item : range) {
    if (text.size() > 1) text += ',';
    text += std::to_string(value(item));
  }
  return text + "}";
}

FundStatus status_of(std::string_view word) {
  if (word == "OK") return FundStatus::kOk;
  if (word == "LOST") return FundStatus::kLost;
  return word == "NONE" ? FundStatus::kNone : FundStatus::kEpoch;
}

// Valid UTF-8 without control bytes: what PostgreSQL takes as text. Free text of a sidecar's must not stop the pump.
std::string storable(std::string text) {
  for (size_t i = 0; i < text.size();) {
    size_t length = utf8_length(std::string_view(text).substr(i));
    if (length == 0 || static_cast<unsigned char>(text[i]) < 0x20) {
      text[i] = '_';
      length = 1;
    }
    i += length;
  }
  return text;
}

const std::vector<std::string> kColumns = {"shard",   "incarnation", "kind",     "seq",    "epoch", "tenant",
                                           "meter",   "units",       "requests", "second", "dims",  "buckets",
                                           "boot_id", "pod",         "software", "detail"};

std::string dims_json(const Record& record) {
  if (record.dims.empty()) return "{}";
  Json dims = Json::object();
  for (const auto& [key, value] : record.dims) dims[storable(key)] = storable(value);
  return dump(dims);
}

std::string detail_text(const Record& record) {
  if (record.kind == RecordKind::kTorn) return record.torn_incarnation;
  if (record.kind != RecordKind::kFinal) return {};
  Json ceilings = Json::object();
  for (const auto& [bucket, ceiling] : record.ceilings) ceilings[storable(bucket)] = ceiling;
  return dump(ceilings);
}

std::string staged_line(const StagedRecord& staged) {
  const Record& r = staged.record;
  std::string line;
  line.reserve(256);
  append_copy_field(line, int64_t{staged.shard});
  append_copy_field(line, r.incarnation);
  append_copy_field(line, std::string_view(reinterpret_cast<const char*>(&r.kind), 1));
  append_copy_field(line, r.seq);
  append_copy_field(line, r.epoch);
  append_copy_field(line, r.tenant);
  append_copy_field(line, r.meter);
  append_copy_field(line, r.units);
  append_copy_field(line, r.requests);
  append_copy_field(line, r.second);
  append_copy_field(line, dims_json(r));
  std::string buckets;
  for (const std::string& bucket : r.buckets) {
    if (!buckets.empty()) buckets += ',';
    buckets += bucket;
  }
  append_copy_field(line, buckets);
  append_copy_field(line, storable(r.boot_id));
  append_copy_field(line, storable(r.pod));
  append_copy_field(line, storable(r.software));
  append_copy_field(line, detail_text(r));
  return line;
}

std::string hex(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    text += "0123456789abcdef"[(static_cast<unsigned char>(c) >> 4) & 15];
    text += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

// Poison is kept for people to see. Where it is known whose it was, its place is staged, so that it counts as passed.
// A log's first record is its hello: without it all that follows would wait for ever for who they are of.
Result<void> quarantine(Transaction& transaction, std::span<const PoisonRecord> poison, const std::string& now) {
  if (poison.empty()) return {};
  Json rows = Json::array();
  for (const PoisonRecord& p : poison) {
    rows.push_back({{"shard", p.shard},
                    {"stream_id", p.stream_id},
                    {"raw", hex(p.raw)},
                    {"error", storable(p.error)},
                    {"incarnation", p.incarnation},
                    {"seq", p.seq}});
  }
  const std::string text = dump(rows);
  const Result<Rows> done = transaction.exec(
      "insert into quarantined_records (shard, stream_id, raw, error, quarantined_at) "
      "select shard, stream_id, decode(raw, 'hex'), error, $2::timestamptz from jsonb_to_recordset($1::jsonb) "
      "as x (shard smallint, stream_id text, raw text, error text) on conflict do nothing",
      {text, now});
  if (!done) return tl::unexpected(done.error());
  if (!std::ranges::any_of(poison, [](const PoisonRecord& p) { return p.seq > 0; })) return {};
  const Result<Rows> staged = transaction.exec(
      "insert into usage_staging (shard, incarnation, kind, seq, boot_id, pod, software) "
      "select shard, incarnation, case seq when 1 then 'H' else 'Q' end, seq, '-', '-', '-' "
      "from jsonb_to_recordset($1::jsonb) as x (shard smallint, incarnation text, seq bigint) where seq > 0",
      {text});
  if (!staged) return tl::unexpected(staged.error());
  return {};
}

}  // namespace

std::string EscrowStore::now() const { return timestamp_text(env_.wall_ns()); }

Result<std::vector<ShardEpoch>> EscrowStore::numbers() {
  const Result<Rows> rows = session_.exec("select shard, number from shard_epochs order by shard");
  if (!rows) return tl::unexpected(rows.error());
  std::vector<ShardEpoch> numbers;
  for (size_t i = 0; i < rows->size(); ++i)
    numbers.push_back({static_cast<int>(rows->integer(i, 0)), rows->integer(i, 1)});
  return numbers;
}

Result<std::vector<EpochMembers>> EscrowStore::members(std::span<const int> shards) {
  const Result<Rows> rows = session_.exec("select o_shard, o_number, o_incarnation from epoch_members($1::integer[])",
                                          {array_text(shards, [](int shard) { return shard; })});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<EpochMembers> members;
  for (size_t i = 0; i < rows->size(); ++i) {
    const int shard = static_cast<int>(rows->integer(i, 0));
    if (members.empty() || members.back().shard != shard) members.push_back({shard, rows->integer(i, 1), {}});
    if (!rows->is_null(i, 2)) members.back().incarnations.emplace_back(rows->text(i, 2));
  }
  return members;
}

Result<std::vector<ShardEpoch>> EscrowStore::open(std::span<const ShardEpoch> expected) {
  const Result<Rows> rows =
      session_.exec("select o_shard, o_number from epoch_open($1::integer[], $2::bigint[], $3::timestamptz)",
                    {array_text(expected, [](const ShardEpoch& e) { return e.shard; }),
                     array_text(expected, [](const ShardEpoch& e) { return e.number; }), now()});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<ShardEpoch> opened;
  for (size_t i = 0; i < rows->size(); ++i)
    opened.push_back({static_cast<int>(rows->integer(i, 0)), rows->integer(i, 1)});
  return opened;
}

Result<std::vector<FundAnswer>> EscrowStore::fund(std::span<const FundRequest> requests, int64_t target_units) {
  Json batch = Json::array();
  for (size_t i = 0; i < requests.size(); ++i) {
    const FundRequest& r = requests[i];
    batch.push_back({{"n", i},
                     {"shard", r.shard},
                     {"epoch", r.epoch},
                     {"tenant", r.tenant},
                     {"bucket", r.bucket},
                     {"f", r.funded},
                     {"rc", r.recalled},
                     {"free", r.free},
                     {"need", r.need},
                     {"want", r.want},
                     {"born", r.born}});
  }
  const Result<Rows> rows = session_.exec(
      "select o_n, o_status, o_total, o_acked, o_avail, o_used, o_dry, o_low, o_granted "
      "from fund_batch($1::jsonb, $2::bigint, $3::timestamptz)",
      {dump(batch), target_units, now()});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<FundAnswer> answers(requests.size());
  for (size_t i = 0; i < rows->size(); ++i) {
    const auto n = static_cast<size_t>(rows->integer(i, 0));
    if (n >= answers.size()) continue;
    answers[n] = {status_of(rows->text(i, 1)), rows->integer(i, 3), rows->integer(i, 2),           rows->integer(i, 4),
                  rows->integer(i, 5),         rows->integer(i, 7), std::string(rows->text(i, 6)), rows->integer(i, 8)};
  }
  return answers;
}

Result<void> EscrowStore::acknowledged(std::span<const FundedTotal> totals) {
  Json answers = Json::array();
  for (const FundedTotal& t : totals) {
    answers.push_back({{"tenant", t.tenant}, {"bucket", t.bucket}, {"epoch", t.epoch}, {"total", t.total}});
  }
  const Result<Rows> done = session_.exec("select fund_acknowledged($1::jsonb)", {dump(answers)});
  if (!done) return tl::unexpected(done.error());
  return {};
}

Result<std::vector<RecallPlan>> EscrowStore::recall_plans(std::span<const FundRequest> requests) {
  Json batch = Json::array();
  for (size_t i = 0; i < requests.size(); ++i) {
    const FundRequest& r = requests[i];
    batch.push_back(
        {{"n", i}, {"tenant", r.tenant}, {"bucket", r.bucket}, {"units", std::max<int64_t>(1, r.need - r.free)}});
  }
  const Result<Rows> rows = session_.exec("select n, plan from funding_recall_plans($1::jsonb)", {dump(batch)});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<RecallPlan> plans;
  for (size_t i = 0; i < rows->size(); ++i)
    plans.push_back({static_cast<size_t>(rows->integer(i, 0)), std::string(rows->text(i, 1))});
  return plans;
}

Result<void> EscrowStore::count_recalled(const std::string& tenant, const std::string& totals) {
  const Result<Rows> done = session_.exec("select apply_recall($1, $2::jsonb)", {tenant, totals});
  if (!done) return tl::unexpected(done.error());
  return {};
}

Result<std::vector<BookedIncarnation>> EscrowStore::book(std::span<const StagedRecord> records,
                                                         std::span<const PoisonRecord> poison, History* history) {
  const std::string time = now();
  std::vector<std::string> staged;
  staged.reserve(records.size());
  for (const StagedRecord& record : records) staged.push_back(staged_line(record));
  const bool filling = history != nullptr && history->filling();
  const Mark known = history == nullptr ? Mark{} : history->known();
  std::vector<BookedIncarnation> booked;
  Mark mark;
  Result<void> result = session_.transact([&](Transaction& transaction) -> Result<void> {
    // COPY first: while it waits for a client that was stopped no time-out ends it, so it must hold no lock.
    if (!staged.empty()) {
      if (Result<void> done = transaction.copy("usage_staging", kColumns, staged); !done) return done;
    }
    if (Result<void> done = quarantine(transaction, poison, time); !done) return done;
    if (records.empty() && poison.empty() && !filling) return {};
    if (Result<void> done = book_staged(transaction, filling, &booked); !done) return done;
    const auto past = HistoryStore::advance(transaction, known);
    if (!past) return tl::unexpected(past.error());
    if (!past->behind.empty() || past->mark < known)
      return fail(Errc::kConflict, "the ledger knows less than it did: it was restored from a backup, or lost commits");
    mark = past->mark;
    return {};
  });
  if (!result) return tl::unexpected(result.error());
  if (history != nullptr) history->heard(mark);
  return booked;
}

Result<std::vector<Absentee>> EscrowStore::absentees(std::span<const HeardShard> heard, int rounds, int limit) {
  Json batch = Json::array();
  for (const HeardShard& h : heard) {
    batch.push_back({{"shard", h.shard}, {"epoch", h.epoch}, {"incarnations", h.incarnations}});
  }
  const Result<Rows> rows = session_.exec(
      "select o_shard, o_epoch, o_incarnation, o_what = 'BACK' from incarnations_heard($1::jsonb, $2, $3, $4)",
      {dump(batch), int64_t{rounds}, int64_t{limit}, now()});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<Absentee> found;
  for (size_t i = 0; i < rows->size(); ++i) {
    found.push_back({static_cast<int>(rows->integer(i, 0)), rows->integer(i, 1), std::string(rows->text(i, 2)),
                     rows->boolean(i, 3)});
  }
  return found;
}

Result<std::vector<WrittenOff>> EscrowStore::write_off(const Absentee& gone, std::span<const HeldUnits> held) {
  Json batch = Json::array();
  for (const HeldUnits& h : held) batch.push_back({{"member", h.member}, {"units", h.units}});
  const Result<Rows> rows =
      session_.exec("select o_tenant, o_bucket, o_spent, o_units from absent_write_off($1, $2, $3, $4::jsonb, $5)",
                    {int64_t{gone.shard}, gone.epoch, gone.incarnation, dump(batch), now()});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<WrittenOff> written;
  for (size_t i = 0; i < rows->size(); ++i) {
    written.push_back(
        {std::string(rows->text(i, 0)), std::string(rows->text(i, 1)), rows->integer(i, 2), rows->integer(i, 3)});
  }
  return written;
}

Result<void> EscrowStore::written_off(const Absentee& gone) {
  const Result<Rows> done =
      session_.exec("select absent_written_off($1, $2, $3)", {int64_t{gone.shard}, gone.incarnation, now()});
  if (!done) return tl::unexpected(done.error());
  return {};
}

// With `filling`, records behind a gap are kept here until it is closed: their streams forget them.
Result<void> EscrowStore::book_staged(Transaction& transaction, bool filling, std::vector<BookedIncarnation>* booked) {
  if (filling) {
    if (const Result<Rows> done = transaction.exec("select unpark_usage()"); !done) return tl::unexpected(done.error());
  }
  const Result<Rows> rows = transaction.exec(
      "select o_shard, o_incarnation, o_watermark, o_taken, o_register, o_epoch from book_batch($1::timestamptz)",
      {now()});
  if (!rows) return tl::unexpected(rows.error());
  for (size_t i = 0; i < rows->size(); ++i) {
    booked->push_back({static_cast<int>(rows->integer(i, 0)), std::string(rows->text(i, 1)), rows->integer(i, 2),
                       rows->integer(i, 3), rows->boolean(i, 4), rows->integer(i, 5)});
  }
  if (!filling) return {};
  const Result<Rows> parked = transaction.exec("select park_usage()");
  if (!parked) return tl::unexpected(parked.error());
  return {};
}

Result<void> EscrowStore::ensure_partitions() {
  const Result<Rows> done = session_.exec("select ensure_usage_partitions($1::timestamptz)", {now()});
  if (!done) return tl::unexpected(done.error());
  return {};
}

}  // namespace tallygate::ledger
