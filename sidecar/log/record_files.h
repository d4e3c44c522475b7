// The records files of one incarnation's folder and its mapped head. Appending is one write(2); deleting whole files is how
// space comes back.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::sidecar {

// The mapped first page of an incarnation's folder.
struct Head {
  char magic[8];
  char boot_id[64];
  char incarnation[96];
  // High bit: finished (recovered or drained; no slot is unbooked any more). The rest: the last committed batch. One
  // 8-byte store commits both.
  uint64_t committed;

  static constexpr uint64_t kFinished = uint64_t{1} << 63;
};

class HeadFile {
 public:
  HeadFile() = default;
  ~HeadFile();
  HeadFile(const HeadFile&) = delete;
  static constexpr char kMagic[8] = {'T', 'G', 'U', 'L', 'O', 'G', '0', '1'};

  Result<void> create(const std::string& folder, const std::string& boot_id, const std::string& incarnation);
  Result<void> open(const std::string& folder);
  uint32_t batch() const;
  bool finished() const;
  void commit(uint32_t batch, bool finished);
  std::string boot_id() const { return head_->boot_id; }
  std::string incarnation() const { return head_->incarnation; }
  int descriptor() const { return fd_; }

 private:
  Result<void> map(const std::string& path);
  int fd_ = -1;
  Head* head_ = nullptr;
};

// Appends to records-N; knows which files exist.
class RecordFiles {
 public:
  explicit RecordFiles(std::string folder) : folder_(std::move(folder)) {}
  ~RecordFiles();
  RecordFiles(const RecordFiles&) = delete;

  // Starts file number `index`, which must not exist (or is the last one, to be appended to after its sound part).
  Result<void> start(uint32_t index);
  Result<void> reopen(uint32_t index, uint64_t size);
  // All or nothing: after a failure the file is as long as before.
  Result<void> append(std::string_view bytes);
  uint64_t size() const { return size_; }
  uint32_t index() const { return index_; }
  int descriptor() const { return fd_; }
  // Deletes older files whose records are all booked: `done(index)` says so. Oldest first; stops at the first that is not.
  template <class Done>
  void trim(Done done) {
    while (oldest_ < index_ && done(oldest_)) remove(oldest_++);
  }

  static std::vector<uint32_t> list(const std::string& folder);
  static Result<std::string> read(const std::string& folder, uint32_t index);

 private:
  void remove(uint32_t index);
  std::string path(uint32_t index) const;

  std::string folder_;
  int fd_ = -1;
  uint32_t index_ = 0;
  uint32_t oldest_ = 0;
  uint64_t size_ = 0;
};

}  // namespace tallygate::sidecar
