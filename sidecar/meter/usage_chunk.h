// OpenAI's chat API tells a stream's usage only where the request asks for it, in a chunk of its own. Here the request
// is made to ask, and the chunk is taken out again where the client did not ask.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate::meter {

// A request's body with `erase` bytes at `at` replaced by `insert`; nothing else of the text changes.
struct UsageEdit {
  bool streams = false;       // `stream` is true: else there is nothing to do
  bool client_asked = false;  // the usage chunk is the client's
  uint64_t at = 0, erase = 0;
  std::string insert;  // empty: no edit
  // The client did not ask, and is to get its answer without the usage chunk.
  bool remove_chunk() const { return streams && !client_asked; }
  void apply(std::string* body) const {
    if (!insert.empty()) body->replace(at, erase, insert);
  }
};
// kInvalid where the body is no JSON object, or has `stream`, `stream_options` or `include_usage` twice: apps differ in
// which they take. Of wrong types nothing is changed: the API itself refuses them.
Result<UsageEdit> ask_for_usage(std::string_view body);

// Passes an SSE answer on without its usage chunk: the event whose `choices` is an empty array and whose `usage` is an
// object. Answers that are coded cannot pass through it: offer the app `identity` alone where the chunk is to be
// removed.
class UsageChunkFilter {
 public:
  // An event that is not complete is held back up to here; larger ones pass: no usage chunk is.
  static constexpr size_t kHeldBytesMax = 16 * 1024;

  // What passes of `rest`, taken from its front; empty: nothing more, `rest` is used up. Valid as long as what it was
  // given, and until the next call.
  std::string_view next(std::string_view& rest);
  // What is held back at the end of the answer.
  std::string_view finish();
  uint64_t chunks_removed() const { return removed_; }

 private:
  // Where in an event the next byte stands.
  struct Place {
    bool line_empty = true, after_cr = false;
  };
  void removed();
  size_t event_end(std::string_view bytes);
  bool is_usage_chunk(std::string_view event) const;

  std::string held_, passing_;
  Place place_;
  bool passing_through_ = false, drop_line_feed_ = false;
  uint64_t removed_ = 0;
};

}  // namespace tallygate::meter
