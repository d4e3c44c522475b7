#include "sidecar/log/record_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace tallygate::sidecar {
namespace {

std::string errno_text(const std::string& what) {
  char text[128] = {};
  return what + ": " + strerror_r(errno, text, sizeof text);
}

// 0, or the error number of the write that failed.
int write_all(int fd, std::string_view bytes, uint64_t at) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    done += static_cast<size_t>(n);
  }
  return 0;
}

}  // namespace

RecordFiles::~RecordFiles() {
  if (fd_ >= 0) close(fd_);
  for (const auto& [index, fd] : before_) close(fd);
}

std::string RecordFiles::path(uint32_t index) const { return folder_ + "/records-" + std::to_string(index); }

// Under another name until it is whole: a crash or a full disk in between leaves the file before as the last one.
Result<void> RecordFiles::start(uint32_t index, std::string_view bytes) {
  const std::string unfinished = path(index) + ".new";
  const int fd = ::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return fail(Errc::kInternal, errno_text("cannot create " + unfinished));
  const int error = write_all(fd, bytes, 0);
  if (error != 0 || rename(unfinished.c_str(), path(index).c_str()) != 0) {
    if (error != 0) errno = error;
    const std::string why = errno_text("cannot write " + path(index));
    close(fd);
    unlink(unfinished.c_str());
    return fail(Errc::kExhausted, why);
  }
  if (fd_ >= 0) before_.emplace_back(index_, fd_);
  if (before_.size() > kMaxBefore) {
    close(before_.front().second);
    before_.pop_front();
  }
  fd_ = fd;
  index_ = index;
  size_ = bytes.size();
  return {};
}

Result<void> RecordFiles::reopen(uint32_t index, uint64_t size) {
  const int fd = ::open(path(index).c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return fail(Errc::kInternal, errno_text("cannot open " + path(index)));
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) {
    close(fd);
    return fail(Errc::kInternal, errno_text("cannot cut the unsound tail of " + path(index)));
  }
  fd_ = fd;
  index_ = index;
  size_ = size;
  const auto all = list(folder_);
  oldest_ = all.empty() ? index : all.front();
  return {};
}

Result<void> RecordFiles::append(std::string_view bytes) {
  if (const int error = write_all(fd_, bytes, size_); error != 0) {
    errno = error;
    const std::string why = errno_text("cannot write " + path(index_));
    [[maybe_unused]] const int rc = ftruncate(fd_, static_cast<off_t>(size_));
    return fail(Errc::kExhausted, why);
  }
  size_ += bytes.size();
  return {};
}

std::vector<int> RecordFiles::descriptors() const {
  std::vector<int> fds{fd_};
  for (const auto& [index, fd] : before_) fds.push_back(fd);
  return fds;
}

void RecordFiles::remove(uint32_t index) {
  const std::string booked = folder_ + "/booked-" + std::to_string(index);
  if (!keep_ || rename(path(index).c_str(), booked.c_str()) != 0) unlink(path(index).c_str());
  while (!before_.empty() && before_.front().first <= index) {
    close(before_.front().second);
    before_.pop_front();
  }
}

namespace {

std::vector<uint32_t> list_named(const std::string& folder, std::string_view prefix) {
  std::vector<uint32_t> found;
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return found;
  while (const dirent* entry = readdir(dir)) {
    std::string_view name = entry->d_name;
    uint32_t index = 0;
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    if (error == std::errc() && end == name.data() + name.size()) found.push_back(index);
  }
  closedir(dir);
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::vector<uint32_t> RecordFiles::list(const std::string& folder) { return list_named(folder, "records-"); }

std::vector<std::string> RecordFiles::list_with_booked(const std::string& folder) {
  std::vector<std::string> paths;
  for (const char* prefix : {"booked-", "records-"}) {
    for (const uint32_t index : list_named(folder, prefix))
      paths.push_back(folder + "/" + prefix + std::to_string(index));
  }
  return paths;
}

Result<std::string> RecordFiles::read(const std::string& folder, uint32_t index) {
  return read(folder + "/records-" + std::to_string(index));
}

Result<std::string> RecordFiles::read(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return fail(Errc::kInternal, errno_text("cannot open " + path));
  std::string bytes;
  char buffer[65536];
  ssize_t n;
  while ((n = ::read(fd, buffer, sizeof buffer)) > 0) bytes.append(buffer, static_cast<size_t>(n));
  close(fd);
  if (n < 0) return fail(Errc::kInternal, errno_text("cannot read " + path));
  return bytes;
}

}  // namespace tallygate::sidecar
