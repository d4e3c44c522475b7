#include "sidecar/log/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace tallygate::sidecar {
namespace {

constexpr size_t kSegmentBytes = 1 << 20;
constexpr size_t kHeaderBytes = 64;
constexpr uint64_t kMagic = 0x3147455354554754;  // "TGUTSEG1", little endian
constexpr uint32_t kSlotBytes[] = {32, 96};
constexpr size_t kSlotHead = offsetof(Slot, units);

struct SegmentHeader {
  uint64_t magic;
  uint32_t slot_bytes;
};

std::string errno_text(const std::string& what) {
  char text[128] = {};
  return what + ": " + strerror_r(errno, text, sizeof text);
}

uint32_t slots_in(uint32_t slot_bytes) { return static_cast<uint32_t>((kSegmentBytes - kHeaderBytes) / slot_bytes); }

}  // namespace

Segments::Segments(std::string folder, size_t max_segments) : folder_(std::move(folder)), max_segments_(max_segments) {
  segments_.reserve(max_segments_);
}

Segments::~Segments() {
  for (auto& s : segments_) {
    munmap(s.base, kSegmentBytes);
    close(s.fd);
  }
}

Segments::Segment* Segments::make(uint32_t slot_bytes) {
  if (segments_.size() >= max_segments_) {
    last_error_ = "all " + std::to_string(max_segments_) + " segments hold requests in flight or unbooked";
    return nullptr;
  }
  const std::string path = folder_ + "/segment-" + std::to_string(segments_.size());
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    last_error_ = errno_text("cannot create " + path);
    return nullptr;
  }
  const int rc = posix_fallocate(fd, 0, kSegmentBytes);
  void* base = MAP_FAILED;
  if (rc == 0) base = mmap(nullptr, kSegmentBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (rc != 0 || base == MAP_FAILED) {
    if (rc != 0) errno = rc;
    last_error_ = errno_text("cannot allocate " + path);
    close(fd);
    unlink(path.c_str());
    return nullptr;
  }
  const SegmentHeader header{kMagic, slot_bytes};
  std::memcpy(base, &header, sizeof header);
  segments_.push_back({static_cast<char*>(base), fd, slot_bytes, 0, 0, 0});
  return &segments_.back();
}

Segments::Segment* Segments::refill(size_t size_class, uint32_t committed_batch) {
  for (auto& s : segments_) {
    const bool active = &s == current_[0] || &s == current_[1];
    if (s.slot_bytes == kSlotBytes[size_class] && s.in_flight == 0 && s.last_batch <= committed_batch &&
        (!active || &s == current_[size_class])) {
      s.next = 0;
      return current_[size_class] = &s;
    }
  }
  Segment* fresh = make(kSlotBytes[size_class]);
  if (fresh != nullptr) current_[size_class] = fresh;
  return fresh;
}

Slot* Segments::take(size_t charges, uint32_t committed_batch) {
  const size_t size_class = charges <= 2 ? 0 : 1;
  Segment* s = current_[size_class];
  if (s == nullptr || s->next == slots_in(s->slot_bytes)) {
    s = refill(size_class, committed_batch);
    if (s == nullptr) return nullptr;
  }
  auto* slot = reinterpret_cast<Slot*>(s->base + kHeaderBytes + size_t{s->next} * s->slot_bytes);
  ++s->next;
  ++s->in_flight;
  ++in_flight_;
  slot->segment = static_cast<uint32_t>(s - segments_.data());
  return slot;
}

void Segments::settled(const Slot* slot, uint32_t batch) {
  Segment& s = segments_[slot->segment];
  TG_ASSERT(s.in_flight > 0);
  --s.in_flight;
  --in_flight_;
  s.last_batch = batch;
}

std::vector<int> Segments::descriptors() const {
  std::vector<int> fds;
  for (const auto& s : segments_) fds.push_back(s.fd);
  return fds;
}

Result<void> Segments::scan(const std::string& folder, const std::function<void(const Slot&, size_t)>& fn) {
  for (size_t index = 0;; ++index) {
    const std::string path = folder + "/segment-" + std::to_string(index);
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return {};
    if (fd < 0) return fail(Errc::kInternal, errno_text("cannot open " + path));
    std::string bytes(kSegmentBytes, '\0');
    const ssize_t n = pread(fd, bytes.data(), bytes.size(), 0);
    close(fd);
    SegmentHeader header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    // A file that died before its header was written has no slot in it.
    if (n != static_cast<ssize_t>(kSegmentBytes) || header.magic != kMagic) continue;
    if (header.slot_bytes != kSlotBytes[0] && header.slot_bytes != kSlotBytes[1]) continue;
    const size_t max_charges = (header.slot_bytes - kSlotHead) / sizeof(int64_t);
    for (uint32_t i = 0; i < slots_in(header.slot_bytes); ++i) {
      const auto* slot = reinterpret_cast<const Slot*>(bytes.data() + kHeaderBytes + size_t{i} * header.slot_bytes);
      if (slot->mark != 0) fn(*slot, max_charges);
    }
  }
}

}  // namespace tallygate::sidecar
