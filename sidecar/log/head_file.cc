#include "sidecar/log/head_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace tallygate::sidecar {
namespace {

constexpr uint64_t kMagic = 0x3330474f4c554754;  // "TGULOG03", little endian
constexpr uint64_t kFinished = uint64_t{1} << 63;
constexpr uint64_t kTorn = uint64_t{1} << 62;
constexpr uint32_t kBatchMax = (uint32_t{1} << 30) - 1;  // one a second: 34 years

std::string errno_text(const std::string& what) {
  char text[128] = {};
  return what + ": " + strerror_r(errno, text, sizeof text);
}

void copy_text(char* to, size_t room, const std::string& text) {
  std::memcpy(to, text.data(), std::min(room - 1, text.size()));
}

template <size_t N>
std::string text_of(const char (&field)[N]) {
  return {field, strnlen(field, N)};
}

uint32_t sum_of(const Head& head) {
  constexpr size_t kFrom = offsetof(Head, boot_id);
  const auto* bytes = reinterpret_cast<const Bytef*>(&head) + kFrom;
  return static_cast<uint32_t>(crc32(0, bytes, static_cast<uInt>(offsetof(Head, sum) - kFrom)));
}

// The batch and its complement, which the flags mix up: no byte can be changed alone.
uint64_t committed_word(uint32_t batch, uint64_t flags) {
  TG_ASSERT(batch <= kBatchMax);
  const uint64_t guard = (~batch ^ (flags >> 62) * 0x15555555) & kBatchMax;
  return flags | guard << 32 | batch;
}

bool committed_sound(uint64_t word) {
  const auto batch = static_cast<uint32_t>(word);
  return batch <= kBatchMax && word == committed_word(batch, word & (kFinished | kTorn));
}

template <class T>
T get(const T& field) {
  return __atomic_load_n(&field, __ATOMIC_ACQUIRE);
}
template <class T>
void set(T& field, T value) {
  __atomic_store_n(&field, value, __ATOMIC_RELEASE);
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
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd_ < 0) return fail(Errc::kInternal, errno_text("cannot create " + path));
  if (const int rc = allocate_file(fd_, sizeof(Head)); rc != 0) {
    errno = rc;
    return fail(Errc::kInternal, errno_text("cannot allocate " + path));
  }
  auto mapped = map(path);
  if (!mapped) return mapped;
  const auto where = FileIdentity::of(folder);
  const auto file = FileIdentity::of(fd_);
  if (!where || !file) return fail(Errc::kInternal, "cannot identify " + path);
  copy_text(head_->boot_id, sizeof head_->boot_id, boot_id);
  copy_text(head_->incarnation, sizeof head_->incarnation, incarnation);
  head_->folder = *where;
  head_->file = *file;
  head_->sum = sum_of(*head_);
  head_->end = end;
  head_->committed = committed_word(batch, 0);
  set(head_->magic, kMagic);
  return {};
}

Result<void> HeadFile::open(const std::string& folder) {
  const std::string path = folder + "/head";
  fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd_ < 0 && errno == ENOENT) return fail(Errc::kNotFound, path + " does not exist");
  if (fd_ < 0) return fail(Errc::kInternal, errno_text("cannot open " + path));
  struct stat info {};
  if (fstat(fd_, &info) != 0 || info.st_size < static_cast<off_t>(sizeof(Head))) {
    return fail(Errc::kNotFound, path + " is too short");
  }
  if (auto mapped = map(path); !mapped) return mapped;
  if (head_->magic == 0) return fail(Errc::kNotFound, path + " was never finished");
  return {};
}

bool HeadFile::names_sound() const { return head_->magic == kMagic && head_->sum == sum_of(*head_); }

bool HeadFile::is_copy(const std::string& folder) const {
  const auto where = FileIdentity::of(folder);
  return names_sound() && where && *where != head_->folder;
}

Result<void> HeadFile::check(const std::string& folder) const {
  const std::string path = folder + "/head";
  const auto wrong = [&path](const char* what) { return fail(Errc::kInvalid, path + " " + what); };
  if (head_->magic != kMagic) return wrong("is of another version, or damaged");
  if (!names_sound() || !committed_sound(load())) return wrong("is damaged");
  if (!folder.ends_with("/inc-" + incarnation())) return wrong("belongs to a folder with another name");
  const auto where = FileIdentity::of(folder);
  const auto file = FileIdentity::of(fd_);
  if (!where || !file || *where != head_->folder || *file != head_->file) {
    return wrong("is a copy: it was made in another folder, or on another disk");
  }
  return {};
}

std::string HeadFile::boot_id() const { return text_of(head_->boot_id); }
std::string HeadFile::incarnation() const { return text_of(head_->incarnation); }

uint64_t HeadFile::load() const { return get(head_->committed); }
uint32_t HeadFile::batch() const { return static_cast<uint32_t>(load()) & kBatchMax; }
bool HeadFile::finished() const { return (load() & kFinished) != 0; }
bool HeadFile::torn() const { return (load() & kTorn) != 0; }
void HeadFile::commit(uint32_t batch) { set(head_->committed, committed_word(batch, 0)); }
void HeadFile::finish(uint32_t batch, bool torn) {
  set(head_->committed, committed_word(batch, kFinished | (torn ? kTorn : 0)));
}

void HeadFile::set_end(uint64_t end) { set(head_->end, end); }
uint64_t HeadFile::end() const { return get(head_->end); }
void HeadFile::set_oldest_file(uint32_t index) { set(head_->oldest_file, index); }
uint32_t HeadFile::oldest_file() const { return get(head_->oldest_file); }
void HeadFile::set_segments(uint32_t count) { set(head_->segments, count); }
uint32_t HeadFile::segments() const { return get(head_->segments); }

}  // namespace tallygate::sidecar
