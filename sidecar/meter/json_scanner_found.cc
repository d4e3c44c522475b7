// What JsonScanner keeps of a text: keys that match, values at pointers.
#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "sidecar/meter/json_scanner.h"

namespace tallygate::meter {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool differs_in_case_alone(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

}  // namespace

void JsonScanner::note_key(std::string_view key, bool may_match) {
  Frame& frame = frames_[watched_ - 1];
  ++frame.count;
  if (!may_match) return;
  for (uint16_t at = nodes_[frame.node].child; at != JsonPointers::kNone; at = nodes_[at].sibling) {
    const JsonPointers::Node& child = nodes_[at];
    if (child.key == key) {
      if ((frame.seen >> child.ordinal & 1) != 0) forget(child.at_or_below);
      frame.seen |= uint64_t{1} << child.ordinal;
      next_ = at;
    } else if (differs_in_case_alone(child.key, key)) {
      aliased_ |= child.at_or_below;
    }
  }
}

// A key came again: what was read of the first is no more.
void JsonScanner::forget(uint64_t pointers) {
  ambiguous_ |= pointers;
  for (uint64_t left = pointers & found_; left != 0; left &= left - 1) {
    slots_[static_cast<size_t>(std::countr_zero(left))] = Slot{};
  }
}

void JsonScanner::record(JsonKind kind, const char* p) {
  Slot slot;
  slot.kind = kind;
  slot.cut = cut_;
  slot.text_at = text_begin_;
  slot.text_size = static_cast<uint32_t>(text_.size()) - text_begin_;
  slot.begin = value_begin_;
  slot.end = offset_of(p);
  bool kept = false;
  for (uint64_t left = nodes_[next_].ends_here; left != 0; left &= left - 1) {
    const auto pointer = static_cast<size_t>(std::countr_zero(left));
    found_ |= uint64_t{1} << pointer;
    if (equals_[pointer].empty()) {
      slots_[pointer] = slot;
      kept = true;
    } else if (kind == JsonKind::kString && !cut_ && std::string_view(text_).substr(text_begin_) == equals_[pointer]) {
      ++slots_[pointer].count;
    }
  }
  if (!kept) text_.resize(text_begin_);
}

// Keeps some of the string or number that is read, within its bound.
void JsonScanner::emit(const char* from, const char* to) {
  if (high_ != 0) emit_lone_half();
  auto size = static_cast<size_t>(to - from);
  if (in_key_ && at_ != At::kNumber) {
    if (key_size_ == kNoKey || key_size_ + size > key_.size()) {
      key_size_ = kNoKey;
      return;
    }
    std::memcpy(key_.data() + key_size_, from, size);
    key_size_ = static_cast<uint16_t>(key_size_ + size);
    return;
  }
  const size_t bound = at_ == At::kNumber ? kNumberBytesMax : string_bytes_max_;
  const size_t room = std::min(bound - std::min<size_t>(bound, text_.size() - text_begin_),
                               text_bytes_max_ - std::min(text_bytes_max_, text_.size()));
  if (size > room) {
    cut_ = true;
    size = room;
  }
  text_.append(from, size);
}

// One \uXXXX: a code point, or half of one.
void JsonScanner::emit_unit(uint32_t unit) {
  if (unit >= 0xd800 && unit < 0xdc00) {
    if (high_ != 0) emit_lone_half();
    high_ = unit;
    return;
  }
  if (unit >= 0xdc00 && unit < 0xe000) {
    if (high_ == 0) return emit_code_point(0xfffd);
    unit = 0x10000 + ((std::exchange(high_, 0) - 0xd800) << 10) + (unit - 0xdc00);
  }
  emit_code_point(unit);
}

void JsonScanner::emit_lone_half() {
  high_ = 0;
  emit_code_point(0xfffd);
}

void JsonScanner::emit_code_point(uint32_t code) {
  char bytes[4];
  size_t size = 0;
  const auto put = [&](uint32_t byte) { bytes[size++] = static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6), put(0x80 | (code & 63));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 63)), put(0x80 | (code & 63));
  } else {
    put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 63)), put(0x80 | (code >> 6 & 63)), put(0x80 | (code & 63));
  }
  emit(bytes, bytes + size);
}

}  // namespace tallygate::meter
