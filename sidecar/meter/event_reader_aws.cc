// application/vnd.amazon.eventstream: binary messages. Each is a prelude (lengths of the whole and of the headers, and
// a CRC-32 of both), headers, a payload, and a CRC-32 of all before it; numbers are big-endian.
#include <zlib.h>

#include <algorithm>

#include "sidecar/meter/event_reader.h"

namespace tallygate::meter {
namespace {

using Kind = EventReader::Step::Kind;

constexpr uint32_t kPreludeBytes = 12, kChecksumBytes = 4;

uint32_t number(std::string_view bytes, size_t at, size_t size) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

uint32_t crc(uint32_t before, std::string_view bytes) {
  return static_cast<uint32_t>(
      ::crc32(before, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

// A header's type → the bytes of its value; -1: two bytes before it say so; -2: there is no such type.
int value_bytes(uint32_t type) {
  constexpr int kBytes[] = {0, 0, 1, 2, 4, 8, -1, -1, 8, 16};
  return type < std::size(kBytes) ? kBytes[type] : -2;
}

constexpr uint32_t kTypeString = 7;

}  // namespace

// Until `bytes` are there.
bool EventReader::gather(std::string_view& rest, size_t bytes) {
  const size_t take = std::min(rest.size(), bytes - gathered_.size());
  gathered_.append(rest.substr(0, take));
  rest.remove_prefix(take);
  return gathered_.size() == bytes;
}

bool EventReader::read_prelude() {
  const uint32_t whole = number(gathered_, 0, 4), headers = number(gathered_, 4, 4);
  if (crc(0, std::string_view(gathered_).substr(0, 8)) != number(gathered_, 8, 4)) return false;
  if (whole > kAwsMessageBytesMax || whole < kPreludeBytes + kChecksumBytes) return false;
  if (headers > whole - kPreludeBytes - kChecksumBytes) return false;
  crc_ = crc(0, gathered_);
  headers_left_ = headers;
  payload_left_ = whole - kPreludeBytes - kChecksumBytes - headers;
  gathered_.clear();
  type_size_ = 0;
  is_error_ = false;
  in_event_ = true;
  aws_ = Aws::kHeaders;
  return true;
}

bool EventReader::read_headers() {
  std::string_view rest = gathered_;
  const auto take = [&rest](size_t size) {
    const std::string_view taken = rest.substr(0, size);
    rest.remove_prefix(size);
    return taken;
  };
  while (!rest.empty()) {
    const size_t name_size = number(take(1), 0, 1);
    if (rest.size() < name_size + 1) return false;
    const std::string_view name = take(name_size);
    const uint32_t type = number(take(1), 0, 1);
    const int fixed = value_bytes(type);
    if (fixed == -2 || (fixed == -1 && rest.size() < 2)) return false;
    const size_t size = fixed >= 0 ? static_cast<size_t>(fixed) : number(take(2), 0, 2);
    if (rest.size() < size) return false;
    const std::string_view value = take(size);
    if (type != kTypeString) continue;
    if (name == ":message-type") is_error_ = value != "event";
    if (name == ":event-type" || name == ":exception-type") {
      type_size_ = 0;
      set_type(value);
    }
  }
  return true;
}

EventReader::Step EventReader::next_aws(std::string_view& rest) {
  while (!rest.empty() || (aws_ == Aws::kHeaders && headers_left_ == 0)) {
    switch (aws_) {
      case Aws::kPrelude:
        if (gather(rest, kPreludeBytes) && !read_prelude()) return broken();
        break;
      case Aws::kHeaders: {
        const std::string_view piece = rest.substr(0, headers_left_);
        rest.remove_prefix(piece.size());
        crc_ = crc(crc_, piece);
        headers_left_ -= static_cast<uint32_t>(piece.size());
        // Too many to keep: what comes is marked by a size that no full set has.
        gathered_.append(piece.substr(0, kAwsHeaderBytesMax + 1 - std::min(gathered_.size(), kAwsHeaderBytesMax + 1)));
        if (headers_left_ != 0) break;
        if (gathered_.size() <= kAwsHeaderBytesMax && !read_headers()) return broken();
        gathered_.clear();
        aws_ = payload_left_ == 0 ? Aws::kChecksum : Aws::kPayload;
        break;
      }
      case Aws::kPayload: {
        const std::string_view piece = rest.substr(0, payload_left_);
        rest.remove_prefix(piece.size());
        crc_ = crc(crc_, piece);
        payload_left_ -= static_cast<uint32_t>(piece.size());
        if (payload_left_ == 0) aws_ = Aws::kChecksum;
        return {Kind::kData, piece};
      }
      case Aws::kChecksum:
        if (!gather(rest, kChecksumBytes)) break;
        if (number(gathered_, 0, 4) != crc_) return broken();
        gathered_.clear();
        aws_ = Aws::kPrelude;
        return ended();
    }
  }
  return {};
}

}  // namespace tallygate::meter
