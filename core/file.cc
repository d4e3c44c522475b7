#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tallygate {

Result<std::string> read_file(const std::string& path, size_t bytes_max) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(Errc::kNotFound, path + ": cannot be read: " + std::strerror(errno));
  std::string text;
  Result<std::string> result = fail(Errc::kInvalid, path + " is no file");
  struct stat info {};
  if (::fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode)) {
    char piece[16 * 1024];
    ssize_t got = 0;
    while ((got = ::read(fd, piece, sizeof piece)) != 0 && text.size() <= bytes_max) {
      if (got > 0) text.append(piece, static_cast<size_t>(got));
      else if (errno != EINTR) break;
    }
    if (got < 0) {
      result = fail(Errc::kUnavailable, path + " cannot be read: " + std::strerror(errno));
    } else if (text.size() > bytes_max) {
      result = fail(Errc::kInvalid, path + " is larger than " + std::to_string(bytes_max) + " bytes");
    } else {
      result = std::move(text);
    }
  }
  ::close(fd);
  return result;
}

}  // namespace tallygate
