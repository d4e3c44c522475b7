// The records files of one incarnation's folder and its mapped head. Appending is one write(2); deleting whole files is
// how space comes back.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace tallygate::sidecar {

// The mapped first page of an incarnation's folder.
struct Head {
  uint64_t magic;
  char boot_id[64];
  char incarnation[96];
  // The two high bits: finished (recovered or drained; no slot is unbooked any more), torn. The rest: the last
  // committed batch. One 8-byte store commits them all.
  uint64_t committed;
  // How far the records files are sound: file << 40 | bytes. What is missing below was lost by the disk, not by a
  // crash.
  uint64_t end;

  static constexpr uint64_t kFinished = uint64_t{1} << 63;
  static constexpr uint64_t kTorn = uint64_t{1} << 62;
};

class HeadFile {
 public:
  HeadFile() = default;
  ~HeadFile();
  HeadFile(const HeadFile&) = delete;
  static constexpr uint64_t kMagic = 0x3230474f4c554754;  // "TGULOG02", little endian

  // `batch` is the first committed one. The magic is written last: without it nothing was ever admitted.
  Result<void> create(const std::string& folder, const std::string& boot_id, const std::string& incarnation,
                      uint32_t batch, uint64_t end);
  Result<void> open(const std::string& folder);
  uint32_t batch() const;
  bool finished() const { return (load() & Head::kFinished) != 0; }
  bool torn() const { return (load() & Head::kTorn) != 0; }
  void commit(uint32_t batch);
  void finish(uint32_t batch, bool torn);
  static uint64_t pack_end(uint32_t file, uint64_t bytes) { return uint64_t{file} << 40 | bytes; }
  void set_end(uint64_t end);
  uint64_t end() const;
  std::string boot_id() const { return head_->boot_id; }
  std::string incarnation() const { return head_->incarnation; }
  int descriptor() const { return fd_; }

 private:
  Result<void> map(const std::string& path);
  uint64_t load() const;
  int fd_ = -1;
  Head* head_ = nullptr;
};

// Appends to records-N; knows which files exist.
class RecordFiles {
 public:
  explicit RecordFiles(std::string folder) : folder_(std::move(folder)) {}
  ~RecordFiles();
  RecordFiles(const RecordFiles&) = delete;

  // Goes on to file `index`, whose first frames are `bytes`: all or nothing. After a failure the file before stays.
  Result<void> start(uint32_t index, std::string_view bytes);
  // Appends to an existing file after its first `size` bytes; what follows them is cut off.
  Result<void> reopen(uint32_t index, uint64_t size);
  // All or nothing: after a failure the file is as long as before.
  Result<void> append(std::string_view bytes);
  uint64_t size() const { return size_; }
  uint32_t index() const { return index_; }
  uint64_t end() const { return HeadFile::pack_end(index_, size_); }
  // Of the file that is written and of the last few before it, whose ends may not be on the disk yet.
  std::vector<int> descriptors() const;
  // Deletes older files whose records are all booked: `done(index)` says so. Oldest first; stops at the first that is
  // not.
  template <class Done>
  void trim(Done done) {
    while (oldest_ < index_ && done(oldest_)) remove(oldest_++);
  }

  static std::vector<uint32_t> list(const std::string& folder);
  static Result<std::string> read(const std::string& folder, uint32_t index);

 private:
  static constexpr size_t kMaxBefore = 8;
  void remove(uint32_t index);
  std::string path(uint32_t index) const;

  std::string folder_;
  int fd_ = -1;
  std::deque<std::pair<uint32_t, int>> before_;  // index, descriptor
  uint32_t index_ = 0;
  uint32_t oldest_ = 0;
  uint64_t size_ = 0;
};

// posix_fallocate(3), again where a signal interrupts it. 0, or an error number.
int allocate_file(int fd, size_t bytes);

}  // namespace tallygate::sidecar
