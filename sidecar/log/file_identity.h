// Which file or folder it is, whatever its name: what a copy, or one that was put back from elsewhere, does not share.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/result.h"

namespace tallygate::sidecar {

// A rename and a bind mount change nothing of it. Inode numbers are used again: hence the birth.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t born_ns = 0;  // Unix time; 0 where the file system does not know
  bool operator==(const FileIdentity&) const = default;

  static Result<FileIdentity> of(int fd);
  static Result<FileIdentity> of(const std::string& path);
};

// Whether `path` still leads to the folder that is open as `folder_fd`, and each of `fds` still has a name. kConflict:
// what stands there now is not what a successor would have to find.
Result<void> still_there(const std::string& path, int folder_fd, std::span<const int> fds);

// posix_fallocate(3), again where a signal interrupts it. 0, or an error number.
int allocate_file(int fd, size_t bytes);
// Whether the disk below `folder` has `bytes` free; with `try_it` also by taking them for a moment, since quotas and
// broken disks do not show otherwise. kExhausted where not.
Result<void> has_room(const std::string& folder, size_t bytes, bool try_it);

}  // namespace tallygate::sidecar
