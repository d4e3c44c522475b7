// The parts of one send. Small messages leave as one contiguous piece: one copy of up to 4 KiB is cheaper than writev.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace tallygate::proxy {

class Gather {
 public:
  static constexpr size_t kSmallBytes = 4096;

  bool empty() const { return total_ == 0; }
  size_t total() const { return total_; }
  size_t payload() const { return payload_; }
  // Room for the parts that one more piece of payload, a chunk's frame and a last chunk take.
  bool has_room() const { return count_ + 5 <= static_cast<int>(parts_.size()); }

  void add(const char* data, size_t size) {
    if (size == 0) return;
    parts_[static_cast<size_t>(count_++)] = {const_cast<char*>(data), size};
    total_ += size;
  }
  void add(std::string_view text) { add(text.data(), text.size()); }
  void add_payload(const char* data, size_t size) {
    add(data, size);
    payload_ += size;
  }
  // The first part, which lives in memory with `room` more bytes behind it that merge() may use.
  void add_head(char* data, size_t size, size_t room) {
    add(data, size);
    head_room_ = room;
  }
  // Opens and closes a chunk around the payload added in between; a chunk without payload vanishes.
  void begin_chunk() {
    chunk_part_ = count_++;
    chunk_payload_ = payload_;
  }
  void end_chunk();
  // If everything is small and the first part has the room, makes one part of all.
  void merge();

  void clear() {
    count_ = 0;
    chunk_part_ = -1;
    total_ = payload_ = chunk_payload_ = head_room_ = 0;
  }

  iovec* parts() { return parts_.data(); }
  int count() const { return count_; }

 private:
  std::array<iovec, 40> parts_;
  int count_ = 0;
  int chunk_part_ = -1;
  size_t total_ = 0, payload_ = 0, chunk_payload_ = 0, head_room_ = 0;
  std::array<char, 20> size_line_;
};

inline void Gather::merge() {
  if (count_ < 2 || total_ > kSmallBytes || total_ - parts_[0].iov_len > head_room_) return;
  char* at = static_cast<char*>(parts_[0].iov_base) + parts_[0].iov_len;
  for (int i = 1; i < count_; ++i) {
    const iovec& part = parts_[static_cast<size_t>(i)];
    std::memcpy(at, part.iov_base, part.iov_len);
    at += part.iov_len;
  }
  parts_[0].iov_len = total_;
  count_ = 1;
}

}  // namespace tallygate::proxy
