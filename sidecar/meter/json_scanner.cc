#include "sidecar/meter/json_scanner.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "core/result.h"
#include "sidecar/meter/bytes.h"

namespace tallygate::meter {
namespace {

// The states of a number, and which follows a digit zero, another digit, a
// point, an e, a plus, a minus.
enum NumberState : uint8_t { kMinus, kZero, kInteger, kPoint, kFraction, kE, kSign, kExponent, kStop };
constexpr uint8_t kNumberNext[8][6] = {
    {kZero, kInteger, kStop, kStop, kStop, kStop},       // kMinus
    {kStop, kStop, kPoint, kE, kStop, kStop},            // kZero
    {kInteger, kInteger, kPoint, kE, kStop, kStop},      // kInteger
    {kFraction, kFraction, kStop, kStop, kStop, kStop},  // kPoint
    {kFraction, kFraction, kStop, kE, kStop, kStop},     // kFraction
    {kExponent, kExponent, kStop, kStop, kSign, kSign},  // kE
    {kExponent, kExponent, kStop, kStop, kStop, kStop},  // kSign
    {kExponent, kExponent, kStop, kStop, kStop, kStop},  // kExponent
};

uint8_t number_class(char c) {
  if (c == '0') return 0;
  if (c > '0' && c <= '9') return 1;
  if (c == '.') return 2;
  if (c == 'e' || c == 'E') return 3;
  if (c == '+') return 4;
  return c == '-' ? 5 : 6;
}

bool is_complete_number(uint8_t state) {
  return state == kZero || state == kInteger || state == kFraction || state == kExponent;
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

std::string_view text_of(JsonKind literal) {
  return literal == JsonKind::kTrue ? "true" : literal == JsonKind::kFalse ? "false" : "null";
}

// How much skip() looks ahead without asking: the longest literal, and a byte
// behind it.
constexpr ptrdiff_t kLookAhead = 6;

// The quote that ends a string whose text begins at `p`. Null where it is not
// in the piece, or an escape takes reading.
inline const char* simple_string_end(const char* p, const char* end) {
  for (;;) {
    p = plain_text_end(p, end);
    if (p == end) return nullptr;
    if (*p == '"') return p;
    if (*p != '\\' || end - p < 2 || std::string_view("\"\\/bfnrt").find(p[1]) == std::string_view::npos)
      return nullptr;
    p += 2;
  }
}

// Behind a number without an exponent. Null: it is another, or not whole in the
// piece.
inline const char* simple_number_end(const char* p, const char* end) {
  const auto digits = [&] {
    const char* from = p;
    while (p < end && *p >= '0' && *p <= '9') ++p;
    return p - from;
  };
  if (*p == '-') ++p;
  const bool zero = p < end && *p == '0';
  const auto whole = digits();
  if (whole == 0 || (zero && whole > 1) || p == end) return nullptr;
  if (*p == '.') {
    ++p;
    if (digits() == 0 || p == end) return nullptr;
  }
  return *p == 'e' || *p == 'E' ? nullptr : p;
}

// Behind a string, a number or a literal at `p`, where kLookAhead bytes are;
// null as above.
inline const char* simple_scalar_end(const char* p, const char* end) {
  if (*p == '"') {
    const char* quote = simple_string_end(p + 1, end);
    return quote == nullptr ? nullptr : quote + 1;
  }
  if (*p == 't') return std::memcmp(p, "true", 4) == 0 ? p + 4 : nullptr;
  if (*p == 'f') return std::memcmp(p, "false", 5) == 0 ? p + 5 : nullptr;
  if (*p == 'n') return std::memcmp(p, "null", 4) == 0 ? p + 4 : nullptr;
  return simple_number_end(p, end);
}

}  // namespace

JsonScanner::JsonScanner(const JsonPointers& pointers, size_t string_bytes_max)
    : nodes_(pointers.nodes_),
      equals_(pointers.equals_),
      string_bytes_max_(string_bytes_max),
      text_bytes_max_(std::max(kTextBytesMax, string_bytes_max)) {
  slots_.resize(pointers.size());
  reset();
}

void JsonScanner::reset() {
  for (uint64_t left = found_; left != 0; left &= left - 1)
    slots_[static_cast<size_t>(std::countr_zero(left))] = Slot{};
  text_.clear();
  state_ = State::kMore;
  at_ = At::kMark;
  offset_ = found_ = ambiguous_ = aliased_ = 0;
  depth_ = watched_ = 0;
  next_ = 0;
  bom_ = 0;
  high_ = 0;
  in_key_ = keep_ = false;
}

JsonScanner::State JsonScanner::feed(std::string_view bytes) {
  if (state_ == State::kMalformed || state_ == State::kTooDeep || bytes.empty()) return state_;
  piece_ = bytes.data();
  const char* p = run(piece_, piece_ + bytes.size());
  offset_ = offset_of(p);
  piece_ = nullptr;
  if (state_ == State::kMore && at_ == At::kEnd) state_ = State::kDone;
  return state_;
}

JsonScanner::State JsonScanner::finish() {
  if (state_ != State::kMore) return state_;
  if (at_ == At::kNumber && depth_ == 0 && is_complete_number(number_)) {
    static constexpr char kNothing[] = "";
    piece_ = kNothing;
    end_scalar(JsonKind::kNumber, kNothing);
    at_ = At::kEnd;
    return state_ = State::kDone;
  }
  return state_ = State::kMalformed;
}

JsonValue JsonScanner::value(size_t pointer) const {
  const Slot& slot = slots_[pointer];
  JsonValue value;
  value.kind = slot.kind;
  value.duplicate = (ambiguous_ >> pointer & 1) != 0;
  value.alias = (aliased_ >> pointer & 1) != 0;
  value.cut = slot.cut;
  value.text = std::string_view(text_).substr(slot.text_at, slot.text_size);
  value.count = slot.count;
  value.begin = slot.begin;
  value.end = slot.end;
  return value;
}

// Reads until the piece ends, or to the byte that cannot stand where it does:
// then state_ says so.
const char* JsonScanner::run(const char* p, const char* end) {
  while (p < end && state_ <= State::kDone) {
    if (watched_ < depth_ && at_ >= At::kValue && at_ <= At::kAfter) {
      const char* from = std::exchange(p, skip(p, end));
      if (p != from) continue;
    }
    switch (at_) {
      case At::kString:
        p = in_string(p, end);
        continue;
      case At::kEscape:
      case At::kHex:
        p = escape(p, end);
        continue;
      case At::kNumber:
        p = in_number(p, end);
        continue;
      case At::kLiteral:
        p = in_literal(p, end);
        continue;
      case At::kMark:
        p = mark(p);
        continue;
      default:
        break;
    }
    if (is_space(*p)) {
      ++p;
      continue;
    }
    p = token(p, end);
  }
  return p;
}

// Inside a container that no pointer goes into: the same grammar, for tokens
// that are whole in the piece and of the usual kind. Returns where one begins
// that is not, or where the container has ended, for the others to go on from.
const char* JsonScanner::skip(const char* p, const char* end) {
  const auto stop = [this](At at, const char* where) {
    at_ = at;
    return where;
  };
  next_ = JsonPointers::kNone;
  if (at_ == At::kValue) goto value;
  if (at_ == At::kFirstElement) goto first_element;
  if (at_ == At::kFirstKey) goto first_key;
  if (at_ == At::kKey) goto key;
  if (at_ != At::kAfter) return p;
after:
  if (end - p < kLookAhead) return stop(At::kAfter, p);
  if (*p == ',') {
    ++p;
    if (in_object()) goto key;
    goto value;
  }
  if (*p == '}' || *p == ']') {
    if (*p != (in_object() ? '}' : ']')) return stop(At::kAfter, p);
    ++p;
    if (--depth_ == watched_) return stop(At::kAfter, p);
    goto after;
  }
  if (!is_space(*p)) return stop(At::kAfter, p);
  ++p;
  goto after;
first_key:
  if (end - p < kLookAhead) return stop(At::kFirstKey, p);
  if (*p == '}') goto after;
  if (is_space(*p)) {
    ++p;
    goto first_key;
  }
key:
  if (end - p < kLookAhead) return stop(At::kKey, p);
  if (is_space(*p)) {
    ++p;
    goto key;
  }
  if (*p != '"') return stop(At::kKey, p);
  {
    const char* quote = simple_string_end(p + 1, end);
    if (quote == nullptr || end - quote < 2) return stop(At::kKey, p);
    p = quote + 1;
  }
  if (*p != ':') return stop(At::kColon, p);
  ++p;
  goto value;
first_element:
  if (end - p < kLookAhead) return stop(At::kFirstElement, p);
  if (*p == ']') goto after;
  if (is_space(*p)) {
    ++p;
    goto first_element;
  }
value:
  if (end - p < kLookAhead) return stop(At::kValue, p);
  if (is_space(*p)) {
    ++p;
    goto value;
  }
  if (*p == '{' || *p == '[') {
    if (depth_ == kDepthMax) return stop(At::kValue, p);
    const bool object = *p++ == '{';
    ++depth_;
    note_kind(object);
    if (object) goto first_key;
    goto first_element;
  }
  {
    const char* behind = simple_scalar_end(p, end);
    if (behind == nullptr) return stop(At::kValue, p);
    p = behind;
  }
  goto after;
}

// One that is no space, between the parts of a container, or where a value
// begins.
inline const char* JsonScanner::token(const char* p, const char* end) {
  switch (at_) {
    case At::kFirstElement:
      if (*p == ']') return close(p);
      next_ = element();
      return begin_value(p);
    case At::kValue:
      return begin_value(p);
    case At::kFirstKey:
      if (*p == '}') return close(p);
      [[fallthrough]];
    case At::kKey:
      return *p == '"' ? begin_key(p + 1, end) : wrong(p);
    case At::kColon:
      if (*p != ':') return wrong(p);
      at_ = At::kValue;
      return p + 1;
    case At::kAfter:
      if (*p != ',') return close(p);
      if (in_object()) {
        at_ = At::kKey;
      } else {
        next_ = element();
        at_ = At::kValue;
      }
      return p + 1;
    default:
      return wrong(p);  // behind the end
  }
}

const char* JsonScanner::wrong(const char* p) {
  state_ = State::kMalformed;
  return p;
}

const char* JsonScanner::mark(const char* p) {
  static constexpr char kMark[] = "\xef\xbb\xbf";
  if (bom_ < 3 && *p == kMark[bom_]) {
    if (++bom_ == 3) at_ = At::kValue;
    return p + 1;
  }
  if (bom_ != 0) return wrong(p);
  at_ = At::kValue;
  return p;
}

inline const char* JsonScanner::begin_value(const char* p) {
  const char c = *p;
  if (c == '{' || c == '[') return open(p);
  keep_ = next_ != JsonPointers::kNone && nodes_[next_].ends_here != 0;
  if (keep_) {
    value_begin_ = offset_of(p);
    text_begin_ = static_cast<uint32_t>(text_.size());
    cut_ = false;
  }
  if (c == '"') {
    in_key_ = false;
    at_ = At::kString;
    return p + 1;
  }
  if (c == 't' || c == 'f' || c == 'n') {
    literal_ = c == 't' ? JsonKind::kTrue : c == 'f' ? JsonKind::kFalse : JsonKind::kNull;
    literal_at_ = 1;
    at_ = At::kLiteral;
    return p + 1;
  }
  const uint8_t kind = number_class(c);
  if (kind != 0 && kind != 1 && kind != 5) return wrong(p);
  number_ = kind == 0 ? kZero : kind == 1 ? kInteger : kMinus;
  at_ = At::kNumber;
  if (keep_) emit(p, p + 1);
  return p + 1;
}

inline const char* JsonScanner::in_string(const char* p, const char* end) {
  const char* stop = plain_text_end(p, end);
  if (keep_ && stop != p) emit(p, stop);
  if (stop == end) return end;
  if (*stop == '\\') {
    at_ = At::kEscape;
    return stop + 1;
  }
  if (*stop != '"') return wrong(stop);
  if (keep_ && high_ != 0) emit_lone_half();
  if (in_key_) {
    if (keep_) note_key({key_.data(), key_size_ == kNoKey ? 0u : key_size_}, key_size_ != kNoKey);
    at_ = At::kColon;
  } else {
    end_scalar(JsonKind::kString, stop + 1);
  }
  return stop + 1;
}

const char* JsonScanner::escape(const char* p, const char* end) {
  if (at_ == At::kEscape) {
    static constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    if (*p == 'u') {
      hex_ = 0;
      code_ = 0;
      at_ = At::kHex;
      return p + 1;
    }
    const size_t which = kNames.find(*p);
    if (which == std::string_view::npos) return wrong(p);
    if (keep_) emit(&kMeanings[which], &kMeanings[which] + 1);
    at_ = At::kString;
    return p + 1;
  }
  for (; p < end && hex_ < 4; ++p, ++hex_) {
    const char c = *p >= 'A' && *p <= 'F' ? static_cast<char>(*p + 32) : *p;
    if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) return wrong(p);
    code_ = code_ << 4 | static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  if (hex_ == 4) {
    if (keep_) emit_unit(code_);
    at_ = At::kString;
  }
  return p;
}

inline const char* JsonScanner::in_number(const char* p, const char* end) {
  const char* begin = p;
  uint8_t state = number_;
  for (; p < end; ++p) {
    const uint8_t kind = number_class(*p);
    const uint8_t next = kind == 6 ? uint8_t{kStop} : kNumberNext[state][kind];
    if (next == kStop) break;
    state = next;
  }
  number_ = state;
  if (keep_ && p != begin) emit(begin, p);
  if (p == end) return p;
  if (!is_complete_number(state)) return wrong(p);
  end_scalar(JsonKind::kNumber, p);
  return p;
}

inline const char* JsonScanner::in_literal(const char* p, const char* end) {
  const std::string_view text = text_of(literal_);
  while (p < end && literal_at_ < text.size()) {
    if (*p != text[literal_at_]) return wrong(p);
    ++p, ++literal_at_;
  }
  if (literal_at_ == text.size()) end_scalar(literal_, p);
  return p;
}

// A key that is whole in the piece and has no escape is compared where it
// stands.
inline const char* JsonScanner::begin_key(const char* p, const char* end) {
  next_ = JsonPointers::kNone;
  const char* stop = plain_text_end(p, end);
  keep_ = watched_ == depth_;
  if (stop < end && *stop == '"') {
    if (keep_) note_key({p, static_cast<size_t>(stop - p)}, true);
    at_ = At::kColon;
    return stop + 1;
  }
  in_key_ = true;
  key_size_ = 0;
  at_ = At::kString;
  return p;
}

// The node of the array's next element.
inline uint16_t JsonScanner::element() {
  if (watched_ != depth_) return JsonPointers::kNone;
  Frame& frame = frames_[watched_ - 1];
  const auto index = static_cast<int64_t>(frame.count++);
  const JsonPointers::Node& node = nodes_[frame.node];
  if (node.wildcard) return node.child;
  for (uint16_t at = node.child; at != JsonPointers::kNone; at = nodes_[at].sibling) {
    if (nodes_[at].index == index) return at;
  }
  return JsonPointers::kNone;
}

const char* JsonScanner::open(const char* p) {
  if (depth_ == kDepthMax) {
    state_ = State::kTooDeep;
    return p;
  }
  ++depth_;
  const bool object = *p == '{';
  note_kind(object);
  if (next_ != JsonPointers::kNone) {
    frames_[watched_++] = Frame{next_, 0, 0};
    for (uint64_t left = nodes_[next_].ends_here; left != 0; left &= left - 1) {
      const auto pointer = static_cast<size_t>(std::countr_zero(left));
      if (!equals_[pointer].empty()) continue;
      slots_[pointer] = Slot{};
      slots_[pointer].kind = object ? JsonKind::kObject : JsonKind::kArray;
      slots_[pointer].begin = offset_of(p);
      found_ |= uint64_t{1} << pointer;
    }
  }
  at_ = object ? At::kFirstKey : At::kFirstElement;
  return p + 1;
}

const char* JsonScanner::close(const char* p) {
  if (*p != (in_object() ? '}' : ']')) return wrong(p);
  if (watched_ == depth_) {
    const Frame& frame = frames_[--watched_];
    for (uint64_t left = nodes_[frame.node].ends_here; left != 0; left &= left - 1) {
      const auto pointer = static_cast<size_t>(std::countr_zero(left));
      if (!equals_[pointer].empty()) continue;
      slots_[pointer].count = frame.count;
      slots_[pointer].end = offset_of(p) + 1;
    }
  }
  --depth_;
  at_ = depth_ == 0 ? At::kEnd : At::kAfter;
  return p + 1;
}

inline void JsonScanner::end_scalar(JsonKind kind, const char* p) {
  if (keep_) record(kind, p);
  at_ = depth_ == 0 ? At::kEnd : At::kAfter;
}

}  // namespace tallygate::meter
