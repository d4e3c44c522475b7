// Takes a streamed body apart into events. Nothing of an event's data is kept: it is handed on as it comes, in pieces,
// so an event may be of any size; what has a bound are names and headers, kept to tell what an event is.
//
//   EventReader reader(framing_of(content_type));
//   for (std::string_view rest = piece;;) {
//     const auto step = reader.next(rest);          // takes from the front of rest
//     if (step.kind == Step::Kind::kMore) break;    // rest is empty: the next piece, or finish() until kMore
//     …
//   }
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace tallygate::meter {

enum class Framing : uint8_t {
  kWhole,           // the body is one event
  kSse,             // text/event-stream, by the WHATWG's rules
  kJsonLines,       // application/x-ndjson and its other names: a line is an event, empty ones are none
  kJsonArray,       // each element of one JSON array; a body that is no array is one event
  kAwsEventStream,  // application/vnd.amazon.eventstream
};

// By the media type alone, parameters ignored; kWhole for what is not known. kJsonArray is never told by a type.
Framing framing_of(std::string_view content_type);

class EventReader {
 public:
  static constexpr size_t kTypeBytesMax = 64;
  static constexpr size_t kAwsHeaderBytesMax = 4 * 1024;             // more are skipped, their event has no type
  static constexpr uint32_t kAwsMessageBytesMax = 32 * 1024 * 1024;  // larger is malformed; AWS itself allows 24 MB

  struct Step {
    enum class Kind : uint8_t {
      kMore,       // all that was given is read
      kData,       // more of the event's data; lines of one SSE event are joined by "\n"
      kEnd,        // the event is complete. Those without data are not told (SSE comments, retry, id)
      kDone,       // SSE: an event that is "[DONE]", of which no data was told
      kMalformed,  // this framing is broken, nothing after it can be read: what kData told of this event does not count
    };
    Kind kind = Kind::kMore;
    std::string_view data{};  // kData: valid as long as what next() was given, and until the next call
  };

  explicit EventReader(Framing framing) : framing_(framing) {}

  Step next(std::string_view& rest);
  // The body ended. An event that only lacks its end (a blank line, a line feed) counts: it was delivered. One that is
  // broken off by length (AWS), or within an array, is kMalformed. Call until kMore.
  Step finish();

  Framing framing() const { return framing_; }
  // Of the event whose data or end was told last: SSE's `event`, AWS's `:event-type` or `:exception-type`.
  std::string_view type() const { return {type_.data(), type_size_}; }
  // AWS: an exception or an error took the event's place.
  bool is_error() const { return is_error_; }
  uint64_t events() const { return events_; }

 private:
  enum class Line : uint8_t { kStart, kName, kSpace, kValue };
  enum class Field : uint8_t { kData, kEvent, kIgnored };
  enum class Array : uint8_t { kBefore, kFirst, kElement, kInElement, kComma, kAfter, kNone };
  enum class Aws : uint8_t { kPrelude, kHeaders, kPayload, kChecksum };

  Step broken();
  Step ended(Step::Kind kind = Step::Kind::kEnd);
  void set_type(std::string_view bytes);

  Step next_sse(std::string_view& rest);
  bool skip_mark(std::string_view& rest);
  void begin_value();
  bool read_name(std::string_view& rest);
  Step read_value(std::string_view& rest);
  Step data(std::string_view& rest, size_t size);
  Step held();
  Step end_sse_event();

  Step next_line(std::string_view& rest);
  Step next_element(std::string_view& rest);
  Step between_elements(std::string_view& rest);
  size_t element_size(std::string_view bytes);

  Step next_aws(std::string_view& rest);
  bool gather(std::string_view& rest, size_t bytes);
  bool read_prelude();
  bool read_headers();

  Framing framing_;
  bool dead_ = false, in_event_ = false, is_error_ = false;
  uint64_t events_ = 0;
  std::array<char, kTypeBytesMax> type_{};
  size_t type_size_ = 0;

  // SSE
  Line line_ = Line::kStart;
  Field field_ = Field::kIgnored;
  uint8_t mark_ = 0;        // bytes of a byte order mark
  uint8_t done_ = 0;        // bytes of "[DONE]" that the data is so far; they are held back
  bool maybe_done_ = true;  // the data is no more than those
  bool at_mark_ = true, after_cr_ = false, new_event_ = true, line_feed_due_ = false;
  std::array<char, 6> name_{};
  uint8_t name_size_ = 0;

  // JSON array
  Array array_ = Array::kBefore;
  uint32_t nesting_ = 0;
  bool in_string_ = false, escaped_ = false, end_due_ = false;

  // AWS
  Aws aws_ = Aws::kPrelude;
  uint32_t headers_left_ = 0, payload_left_ = 0, crc_ = 0;
  std::string gathered_;
};

}  // namespace tallygate::meter
