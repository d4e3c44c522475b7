#include "sidecar/log/usage_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/money.h"
#include "core/redis_contract/keys.h"

namespace tallygate::sidecar {

using redis_contract::Record;
using redis_contract::RecordKind;

namespace {
constexpr size_t kUsualRecordBytes = 200;
}

void fill_usage_record(Record* record, int64_t seq, const Definition& definition, size_t charge, int64_t units,
                       int64_t requests, int64_t second) {
  record->kind = RecordKind::kUsage;
  record->seq = seq;
  record->epoch = definition.epoch;
  record->tenant = definition.tenant;
  record->meter = definition.charges[charge].meter;
  record->units = units;
  record->requests = requests;
  record->second = second;
  record->dims.resize(1);
  record->dims[0].first = "route";
  record->dims[0].second = definition.route;
  record->buckets = definition.charges[charge].buckets;
}

void add_spent(Spent* spent, const Definition& definition, size_t charge, int64_t units) {
  for (const auto& bucket : definition.charges[charge].buckets) {
    add_saturating(&(*spent)[{definition.epoch, redis_contract::member(definition.tenant, bucket)}], units);
  }
}

UsageLog::UsageLog(std::string folder, LogIdentity identity, LogLimits limits)
    : folder_(std::move(folder)),
      identity_(std::move(identity)),
      limits_(limits),
      files_(folder_, limits.keep_booked),
      segments_(folder_, limits.max_segments, head_),
      outbox_(identity_.incarnation) {}

UsageLog::~UsageLog() {
  if (folder_fd_ >= 0) close(folder_fd_);
}

// The head comes last: a folder without one holds nothing, whatever else is there.
Result<std::unique_ptr<UsageLog>> UsageLog::create(std::string folder, LogIdentity identity, LogLimits limits) {
  if (!redis_contract::is_incarnation(identity.incarnation)) {
    return fail(Errc::kInvalid, "\"" + identity.incarnation + "\" is no incarnation; wanted: [a-z0-9.-]{1,80}");
  }
  if (!folder.ends_with("/inc-" + identity.incarnation)) {
    return fail(Errc::kInvalid, folder + " is no folder of incarnation " + identity.incarnation);
  }
  if (mkdir(folder.c_str(), 0700) != 0) {
    return fail(Errc::kInternal, "cannot make the folder " + folder + ": " + std::strerror(errno));
  }
  std::unique_ptr<UsageLog> log(new UsageLog(std::move(folder), std::move(identity), limits));
  log->folder_fd_ = open(log->folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  std::string bytes;
  append_title_frame(&bytes, {0, 0, log->identity_.incarnation});
  for (const auto& part : encode_snapshot({}, {}, 0)) append_frame(&bytes, FrameKind::kSnapshot, 0, part);
  if (auto r = log->files_.start(0, bytes); !r) return tl::unexpected(r.error());
  if (auto r = log->head_.create(log->folder_, log->identity_.boot_id, log->identity_.incarnation, kFirstBatch - 1,
                                 log->files_.end());
      !r) {
    return tl::unexpected(r.error());
  }
  return log;
}

Result<uint32_t> UsageLog::define(const Definition& definition) {
  const std::string key = encode_definition(0, definition);
  if (const auto it = ids_.find(key); it != ids_.end()) {
    ++entries_[it->second].users;
    return it->second;
  }
  if (auto r = check_definition(definition); !r) return tl::unexpected(r.error());
  const int shard = redis_contract::shard_of(definition.tenant);
  if (auto r = log_hello(shard); !r) return tl::unexpected(r.error());
  const bool fresh = free_ids_.empty();
  const auto id = fresh ? static_cast<uint32_t>(entries_.size()) : free_ids_.back();
  if (fresh) entries_.emplace_back();
  Entry& entry = entries_[id];
  entry.definition = definition;
  entry.shard = shard;
  if (auto r = log_definition(id); !r) {
    if (fresh) entries_.pop_back();
    return tl::unexpected(r.error());
  }
  if (!fresh) free_ids_.pop_back();
  entry.users = 1;
  ids_.emplace(key, id);
  return id;
}

void UsageLog::release(uint32_t id) {
  Entry& entry = entries_[id];
  TG_ASSERT(entry.users > 0);
  if (--entry.users > 0 || entry.releasing) return;
  entry.releasing = true;
  released_.push_back(id);
}

// Only when no settled slot is unbooked: until then a successor would look up its number.
void UsageLog::collect_released() {
  std::erase_if(released_, [this](uint32_t id) {
    Entry& entry = entries_[id];
    if (entry.users == 0 && entry.in_flight > 0) return false;
    entry.releasing = false;
    if (entry.users > 0) return true;
    ids_.erase(encode_definition(0, entry.definition));
    entry = {};
    free_ids_.push_back(id);
    return true;
  });
}

Result<void> UsageLog::append(std::string_view bytes) {
  auto written = files_.append(bytes);
  if (written) {
    head_.set_end(files_.end());
  } else {
    last_error_ = written.error().message;
    write_failed_ = true;
  }
  return written;
}

Result<void> UsageLog::log_definition(uint32_t id) {
  std::string bytes;
  append_frame(&bytes, FrameKind::kDefinition, 0, encode_definition(id, entries_[id].definition));
  auto written = append(bytes);
  if (written) entries_[id].logged = true;
  return written;
}

// Writes one record outside of the batches: it counts as soon as it is whole.
Result<void> UsageLog::log_now(int shard, Record record) {
  record.incarnation = identity_.incarnation;
  record.seq = outbox_.shard(shard).last_seq() + 1;
  std::string text = redis_contract::encode(record);
  std::string bytes;
  append_record_frame(&bytes, 0, shard, text);
  if (auto written = append(bytes); !written) return written;
  outbox_.add(shard, std::move(text));
  return {};
}

// A shard's first record registers the incarnation there (rule 5).
Result<void> UsageLog::log_hello(int shard) {
  if (outbox_.shard(shard).last_seq() > 0) return {};
  Record hello;
  hello.kind = RecordKind::kHello;
  hello.boot_id = identity_.boot_id;
  hello.pod = identity_.pod;
  hello.software = TALLYGATE_VERSION;
  return log_now(shard, std::move(hello));
}

Result<void> UsageLog::report_torn(int shard, const std::string& incarnation) {
  if (auto r = log_hello(shard); !r) return r;
  Record torn;
  torn.kind = RecordKind::kTorn;
  torn.torn_incarnation = incarnation;
  return log_now(shard, std::move(torn));
}

Slot* UsageLog::refuse(const char* why) {
  last_error_ = why;
  return nullptr;
}

Slot* UsageLog::admit(uint32_t definition, std::span<const int64_t> units, int64_t second) {
  Entry& entry = entries_[definition];
  TG_ASSERT(units.size() == entry.definition.charges.size());
  if (outbox_.size() - outbox_.reopened() >= limits_.max_unacked || closed_) [[unlikely]]
    return refuse(finished_ ? "the log is finished" : closed_ ? gone_.c_str() : "too many records wait for the ledger");
  if (!entry.logged) [[unlikely]] {
    if (!log_definition(definition)) return nullptr;
  }
  Slot* slot = segments_.take(units.size(), open_batch_ - 1);
  if (slot == nullptr) [[unlikely]] {
    write_failed_ = true;
    return refuse(segments_.last_error().c_str());
  }
  slot->definition = definition;
  slot->second = static_cast<uint32_t>(second);
  for (size_t i = 0; i < units.size(); ++i) slot->units[i] = units[i];
  slot->set_mark(kMarkInFlight);
  ++entry.in_flight;
  return slot;
}

void UsageLog::settle(Slot* slot, std::span<const int64_t> units) {
  TG_ASSERT(slot->mark == kMarkInFlight);
  Entry& entry = entries_[slot->definition];
  TG_ASSERT(units.size() == entry.definition.charges.size());
  for (size_t i = 0; i < units.size(); ++i) slot->units[i] = units[i];
  slot->set_mark(open_batch_);
  --entry.in_flight;
  settled_since_commit_ = true;
  add_sum(entry, *slot);
  segments_.settled(slot, open_batch_);
}

bool add_units(int64_t* sums, const int64_t* units, size_t n) {
  int64_t added[kMaxCharges];
  for (size_t i = 0; i < n; ++i) {
    if (__builtin_add_overflow(sums[i], units[i], &added[i]) || added[i] > kMaxInteger) return false;
  }
  std::memcpy(sums, added, n * sizeof *sums);
  return true;
}

void UsageLog::add_sum(Entry& entry, const Slot& slot) {
  const size_t n = entry.definition.charges.size();
  int64_t any = 0;
  for (size_t i = 0; i < n; ++i) any |= slot.units[i];
  if (any == 0) return;  // released: nothing is owed
  if (!entry.dirty) {
    entry.dirty = true;
    dirty_.push_back(slot.definition);
  }
  // Almost always the last one: admissions of one second end close together.
  for (auto it = entry.sums.rbegin(); it != entry.sums.rend(); ++it) {
    if (it->second == slot.second && add_units(it->units, slot.units, n)) {
      ++it->requests;
      return;
    }
  }
  Sum sum{slot.second, 1, {}};
  for (size_t i = 0; i < n; ++i) sum.units[i] = slot.units[i];
  entry.sums.push_back(sum);
}

Result<void> UsageLog::commit_batch() {
  if (!settled_since_commit_) {
    collect_released();
    return {};
  }
  std::string bytes;
  std::vector<std::pair<int, std::string>> records;
  std::map<int, int64_t> next_seq;
  Record record;  // one for all: its strings keep their room
  record.incarnation = identity_.incarnation;
  for (const uint32_t id : dirty_) {
    const Entry& entry = entries_[id];
    for (const Sum& sum : entry.sums) {
      for (size_t i = 0; i < entry.definition.charges.size(); ++i) {
        if (sum.units[i] == 0) continue;
        auto [it, fresh] = next_seq.try_emplace(entry.shard, 0);
        if (fresh) it->second = outbox_.shard(entry.shard).last_seq() + 1;
        fill_usage_record(&record, it->second++, entry.definition, i, sum.units[i], sum.requests, sum.second);
        std::string text;
        text.reserve(kUsualRecordBytes);
        redis_contract::encode_to(record, &text);
        append_record_frame(&bytes, open_batch_, entry.shard, text);
        records.emplace_back(entry.shard, std::move(text));
      }
    }
  }
  if (auto written = append(bytes); !written) return written;
  head_.commit(open_batch_);  // from here on these slots count as booked
  ++open_batch_;
  settled_since_commit_ = false;
  for (auto& [shard, text] : records) outbox_.add(shard, std::move(text));
  for (const uint32_t id : dirty_) {
    Entry& entry = entries_[id];
    for (const Sum& sum : entry.sums) count_spent(entry, sum);
    entry.sums.clear();
    entry.dirty = false;
    entry.recent = true;
  }
  dirty_.clear();
  collect_released();
  if (files_.size() >= limits_.max_file_bytes) rotate();
  return {};
}

void UsageLog::count_spent(Entry& entry, const Sum& sum) {
  const auto& charges = entry.definition.charges;
  if (entry.totals.empty()) {
    for (const auto& charge : charges) {
      for (const auto& bucket : charge.buckets) {
        entry.totals.push_back(
            &spent_[{entry.definition.epoch, redis_contract::member(entry.definition.tenant, bucket)}]);
      }
    }
  }
  auto total = entry.totals.begin();
  for (size_t i = 0; i < charges.size(); ++i) {
    for (size_t b = 0; b < charges[i].buckets.size(); ++b) add_saturating(*total++, sum.units[i]);
  }
}

// Starts the next file with all that a successor needs, so that the older ones can go once their records are booked.
// Where that fails the current file goes on growing; tried again at the next batch.
void UsageLog::rotate() {
  std::map<int, int64_t> last_seq;
  for (const auto& [number, shard] : outbox_.shards()) last_seq[number] = shard.last_seq();
  std::string bytes;
  const uint32_t closing = files_.index();
  append_title_frame(&bytes, {closing + 1, files_.size(), identity_.incarnation});
  for (const auto& part : encode_snapshot(spent_, last_seq, forgotten_until_s_))
    append_frame(&bytes, FrameKind::kSnapshot, 0, part);
  // Those in flight, which a successor may look up; and those just used, which would else be written one by one.
  for (uint32_t id = 0; id < entries_.size(); ++id) {
    if (entries_[id].in_flight == 0 && !entries_[id].recent) continue;
    append_frame(&bytes, FrameKind::kDefinition, 0, encode_definition(id, entries_[id].definition));
  }
  if (auto started = files_.start(closing + 1, bytes); !started) {
    last_error_ = started.error().message;
    write_failed_ = true;
    return;
  }
  head_.set_end(files_.end());
  file_end_[closing] = std::move(last_seq);
  for (auto& entry : entries_) {
    entry.logged = entry.in_flight > 0 || entry.recent;
    entry.recent = false;
  }
}

Spent UsageLog::admitted() const {
  Spent totals = spent_;
  const auto add = [&totals](const Definition& definition, const int64_t* units) {
    for (size_t i = 0; i < definition.charges.size(); ++i) add_spent(&totals, definition, i, units[i]);
  };
  for (const Entry& entry : entries_) {
    for (const Sum& sum : entry.sums) add(entry.definition, sum.units);
  }
  segments_.each_in_flight([&](const Slot& slot) { add(entries_[slot.definition].definition, slot.units); });
  return totals;
}

void UsageLog::forget_ended(int64_t second) {
  for (auto& entry : entries_) entry.totals.clear();
  std::erase_if(spent_, [this, second](const auto& entry) {
    const int64_t end_s = window_end_s(entry.first.second);
    if (end_s >= second) return false;
    forgotten_until_s_ = std::max(forgotten_until_s_, end_s);
    return true;
  });
}

void UsageLog::trim() {
  files_.trim([this](uint32_t index) {
    const auto it = file_end_.find(index);
    if (it == file_end_.end()) return false;
    for (const auto& [shard, seq] : it->second) {
      if (outbox_.shard(shard).watermark < seq) return false;
    }
    file_end_.erase(it);
    head_.set_oldest_file(index + 1);  // before it goes
    return true;
  });
}

void UsageLog::finish() {
  TG_ASSERT(in_flight() == 0 && !settled_since_commit_);
  head_.finish(open_batch_ - 1, false);
  finished_ = closed_ = true;
}

Result<void> UsageLog::examine(const Result<void>& around) {
  std::vector<int> fds = segments_.descriptors();
  for (const int fd : files_.descriptors()) fds.push_back(fd);
  fds.push_back(head_.descriptor());
  const auto there = around ? still_there(folder_, folder_fd_, fds) : around;
  gone_ = there ? "" : there.error().message;
  closed_ = finished_ || !gone_.empty();
  if (!there) return there;
  auto room = has_room(folder_, kSegmentBytes, write_failed_);
  if (room) write_failed_ = false;
  return room;
}

std::vector<int> UsageLog::duplicate_descriptors() const {
  std::vector<int> fds = segments_.descriptors();
  for (const int fd : files_.descriptors()) fds.push_back(fd);
  fds.push_back(head_.descriptor());
  fds.push_back(folder_fd_);
  for (int& fd : fds) fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return fds;
}

}  // namespace tallygate::sidecar
