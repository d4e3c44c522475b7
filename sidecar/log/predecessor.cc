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
    found_.reset(new Predecessor(folder_, head_.incarnation()));
    found_->torn_ = boot_id_.empty() || head_.boot_id() != boot_id_;
    for (const uint32_t index : RecordFiles::list(folder_)) {
      if (auto read = read_file(index); !read) return tl::unexpected(read.error());
    }
    if (!head_.finished()) {
      if (!found_->torn_) {
        if (auto done = complete(); !done) return tl::unexpected(done.error());
      } else {
        head_.commit(head_.batch(), true);
      }
    }
    return std::move(found_);
  }

 private:
  Result<void> read_file(uint32_t index) {
    auto bytes = RecordFiles::read(folder_, index);
    if (!bytes) return tl::unexpected(bytes.error());
    std::string_view rest = *bytes;
    Frame frame;
    sound_bytes_ = 0;
    last_index_ = index;
    while (next_frame(&rest, &frame)) {
      // Frames of a batch that was never committed: its slots still stand, and are booked from there.
      if (frame.batch > head_.batch() && !found_->torn_) break;
      if (auto taken = take(frame); !taken) return taken;
      sound_bytes_ = bytes->size() - rest.size();
    }
    return {};
  }

  Result<void> take(const Frame& frame) {
    switch (frame.kind) {
      case FrameKind::kDefinition: {
        auto definition = decode_definition(frame.payload);
        if (!definition) return tl::unexpected(definition.error());
        definitions_[definition->first] = std::move(definition->second);
        return {};
      }
      case FrameKind::kSnapshot: return take_snapshot(frame.payload);
      case FrameKind::kRecord: return take_record(frame.payload);
    }
    return fail(Errc::kInvalid, "usage log: unknown frame");
  }

  // The oldest file's snapshot is where we start; later ones repeat what we know.
  Result<void> take_snapshot(std::string_view payload) {
    if (started_) return {};
    started_ = true;
    auto snapshot = decode_snapshot(payload);
    if (!snapshot) return tl::unexpected(snapshot.error());
    found_->spent_ = std::move(snapshot->spent);
    for (const auto& [shard, seq] : snapshot->last_seq) found_->outbox_.shard(shard).watermark = seq;
    return {};
  }

  Result<void> take_record(std::string_view payload) {
    auto framed = decode_record_frame(payload);
    if (!framed) return tl::unexpected(framed.error());
    auto record = redis_contract::decode(framed->second);
    if (!record) return tl::unexpected(record.error());
    for (const auto& bucket : record->buckets) {
      found_->spent_[{record->epoch, redis_contract::member(record->tenant, bucket)}] += record->units;
    }
    found_->outbox_.add(framed->first, std::string(framed->second));
    return {};
  }

  Result<void> complete();

  std::string folder_, boot_id_;
  HeadFile head_;
  std::unique_ptr<Predecessor> found_;
  std::map<uint32_t, Definition> definitions_;
  bool started_ = false;
  uint32_t last_index_ = 0;
  uint64_t sound_bytes_ = 0;
};

// Forms records of what no committed batch covers, under the predecessor's name, and closes its log in the same store
// that commits them: a crash before that leaves everything as it was found.
Result<void> Recovery::complete() {
  const uint32_t committed = head_.batch();
  std::map<std::pair<uint32_t, uint32_t>, std::vector<int64_t>> sums;  // (definition, second) → requests, units…
  bool unknown = false;
  auto scanned = Segments::scan(folder_, [&](const Slot& slot, size_t max_charges) {
    if (slot.mark != kMarkInFlight && slot.mark <= committed) return;
    const auto definition = definitions_.find(slot.definition);
    if (definition == definitions_.end() || definition->second.charges.size() > max_charges) {
      unknown = true;
      return;
    }
    const size_t n = definition->second.charges.size();
    int64_t any = 0;
    for (size_t i = 0; i < n; ++i) any |= slot.units[i];
    if (any == 0) return;
    auto& sum = sums[{slot.definition, slot.second}];
    sum.resize(n + 1);
    ++sum[0];
    for (size_t i = 0; i < n; ++i) sum[i + 1] += slot.units[i];
    ++found_->recovered_admissions_;
  });
  if (!scanned) return scanned;
  if (unknown) return fail(Errc::kInternal, "usage log " + folder_ + ": a slot refers to a definition that is not there");
  std::string bytes;
  std::vector<std::pair<int, std::string>> records;
  std::map<int, int64_t> added;
  for (const auto& [key, sum] : sums) {
    const Definition& definition = definitions_[key.first];
    const int shard = redis_contract::shard_of(definition.tenant);
    for (size_t i = 0; i < definition.charges.size(); ++i) {
      if (sum[i + 1] == 0) continue;
      const int64_t seq = found_->outbox_.shard(shard).last_seq() + ++added[shard];
      std::string text = redis_contract::encode(
          usage_record(found_->incarnation(), seq, definition, i, sum[i + 1], sum[0], key.second));
      append_record_frame(&bytes, committed + 1, shard, text);
      records.emplace_back(shard, std::move(text));
      add_spent(&found_->spent_, definition, i, sum[i + 1]);
    }
  }
  RecordFiles files(folder_);
  if (auto opened = files.reopen(last_index_, sound_bytes_); !opened) return opened;
  if (auto written = files.append(bytes); !written) return written;
  head_.commit(committed + 1, true);
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
  const auto because = [](const std::string& what) { return fail(Errc::kInternal, what + ": " + std::strerror(errno)); };
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
    struct stat info {};
    if (stat(folder.c_str(), &info) == 0) found.emplace_back(info.st_mtim.tv_sec, folder);
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
