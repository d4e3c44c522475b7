// The records files of one incarnation's folder. Appending is one write(2); deleting whole files is how space comes
// back, or renaming them where what is booked is kept (kept.h).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "sidecar/log/head_file.h"

namespace tallygate::sidecar {

// Appends to records-N; knows which files exist.
class RecordFiles {
 public:
  // With `keep`, files that are trimmed are called booked-N from then on; whoever sweeps deletes them.
  explicit RecordFiles(std::string folder, bool keep = false) : folder_(std::move(folder)), keep_(keep) {}
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
  // Deletes, or keeps, older files whose records are all booked: `done(index)` says so. Oldest first; stops at the
  // first that is not.
  template <class Done>
  void trim(Done done) {
    while (oldest_ < index_ && done(oldest_)) remove(oldest_++);
  }

  static std::vector<uint32_t> list(const std::string& folder);
  static Result<std::string> read(const std::string& folder, uint32_t index);
  // Paths, oldest first, of those that are booked and kept, too.
  static std::vector<std::string> list_with_booked(const std::string& folder);
  static Result<std::string> read(const std::string& path);

 private:
  static constexpr size_t kMaxBefore = 8;
  void remove(uint32_t index);
  std::string path(uint32_t index) const;

  std::string folder_;
  bool keep_;
  int fd_ = -1;
  std::deque<std::pair<uint32_t, int>> before_;  // index, descriptor
  uint32_t index_ = 0;
  uint32_t oldest_ = 0;
  uint64_t size_ = 0;
};

}  // namespace tallygate::sidecar
