#include "sidecar/log/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <charconv>
#include <cstddef>
#include <cstring>

#include "sidecar/log/file_identity.h"

namespace tallygate::sidecar {
namespace {

constexpr size_t kHeaderBytes = 64;
constexpr uint64_t kMagic = 0x3247455354554754;  // "TGUTSEG2", little endian
constexpr uint32_t kSlotBytes[] = {32, 96};
constexpr size_t kSlotHead = offsetof(Slot, units);

struct SegmentHeader {
  uint64_t magic;
  uint32_t slot_bytes;
  uint32_t index;
  FileIdentity file;
  uint64_t sum;  // CRC-32 of what is above
};
static_assert(sizeof(SegmentHeader) <= kHeaderBytes);

uint64_t sum_of(const SegmentHeader& header) {
  return crc32(0, reinterpret_cast<const Bytef*>(&header), offsetof(SegmentHeader, sum));
}

std::string errno_text(const std::string& what) {
  char text[128] = {};
  return what + ": " + strerror_r(errno, text, sizeof text);
}

uint32_t slots_in(uint32_t slot_bytes) { return static_cast<uint32_t>((kSegmentBytes - kHeaderBytes) / slot_bytes); }

}  // namespace

Segments::Segments(std::string folder, size_t max_segments, HeadFile& head)
    : folder_(std::move(folder)), max_segments_(max_segments), head_(head) {
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
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    last_error_ = errno_text("cannot create " + path);
    return nullptr;
  }
  const int rc = allocate_file(fd, kSegmentBytes);
  void* base = MAP_FAILED;
  if (rc == 0) base = mmap(nullptr, kSegmentBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (rc != 0 || base == MAP_FAILED) {
    if (rc != 0) errno = rc;
    last_error_ = errno_text("cannot allocate " + path);
    close(fd);
    unlink(path.c_str());
    return nullptr;
  }
  const auto index = static_cast<uint32_t>(segments_.size());
  SegmentHeader header{kMagic, slot_bytes, index, FileIdentity::of(fd).value_or(FileIdentity{}), 0};
  header.sum = sum_of(header);
  std::memcpy(base, &header, sizeof header);
  segments_.push_back({static_cast<char*>(base), fd, slot_bytes, 0, 0, 0});
  head_.set_segments(index + 1);
  return &segments_.back();
}

// The least occupied one, where half of it is free; else a new one; else whatever has room.
Segments::Segment* Segments::refill(size_t size_class, uint32_t committed_batch) {
  const uint32_t slots = slots_in(kSlotBytes[size_class]);
  Segment* best = nullptr;
  for (auto& s : segments_) {
    if (s.slot_bytes != kSlotBytes[size_class] || s.last_batch > committed_batch) continue;
    if (best == nullptr || s.in_flight < best->in_flight) best = &s;
    if (best->in_flight == 0) break;
  }
  if (best == nullptr || best->in_flight > slots / 2) {
    if (Segment* fresh = make(kSlotBytes[size_class])) return current_[size_class] = fresh;
  }
  if (best == nullptr || best->in_flight == slots) return nullptr;
  best->next = 0;
  return current_[size_class] = best;
}

Slot* Segments::take(size_t charges, uint32_t committed_batch) {
  const size_t size_class = charges <= 2 ? 0 : 1;
  Segment* s = current_[size_class];
  Slot* slot = nullptr;
  while (true) {
    if (s == nullptr || s->next == slots_in(s->slot_bytes)) [[unlikely]] {
      s = refill(size_class, committed_batch);
      if (s == nullptr) return nullptr;
    }
    slot = reinterpret_cast<Slot*>(s->base + kHeaderBytes + size_t{s->next} * s->slot_bytes);
    ++s->next;
    // In a segment's later rounds: still in flight from an earlier one, or settled since and not booked.
    if (slot->mark != kMarkInFlight && slot->mark <= committed_batch) [[likely]]
      break;
  }
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

void Segments::each_in_flight(const std::function<void(const Slot&)>& fn) const {
  for (const auto& s : segments_) {
    for (uint32_t i = 0; s.in_flight > 0 && i < slots_in(s.slot_bytes); ++i) {
      const auto* slot = reinterpret_cast<const Slot*>(s.base + kHeaderBytes + size_t{i} * s.slot_bytes);
      if (slot->mark == kMarkInFlight) fn(*slot);
    }
  }
}

std::vector<int> Segments::descriptors() const {
  std::vector<int> fds;
  for (const auto& s : segments_) fds.push_back(s.fd);
  return fds;
}

namespace {

// How many segment files there are; -1 where the numbers have a gap.
int64_t count_segments(const std::string& folder) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return 0;
  int64_t files = 0, last = -1;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    uint32_t index = 0;
    if (!name.starts_with("segment-")) continue;
    const auto [end, error] = std::from_chars(name.data() + 8, name.data() + name.size(), index);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    ++files;
    last = std::max<int64_t>(last, index);
  }
  closedir(dir);
  return last + 1 == files ? files : -1;
}

// Where `bytes` are a segment's: its header, and that it is the file that was made as the `index`-th.
bool read_header(const std::string& path, const std::string& bytes, uint32_t index, SegmentHeader* header) {
  if (bytes.size() != kSegmentBytes) return false;
  std::memcpy(header, bytes.data(), sizeof *header);
  const auto file = FileIdentity::of(path);
  return header->magic == kMagic && header->sum == sum_of(*header) && header->index == index && file &&
         header->file == *file && (header->slot_bytes == kSlotBytes[0] || header->slot_bytes == kSlotBytes[1]);
}

Result<std::string> read_segment(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return fail(Errc::kInternal, errno_text("cannot open " + path));
  std::string bytes(kSegmentBytes, '\0');
  size_t done = 0;
  ssize_t n = 0;
  while (done < bytes.size() &&
         (n = pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done))) != 0) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    done += static_cast<size_t>(n);
  }
  const std::string why = n < 0 ? errno_text("cannot read " + path) : "";
  close(fd);
  if (!why.empty()) return fail(Errc::kInternal, why);
  bytes.resize(done);
  return bytes;
}

}  // namespace

bool Segments::exist(const std::string& folder) { return count_segments(folder) != 0; }

Result<void> Segments::scan(const std::string& folder, uint32_t known,
                            const std::function<void(const Slot&, size_t)>& fn) {
  const int64_t count = count_segments(folder);
  if (count < known) return fail(Errc::kInvalid, "a segment file is missing in " + folder);
  for (uint32_t index = 0; index < count; ++index) {
    const std::string path = folder + "/segment-" + std::to_string(index);
    auto bytes = read_segment(path);
    if (!bytes) return tl::unexpected(bytes.error());
    SegmentHeader header{};
    if (!read_header(path, *bytes, index, &header)) {
      // The last one may have died before the head knew of it: no slot of it was taken.
      if (index >= known && index + 1 == count) return {};
      return fail(Errc::kInvalid, path + " is not the segment that was made");
    }
    const size_t max_charges = (header.slot_bytes - kSlotHead) / sizeof(int64_t);
    for (uint32_t i = 0; i < slots_in(header.slot_bytes); ++i) {
      const auto* slot = reinterpret_cast<const Slot*>(bytes->data() + kHeaderBytes + size_t{i} * header.slot_bytes);
      if (slot->mark != 0) fn(*slot, max_charges);
    }
  }
  return {};
}

}  // namespace tallygate::sidecar
