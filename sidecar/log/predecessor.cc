#include "sidecar/log/predecessor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/redis_contract/keys.h"
#include "core/redis_contract/record.h"
#include "sidecar/log/record_files.h"
#include "sidecar/log/segments.h"
#include "sidecar/log/usage_log.h"

namespace tallygate::sidecar {

using redis_contract::Record;

class Recovery {
 public:
  Recovery(std::string folder, std::string boot_id) : folder_(std::move(folder)), boot_id_(std::move(boot_id)) {}

  Result<std::unique_ptr<Predecessor>> run() {
    if (auto opened = head_.open(folder_); !opened) return tl::unexpected(opened.error());
    bool torn = head_.torn() || boot_id_.empty() || head_.boot_id() != boot_id_;
    std::string damage;
    if (!torn) {
      auto done = attempt(false);
      if (done) return std::move(found_);
      if (done.error().errc != Errc::kInvalid) return tl::unexpected(done.error());
      torn = true;
      damage = done.error().message;
    }
    if (auto done = attempt(true); !done) return tl::unexpected(done.error());
    found_->damage_ = std::move(damage);
    return std::move(found_);
  }

 private:
  // kInvalid: the files are not as we left them.
  Result<void> attempt(bool torn) {
    found_.reset(new Predecessor(folder_, head_.incarnation()));
    found_->torn_ = torn;
    definitions_.clear();
    auto read = read_files();
    if (torn) {
      // The sound beginning; what follows the first contradiction is nobody's.
      if (!read && read.error().errc != Errc::kInvalid) return read;
      head_.finish(head_.batch(), true);
      return {};
    }
    return !read || head_.finished() ? read : complete();
  }

  Result<void> read_files() {
    const auto files = RecordFiles::list(folder_);
    for (size_t i = 0; i < files.size(); ++i) {
      if (files[i] != files[0] + i) return fail(Errc::kInvalid, "a records file is missing in " + folder_);
      first_ = i == 0;
      last_ = i + 1 == files.size();
      last_index_ = files[i];
      if (auto read = read_file(); !read) return read;
    }
    if (found_->torn_) return {};
    if (files.empty() || head_.end() > HeadFile::pack_end(last_index_, whole_bytes_)) {
      return fail(Errc::kInvalid, "records that were written are not there any more in " + folder_);
    }
    return {};
  }

  Result<void> read_file() {
    auto bytes = RecordFiles::read(folder_, last_index_);
    if (!bytes) return tl::unexpected(bytes.error());
    std::string_view rest = *bytes;
    Frame frame;
    sound_bytes_ = whole_bytes_ = 0;
    bool committed = true;
    snapshot_ = {};
    in_snapshot_ = true;
    while (next_frame(&rest, &frame)) {
      // Frames of a batch that was never committed: its slots still stand, and are booked from there.
      committed = committed && (frame.batch <= head_.batch() || found_->torn_);
      whole_bytes_ = bytes->size() - rest.size();
      if (!committed) continue;
      if (auto taken = take(frame); !taken) return taken;
      sound_bytes_ = whole_bytes_;
    }
    if (auto ended = end_snapshot(); !ended) return ended;
    // Only the last file may end in a torn write.
    if (!last_ && sound_bytes_ != bytes->size()) {
      return fail(Errc::kInvalid, "records file " + std::to_string(last_index_) + " is damaged in " + folder_);
    }
    return {};
  }

  Result<void> take(const Frame& frame) {
    if (frame.kind == FrameKind::kSnapshot) {
      if (!in_snapshot_) return fail(Errc::kInvalid, "usage log: a snapshot out of place");
      return decode_snapshot(frame.payload, &snapshot_);
    }
    if (auto ended = end_snapshot(); !ended) return ended;
    switch (frame.kind) {
      case FrameKind::kDefinition: {
        auto definition = decode_definition(frame.payload);
        if (!definition) return tl::unexpected(definition.error());
        definitions_[definition->first] = std::move(definition->second);
        return {};
      }
      case FrameKind::kRecord:
        return take_record(frame.payload);
      case FrameKind::kSnapshot:
        break;
    }
    return fail(Errc::kInvalid, "usage log: unknown frame");
  }

  // The oldest file's snapshot is where we start; later ones repeat what we know.
  Result<void> end_snapshot() {
    if (!in_snapshot_) return {};
    in_snapshot_ = false;
    if (first_) {
      found_->spent_ = std::move(snapshot_.spent);
      for (const auto& [shard, seq] : snapshot_.last_seq) found_->outbox_.shard(shard).watermark = seq;
      return {};
    }
    for (const auto& [shard, queue] : found_->outbox_.shards()) {
      const auto known = snapshot_.last_seq.find(shard);
      if (known == snapshot_.last_seq.end() || known->second != queue.last_seq()) {
        return fail(Errc::kInvalid,
                    "records are missing before file " + std::to_string(last_index_) + " in " + folder_);
      }
    }
    return {};
  }

  Result<void> take_record(std::string_view payload) {
    auto framed = decode_record_frame(payload);
    if (!framed) return tl::unexpected(framed.error());
    auto record = redis_contract::decode(framed->second);
    if (!record) return tl::unexpected(record.error());
    if (record->seq != found_->outbox_.shard(framed->first).last_seq() + 1) {
      return fail(Errc::kInvalid, "usage log: a record is missing before " + std::string(framed->second));
    }
    for (const auto& bucket : record->buckets) {
      add_saturating(&found_->spent_[{record->epoch, redis_contract::member(record->tenant, bucket)}], record->units);
    }
    found_->outbox_.add(framed->first, std::string(framed->second));
    return {};
  }

  using Sum = std::vector<int64_t>;                                        // requests, units…
  using Sums = std::map<std::pair<uint32_t, uint32_t>, std::vector<Sum>>;  // by definition and second
  Result<Sums> sum_unbooked();
  Result<void> complete();

  std::string folder_, boot_id_;
  HeadFile head_;
  std::unique_ptr<Predecessor> found_;
  std::map<uint32_t, Definition> definitions_;
  Snapshot snapshot_;         // of the file being read
  bool in_snapshot_ = false;  // nothing but snapshot frames so far
  bool first_ = false, last_ = false;
  uint32_t last_index_ = 0;
  uint64_t whole_bytes_ = 0;  // of the last file: sound frames
  uint64_t sound_bytes_ = 0;  // the same, without those of an uncommitted batch
};

// What no committed batch covers.
Result<Recovery::Sums> Recovery::sum_unbooked() {
  const uint32_t committed = head_.batch();
  Sums sums;
  std::string wrong;
  auto scanned = Segments::scan(folder_, [&](const Slot& slot, size_t max_charges) {
    if (slot.mark != kMarkInFlight && slot.mark >= kFirstBatch && slot.mark <= committed) return;
    const auto definition = definitions_.find(slot.definition);
    const size_t n = definition == definitions_.end() ? 0 : definition->second.charges.size();
    int64_t any = 0;
    for (size_t i = 0; i < n && i < max_charges; ++i) any |= slot.units[i];
    if (definition == definitions_.end())
      wrong = "a slot refers to a definition that is not there";
    else if (n > max_charges || any < 0)
      wrong = "a slot holds no counts of its definition";
    else if (slot.mark != kMarkInFlight && slot.mark != committed + 1)
      wrong = "a slot's mark is none of ours";
    if (!wrong.empty() || any == 0) return;
    auto& parts = sums[{slot.definition, slot.second}];
    if (parts.empty() || !add_units(parts.back().data() + 1, slot.units, n)) {
      parts.emplace_back(slot.units, slot.units + n);
      parts.back().insert(parts.back().begin(), 0);
    }
    ++parts.back()[0];
    ++found_->recovered_admissions_;
  });
  if (!scanned) return tl::unexpected(scanned.error());
  if (!wrong.empty()) return fail(Errc::kInvalid, "usage log " + folder_ + ": " + wrong);
  return sums;
}

// Forms records of what no committed batch covers, under the predecessor's name, and closes its log in the same store
// that commits them: a crash before that leaves everything as it was found.
Result<void> Recovery::complete() {
  const uint32_t committed = head_.batch();
  auto sums = sum_unbooked();
  if (!sums) return tl::unexpected(sums.error());
  std::string bytes;
  std::vector<std::pair<int, std::string>> records;
  std::map<int, int64_t> added;
  Record record;
  record.incarnation = found_->incarnation();
  const auto form = [&](const Definition& definition, uint32_t second, const Sum& sum) {
    const int shard = redis_contract::shard_of(definition.tenant);
    for (size_t i = 0; i < definition.charges.size(); ++i) {
      if (sum[i + 1] == 0) continue;
      const int64_t seq = found_->outbox_.shard(shard).last_seq() + ++added[shard];
      fill_usage_record(&record, seq, definition, i, sum[i + 1], sum[0], second);
      std::string text = redis_contract::encode(record);
      append_record_frame(&bytes, committed + 1, shard, text);
      records.emplace_back(shard, std::move(text));
      add_spent(&found_->spent_, definition, i, sum[i + 1]);
    }
  };
  for (const auto& [key, parts] : *sums) {
    for (const Sum& sum : parts) form(definitions_[key.first], key.second, sum);
  }
  RecordFiles files(folder_);
  // Before the tail is cut: a crash in between must not look like a loss.
  head_.set_end(HeadFile::pack_end(last_index_, sound_bytes_));
  if (auto opened = files.reopen(last_index_, sound_bytes_); !opened) return opened;
  if (auto written = files.append(bytes); !written) return written;
  head_.set_end(files.end());
  head_.finish(committed + 1, false);
  for (auto& [shard, text] : records) found_->outbox_.add(shard, std::move(text));
  return {};
}

Result<std::unique_ptr<Predecessor>> Predecessor::recover(const std::string& folder, const std::string& boot_id) {
  return Recovery(folder, boot_id).run();
}

DataFolder::~DataFolder() {
  if (lock_fd_ >= 0) close(lock_fd_);
}

Result<void> DataFolder::open(const std::string& path) {
  path_ = path;
  const auto because = [](const std::string& what) {
    return fail(Errc::kInternal, what + ": " + std::strerror(errno));
  };
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return because("cannot make the data folder " + path);
  const std::string lock = path + "/lock";
  lock_fd_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_fd_ < 0) return because("cannot open " + lock);
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::kConflict, "the data folder " + path + " is in use by another sidecar; give each one its own");
  }
  return {};
}

std::vector<std::string> DataFolder::incarnations() const {
  std::vector<std::pair<int64_t, std::string>> found;
  DIR* dir = opendir(path_.c_str());
  if (dir == nullptr) return {};
  while (const dirent* entry = readdir(dir)) {
    if (std::strncmp(entry->d_name, "inc-", 4) != 0) continue;
    const std::string folder = path_ + "/" + entry->d_name;
    struct statx info{};
    if (statx(AT_FDCWD, folder.c_str(), 0, STATX_BTIME | STATX_MTIME, &info) != 0) continue;
    // When it was made. Its last change, which says little, only where the file system does not know.
    const auto& when = (info.stx_mask & STATX_BTIME) != 0 ? info.stx_btime : info.stx_mtime;
    found.emplace_back(when.tv_sec * 1'000'000'000 + when.tv_nsec, folder);
  }
  closedir(dir);
  std::sort(found.begin(), found.end());
  std::vector<std::string> folders;
  for (auto& [when, folder] : found) folders.push_back(std::move(folder));
  return folders;
}

void DataFolder::remove(const std::string& folder) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return;
  // The head goes first: without it the folder counts as never begun.
  unlink((folder + "/head").c_str());
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') unlink((folder + "/" + entry->d_name).c_str());
  }
  closedir(dir);
  rmdir(folder.c_str());
}

}  // namespace tallygate::sidecar
