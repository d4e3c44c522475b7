// Reads values at JSON pointers out of a text that comes in pieces, without a
// tree, a copy of the text or recursion. The grammar is RFC 8259's, strictly:
// what an app might read in another way is malformed here. Not checked: that
// strings are valid UTF-8, which no reader takes for structure. A byte order
// mark before the text is skipped.
//
//   JsonScanner scanner(pointers);           // pointers must outlive it
//   scanner.feed(piece); …; scanner.finish();
//   if (scanner.state() == JsonScanner::State::kDone) scanner.value(0).kind …
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/meter/json_pointers.h"

namespace tallygate::meter {

enum class JsonKind : uint8_t { kAbsent, kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };

struct JsonValue {
  JsonKind kind = JsonKind::kAbsent;
  // The key, or one above it, is there twice: readers differ in which of them
  // counts. The last is told here.
  bool duplicate = false;
  // Another key there differs from the pointer's in the case of ASCII letters
  // alone: some readers take it for the same.
  bool alias = false;
  bool cut = false;       // `text` is not the whole of it
  std::string_view text;  // number: as written. String: unescaped. Valid until
                          // the scanner is fed, reset or gone.
  // Elements of an array, members of an object; matches of a count.
  uint64_t count = 0;
  // Where the value stands in the text, from its first byte to behind its last;
  // a byte order mark counts.
  uint64_t begin = 0, end = 0;
};

class JsonScanner {
 public:
  static constexpr size_t kDepthMax = 256;
  static constexpr size_t kNumberBytesMax = 64;
  static constexpr size_t kStringBytesMax = 256;
  static constexpr size_t kTextBytesMax = 16 * 1024;  // of all values of one document

  enum class State : uint8_t {
    kMore,       // the value is not complete
    kDone,       // it is; white space may follow
    kMalformed,  // no JSON from offset() on, or it ended too early; only reset()
                 // leads out
    kTooDeep,    // nested deeper than kDepthMax; as above
  };

  // `string_bytes_max`: how much of a string is kept.
  explicit JsonScanner(const JsonPointers& pointers, size_t string_bytes_max = kStringBytesMax);

  // For the next document; keeps what memory there is.
  void reset();
  State feed(std::string_view bytes);
  // There is no more: completes a number at the top, tells a text that breaks
  // off.
  State finish();

  State state() const { return state_; }
  // How many bytes were read; where malformed, the place of the first that
  // cannot stand there.
  uint64_t offset() const { return offset_; }
  // The pointers that have a value or a match, by bit.
  uint64_t found() const { return found_; }
  JsonValue value(size_t pointer) const;

 private:
  // Where in the text the next byte stands.
  enum class At : uint8_t {
    kMark,          // at the very beginning, or in a byte order mark
    kValue,         //
    kFirstElement,  // behind [
    kFirstKey,      // behind {
    kKey,           // behind a comma
    kColon,         //
    kAfter,         // behind a value in a container
    kString,        // in a key too
    kEscape,        // behind a backslash
    kHex,           // in \uXXXX
    kNumber,        //
    kLiteral,       //
    kEnd,           // behind the value at the top
  };
  static constexpr uint16_t kNoKey = 0xffff;  // key_size_: longer than any that could match
  struct Slot {
    JsonKind kind = JsonKind::kAbsent;
    bool duplicate = false, alias = false, cut = false;
    uint32_t text_at = 0, text_size = 0;
    uint64_t count = 0, begin = 0, end = 0;
  };
  // A container that pointers go into, or end at.
  struct Frame {
    uint16_t node = 0;
    uint64_t seen = 0;  // children, by ordinal
    uint64_t count = 0;
  };

  const char* run(const char* p, const char* end);
  const char* skip(const char* p, const char* end);
  const char* token(const char* p, const char* end);
  const char* wrong(const char* p);
  const char* mark(const char* p);
  const char* begin_value(const char* p);
  const char* in_string(const char* p, const char* end);
  const char* escape(const char* p, const char* end);
  const char* in_number(const char* p, const char* end);
  const char* in_literal(const char* p, const char* end);
  const char* begin_key(const char* p, const char* end);
  const char* open(const char* p);
  const char* close(const char* p);
  void note_key(std::string_view key, bool may_match);
  void forget(uint64_t pointers);
  uint16_t element();
  void end_scalar(JsonKind kind, const char* p);
  void record(JsonKind kind, const char* p);
  void emit(const char* from, const char* to);
  void emit_unit(uint32_t unit);
  void emit_lone_half();
  void emit_code_point(uint32_t code);
  uint64_t offset_of(const char* p) const { return offset_ + static_cast<uint64_t>(p - piece_); }
  void note_kind(bool object) {
    const uint64_t bit = uint64_t{1} << (depth_ & 63);
    objects_[depth_ >> 6] = object ? objects_[depth_ >> 6] | bit : objects_[depth_ >> 6] & ~bit;
  }
  bool in_object() const { return (objects_[depth_ >> 6] >> (depth_ & 63) & 1) != 0; }

  const std::vector<JsonPointers::Node>& nodes_;
  const std::vector<std::string>& equals_;
  const size_t string_bytes_max_, text_bytes_max_;
  std::vector<Slot> slots_;
  std::string text_;

  State state_ = State::kMore;
  At at_;
  const char* piece_ = nullptr;  // what feed() was given
  uint64_t offset_ = 0, value_begin_ = 0, found_ = 0, ambiguous_ = 0, aliased_ = 0;
  uint32_t depth_ = 0;
  std::array<uint64_t, kDepthMax / 64 + 1> objects_{};  // by depth, whether it is an object
  std::array<Frame, JsonPointers::kTokensMax + 2> frames_{};
  uint32_t watched_ = 0;  // how many of frames_ are in use: containers at the
                          // depths 1 to watched_
  uint16_t next_ = 0;     // the node of the value that comes
  bool in_key_ = false, keep_ = false, cut_ = false;
  uint8_t bom_ = 0, literal_at_ = 0, number_ = 0, hex_ = 0;
  JsonKind literal_ = JsonKind::kNull;
  uint32_t code_ = 0, high_ = 0;
  uint32_t text_begin_ = 0;
  uint16_t key_size_ = 0;
  std::array<char, JsonPointers::kTokenBytesMax + 8> key_{};
};

}  // namespace tallygate::meter
