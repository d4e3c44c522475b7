// Bytes that could not be processed or sent yet. Empty, it holds no memory: connections are empty most of the time.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>

namespace tallygate::proxy {

class ByteQueue {
 public:
  bool empty() const { return begin_ == end_; }
  size_t size() const { return end_ - begin_; }
  const char* data() const { return bytes_.get() + begin_; }

  void append(const char* data, size_t size) {
    if (size == 0) return;
    if (capacity_ - end_ < size) make_room(size);
    std::memcpy(bytes_.get() + end_, data, size);
    end_ += size;
  }
  void consume(size_t size) {
    begin_ += size;
    if (begin_ == end_) clear();
  }
  void clear() {
    bytes_.reset();
    begin_ = end_ = capacity_ = 0;
  }

 private:
  void make_room(size_t more) {
    const size_t used = size();
    if (begin_ >= used && capacity_ - used >= more) {  // moves at most as many bytes as were consumed since the last
      std::memmove(bytes_.get(), bytes_.get() + begin_, used);
    } else {
      size_t capacity = capacity_ < 2048 ? 2048 : capacity_;
      while (capacity < used + more) capacity *= 2;
      std::unique_ptr<char[]> bytes(new char[capacity]);
      if (used > 0) std::memcpy(bytes.get(), bytes_.get() + begin_, used);
      bytes_ = std::move(bytes);
      capacity_ = capacity;
    }
    begin_ = 0;
    end_ = used;
  }
  std::unique_ptr<char[]> bytes_;
  size_t begin_ = 0, end_ = 0, capacity_ = 0;
};

}  // namespace tallygate::proxy
