#include "sidecar/log/file_identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>

namespace tallygate::sidecar {
namespace {

Result<FileIdentity> identify(int fd, const char* path, int flags) {
  struct statx info {};
  if (statx(fd, path, flags, STATX_INO | STATX_BTIME, &info) != 0) {
    return fail(errno == ENOENT ? Errc::kNotFound : Errc::kInternal, std::strerror(errno));
  }
  FileIdentity identity;
  identity.device = makedev(info.stx_dev_major, info.stx_dev_minor);
  identity.inode = info.stx_ino;
  if ((info.stx_mask & STATX_BTIME) != 0) {
    identity.born_ns = info.stx_btime.tv_sec * 1'000'000'000 + info.stx_btime.tv_nsec;
  }
  return identity;
}

}  // namespace

Result<FileIdentity> FileIdentity::of(int fd) { return identify(fd, "", AT_EMPTY_PATH); }
Result<FileIdentity> FileIdentity::of(const std::string& path) { return identify(AT_FDCWD, path.c_str(), 0); }

Result<void> still_there(const std::string& path, int folder_fd, std::span<const int> fds) {
  const auto ours = FileIdentity::of(folder_fd);
  const auto there = FileIdentity::of(path);
  if (!there) return fail(Errc::kConflict, "the folder " + path + " is gone: " + there.error().message);
  if (!ours || *ours != *there) return fail(Errc::kConflict, "another folder stands in the place of " + path);
  for (const int fd : fds) {
    struct stat info {};
    if (fd >= 0 && fstat(fd, &info) == 0 && info.st_nlink == 0) {
      return fail(Errc::kConflict, "files of this process were deleted in " + path);
    }
  }
  return {};
}

int allocate_file(int fd, size_t bytes) {
  int rc;
  while ((rc = posix_fallocate(fd, 0, static_cast<off_t>(bytes))) == EINTR) {
  }
  return rc;
}

Result<void> has_room(const std::string& folder, size_t bytes, bool try_it) {
  const auto full = [&folder](int error) {
    return fail(Errc::kExhausted, "no room is left in " + folder + ": " + std::strerror(error));
  };
  struct statvfs info {};
  if (statvfs(folder.c_str(), &info) == 0 && info.f_blocks > 0 && info.f_bavail * info.f_frsize < bytes) {
    return full(ENOSPC);
  }
  if (!try_it) return {};
  const std::string path = folder + "/probe";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return full(errno);
  const int rc = allocate_file(fd, bytes);
  close(fd);
  unlink(path.c_str());
  return rc == 0 ? Result<void>{} : full(rc);
}

}  // namespace tallygate::sidecar
