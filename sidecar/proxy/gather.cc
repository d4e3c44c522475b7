#include "sidecar/proxy/gather.h"

#include <charconv>

namespace tallygate::proxy {

void Gather::end_chunk() {
  const auto part = static_cast<size_t>(chunk_part_);
  const size_t size = payload_ - chunk_payload_;
  if (size == 0) {
    count_ = chunk_part_;
    return;
  }
  char* at = std::to_chars(size_line_.data(), size_line_.data() + 16, size, 16).ptr;
  *at++ = '\r';
  *at++ = '\n';
  parts_[part] = {size_line_.data(), static_cast<size_t>(at - size_line_.data())};
  total_ += parts_[part].iov_len;
  add("\r\n");
}

}  // namespace tallygate::proxy
