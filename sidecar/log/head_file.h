// The mapped first page of an incarnation's folder: whose folder it is, and how far its log counts.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "sidecar/log/file_identity.h"

namespace tallygate::sidecar {

// In the file.
struct Head {
  // Written once.
  uint64_t magic;
  char boot_id[64];
  char incarnation[96];
  FileIdentity folder, file;
  uint32_t sum;  // CRC-32 of what is above but for the magic

  // What a successor must find, or it was lost: the oldest records file, and how many segments. Neither is moved before
  // it is so on the disk's side that matters: a file is forgotten here before it is deleted, a segment is known here
  // before its first slot is taken.
  uint32_t oldest_file;
  uint32_t segments;
  uint32_t unused;

  // One 8-byte store commits a batch and all that stands with it: two bits for finished (recovered or drained; no slot
  // is unbooked any more) and torn, 30 that contradict any other value of a changed byte, 32 for the last committed
  // batch.
  uint64_t committed;
  // How far the records files are sound: file << 40 | bytes. What is missing below was lost by the disk, not by a
  // crash.
  uint64_t end;
};

class HeadFile {
 public:
  HeadFile() = default;
  ~HeadFile();
  HeadFile(const HeadFile&) = delete;

  // `batch` is the first committed one. The magic is written last: without it nothing was ever admitted.
  Result<void> create(const std::string& folder, const std::string& boot_id, const std::string& incarnation,
                      uint32_t batch, uint64_t end);
  // kNotFound: there is none, or it was never finished.
  Result<void> open(const std::string& folder);
  // Of an open one: kInvalid, with the reason, where a byte was changed, or where it was made for another folder (a
  // copy, one that was put back, one with another name).
  Result<void> check(const std::string& folder) const;
  // Whether it was made in another folder, whose process may live.
  bool is_copy(const std::string& folder) const;
  // Whether boot_id() and incarnation() are what was written.
  bool names_sound() const;

  std::string boot_id() const;
  std::string incarnation() const;
  uint32_t batch() const;
  bool finished() const;
  bool torn() const;
  void commit(uint32_t batch);
  void finish(uint32_t batch, bool torn);

  static uint64_t pack_end(uint32_t file, uint64_t bytes) { return uint64_t{file} << 40 | bytes; }
  void set_end(uint64_t end);
  uint64_t end() const;
  void set_oldest_file(uint32_t index);
  uint32_t oldest_file() const;
  void set_segments(uint32_t count);
  uint32_t segments() const;
  int descriptor() const { return fd_; }

 private:
  Result<void> map(const std::string& path);
  uint64_t load() const;
  int fd_ = -1;
  Head* head_ = nullptr;
};

}  // namespace tallygate::sidecar
