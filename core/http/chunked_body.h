// Decodes a chunked request body, by Beast's parser behind a head of our own making. Trailers are read and dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace tallygate::http {

class ChunkedBody {
 public:
  explicit ChunkedBody(uint64_t size_max);
  ~ChunkedBody();

  enum class State : uint8_t { kMore, kDone, kTooLarge, kMalformed };
  // Takes what it can of `data` and sets `used`; the rest must come again, with more behind it.
  State feed(std::string_view data, size_t& used);
  std::string take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::http
