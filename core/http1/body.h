// Where a message's body ends, and which of the bytes on the wire are payload (RFC 9112 6 and 7).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/http1/limits.h"
#include "core/http1/parse_error.h"

namespace tallygate::http1 {

class BodyReader {
 public:
  enum class Kind : uint8_t { kNone, kLength, kChunked, kUntilClose };

  void start_none() { reset(Kind::kNone, true); }
  void start_length(uint64_t bytes) {
    reset(Kind::kLength, bytes == 0);
    left_ = bytes;
  }
  void start_chunked() { reset(Kind::kChunked, false); }
  void start_until_close() { reset(Kind::kUntilClose, false); }

  Kind kind() const { return kind_; }
  bool done() const { return done_; }
  // kLength: what is still to come.
  uint64_t left() const { return left_; }
  // The peer closed its side: the end of a kUntilClose body.
  void end_by_close() { done_ = kind_ == Kind::kUntilClose || done_; }

  struct Step {
    size_t consumed = 0;  // wire bytes used; less than given only if payload ends, the body ends, or on an error
    const char* payload = nullptr;
    size_t payload_size = 0;  // at most one piece a step
    ParseError error = ParseError::kNone;
  };
  // size > 0, !done().
  Step next(const char* data, size_t size, const Limits& limits);

  // After a chunked body is done: its trailer section as complete lines "Name: value\r\n…", without the fields that
  // frame, route or authenticate; empty as a rule. Valid until the next start.
  std::string_view trailers() const { return trailers_ ? std::string_view(*trailers_) : std::string_view(); }

 private:
  enum class State : uint8_t { kSize, kExtension, kSizeLf, kData, kDataCr, kDataLf, kTrailer };
  void reset(Kind kind, bool done) {
    kind_ = kind;
    done_ = done;
    state_ = State::kSize;
    digits_ = 0;
    left_ = extension_bytes_ = extensions_bytes_ = 0;
    if (trailers_) trailers_.reset();
  }
  Step next_chunked(const char* data, size_t size, const Limits& limits);
  ParseError size_byte(char c);
  ParseError extension_byte(char c, const Limits& limits);
  ParseError trailer_byte(char c, const Limits& limits);
  ParseError finish_trailers(const Limits& limits);

  Kind kind_ = Kind::kNone;
  bool done_ = true;
  State state_ = State::kSize;
  uint8_t digits_ = 0;
  uint64_t left_ = 0;
  uint64_t extension_bytes_ = 0, extensions_bytes_ = 0;
  std::unique_ptr<std::string> trailers_;  // null unless there are any
};

}  // namespace tallygate::http1
