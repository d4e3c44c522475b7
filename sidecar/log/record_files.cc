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

void copy_text(char* to, size_t room, const std::string& text) {
  std::memcpy(to, text.data(), std::min(room - 1, text.size()));
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

HeadFile::~HeadFile() {
  if (head_ != nullptr) munmap(head_, sizeof(Head));
  if (fd_ >= 0) close(fd_);
}

Result<void> HeadFile::map(const std::string& path) {
  void* at = mmap(nullptr, sizeof(Head), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (at == MAP_FAILED) return fail(Errc::kInternal, errno_text("cannot map " + path));
  head_ = static_cast<Head*>(at);
  return {};
}

Result<void> HeadFile::create(const std::string& folder, const std::string& boot_id, const std::string& incarnation,
                              uint32_t batch, uint64_t end) {
  const std::string path = folder + "/head";
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd_ < 0) return fail(Errc::kInternal, errno_text("cannot create " + path));
  if (const int rc = allocate_file(fd_, sizeof(Head)); rc != 0) {
    errno = rc;
    return fail(Errc::kInternal, errno_text("cannot allocate " + path));
  }
  auto mapped = map(path);
  if (!mapped) return mapped;
  copy_text(head_->boot_id, sizeof head_->boot_id, boot_id);
  copy_text(head_->incarnation, sizeof head_->incarnation, incarnation);
  head_->end = end;
  head_->committed = batch;
  __atomic_store_n(&head_->magic, kMagic, __ATOMIC_RELEASE);
  return {};
}

Result<void> HeadFile::open(const std::string& folder) {
  const std::string path = folder + "/head";
  fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd_ < 0 && errno == ENOENT) return fail(Errc::kNotFound, path + " does not exist");
  if (fd_ < 0) return fail(Errc::kInternal, errno_text("cannot open " + path));
  struct stat info{};
  if (fstat(fd_, &info) != 0 || info.st_size < static_cast<off_t>(sizeof(Head))) {
    return fail(Errc::kNotFound, path + " was never finished");
  }
  auto mapped = map(path);
  if (!mapped) return mapped;
  if (head_->magic != kMagic) return fail(Errc::kNotFound, path + " was never finished");
  head_->boot_id[sizeof head_->boot_id - 1] = 0;
  head_->incarnation[sizeof head_->incarnation - 1] = 0;
  return {};
}

uint64_t HeadFile::load() const { return __atomic_load_n(&head_->committed, __ATOMIC_ACQUIRE); }
uint32_t HeadFile::batch() const { return static_cast<uint32_t>(load()); }
void HeadFile::commit(uint32_t batch) { __atomic_store_n(&head_->committed, uint64_t{batch}, __ATOMIC_RELEASE); }
void HeadFile::finish(uint32_t batch, bool torn) {
  __atomic_store_n(&head_->committed, batch | Head::kFinished | (torn ? Head::kTorn : 0), __ATOMIC_RELEASE);
}
void HeadFile::set_end(uint64_t end) { __atomic_store_n(&head_->end, end, __ATOMIC_RELEASE); }
uint64_t HeadFile::end() const { return __atomic_load_n(&head_->end, __ATOMIC_ACQUIRE); }

int allocate_file(int fd, size_t bytes) {
  int rc;
  while ((rc = posix_fallocate(fd, 0, static_cast<off_t>(bytes))) == EINTR) {
  }
  return rc;
}

RecordFiles::~RecordFiles() {
  if (fd_ >= 0) close(fd_);
  for (const auto& [index, fd] : before_) close(fd);
}

std::string RecordFiles::path(uint32_t index) const { return folder_ + "/records-" + std::to_string(index); }

// Under another name until it is whole: a crash or a full disk in between leaves the file before as the last one.
Result<void> RecordFiles::start(uint32_t index, std::string_view bytes) {
  const std::string unfinished = path(index) + ".new";
  const int fd = ::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
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
  const int fd = ::open(path(index).c_str(), O_WRONLY | O_CLOEXEC);
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
  unlink(path(index).c_str());
  while (!before_.empty() && before_.front().first <= index) {
    close(before_.front().second);
    before_.pop_front();
  }
}

std::vector<uint32_t> RecordFiles::list(const std::string& folder) {
  std::vector<uint32_t> found;
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return found;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    uint32_t index = 0;
    if (!name.starts_with("records-")) continue;
    const auto [end, error] = std::from_chars(name.data() + 8, name.data() + name.size(), index);
    if (error == std::errc() && end == name.data() + name.size()) found.push_back(index);
  }
  closedir(dir);
  std::sort(found.begin(), found.end());
  return found;
}

Result<std::string> RecordFiles::read(const std::string& folder, uint32_t index) {
  const std::string path = folder + "/records-" + std::to_string(index);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
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
