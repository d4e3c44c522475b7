// Framings that are text; AWS's is in event_reader_aws.cc.
#include "sidecar/meter/event_reader.h"

#include <algorithm>
#include <utility>

#include "sidecar/meter/bytes.h"

namespace tallygate::meter {
namespace {

using Kind = EventReader::Step::Kind;

constexpr std::string_view kDoneText = "[DONE]", kMarkText = "\xef\xbb\xbf", kLineFeed = "\n";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool ends_line(char c) { return c == '\r' || c == '\n'; }

}  // namespace

Framing framing_of(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && is_space(type.back())) type.pop_back();
  for (char& c : type) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (type == "text/event-stream") return Framing::kSse;
  if (type == "application/vnd.amazon.eventstream") return Framing::kAwsEventStream;
  for (const char* lines : {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
                            "application/jsonlines", "application/x-jsonlines", "application/stream+json"}) {
    if (type == lines) return Framing::kJsonLines;
  }
  return Framing::kWhole;
}

EventReader::Step EventReader::next(std::string_view& rest) {
  if (!dead_) {
    switch (framing_) {
      case Framing::kSse:
        return next_sse(rest);
      case Framing::kJsonLines:
        return next_line(rest);
      case Framing::kJsonArray:
        return next_element(rest);
      case Framing::kAwsEventStream:
        return next_aws(rest);
      case Framing::kWhole:
        break;
    }
    if (!rest.empty()) {
      in_event_ = true;
      return {Kind::kData, std::exchange(rest, {})};
    }
  }
  rest = {};
  return {};
}

EventReader::Step EventReader::finish() {
  if (dead_) return {};
  const bool in_array = framing_ == Framing::kJsonArray && array_ != Array::kNone;
  if (in_array && array_ != Array::kAfter && array_ != Array::kBefore) return broken();
  if (framing_ == Framing::kAwsEventStream) {
    return aws_ == Aws::kPrelude && gathered_.empty() ? Step{} : broken();
  }
  if (!in_event_) return {};
  return framing_ == Framing::kSse ? end_sse_event() : ended();
}

EventReader::Step EventReader::broken() {
  dead_ = true;
  in_event_ = false;
  return {Kind::kMalformed, {}};
}

EventReader::Step EventReader::ended(Kind kind) {
  if (kind == Kind::kEnd) ++events_;
  in_event_ = false;
  return {kind, {}};
}

void EventReader::set_type(std::string_view bytes) {
  const size_t size = std::min(bytes.size(), kTypeBytesMax - type_size_);
  std::copy_n(bytes.begin(), size, type_.begin() + static_cast<ptrdiff_t>(type_size_));
  type_size_ += size;
}

// Server-sent events.

EventReader::Step EventReader::next_sse(std::string_view& rest) {
  while (!rest.empty()) {
    if (at_mark_ && skip_mark(rest)) continue;
    if (std::exchange(after_cr_, false) && rest[0] == '\n') {
      rest.remove_prefix(1);
      continue;
    }
    if (line_ == Line::kValue) {
      const Step step = read_value(rest);
      if (step.kind != Kind::kMore) return step;
      continue;
    }
    if (line_ == Line::kStart && ends_line(rest[0])) {  // an empty line ends the event
      if (in_event_) {
        const Step step = end_sse_event();
        if (step.kind == Kind::kData) return step;
        after_cr_ = rest[0] == '\r';
        rest.remove_prefix(1);
        return step;
      }
      new_event_ = true;
      after_cr_ = rest[0] == '\r';
      rest.remove_prefix(1);
      continue;
    }
    if (read_name(rest)) begin_value();
  }
  return {};
}

// True while bytes of a mark were taken.
bool EventReader::skip_mark(std::string_view& rest) {
  while (!rest.empty() && mark_ < kMarkText.size() && rest[0] == kMarkText[mark_]) {
    rest.remove_prefix(1);
    ++mark_;
  }
  if (rest.empty() && mark_ < kMarkText.size()) return true;
  at_mark_ = false;
  if (mark_ != 0 && mark_ < kMarkText.size()) {  // no mark, then: the beginning of a name that no field has
    line_ = Line::kName;
    name_size_ = static_cast<uint8_t>(name_.size());
  }
  return rest.empty();
}

// The name up to its colon, or all of a line that has none; true where the value begins.
bool EventReader::read_name(std::string_view& rest) {
  if (line_ == Line::kSpace) {
    if (rest[0] == ' ') rest.remove_prefix(1);
    return true;
  }
  if (line_ == Line::kStart) {
    if (std::exchange(new_event_, false)) type_size_ = 0;
    line_ = Line::kName;
    name_size_ = 0;
  }
  for (size_t i = 0; i < rest.size(); ++i) {
    const char c = rest[i];
    if (c != ':' && !ends_line(c)) {
      if (name_size_ < name_.size()) name_[name_size_++] = c;
      continue;
    }
    rest.remove_prefix(c == ':' ? i + 1 : i);
    const std::string_view name(name_.data(), name_size_);
    field_ = name == "data" ? Field::kData : name == "event" ? Field::kEvent : Field::kIgnored;
    line_ = Line::kSpace;
    if (c == ':' && rest.empty()) return false;
    if (c == ':' && rest[0] == ' ') rest.remove_prefix(1);
    return true;
  }
  rest = {};
  return false;
}

void EventReader::begin_value() {
  line_ = Line::kValue;
  if (field_ == Field::kData) {
    line_feed_due_ = in_event_;
    in_event_ = true;
  } else if (field_ == Field::kEvent) {
    type_size_ = 0;
  }
}

EventReader::Step EventReader::read_value(std::string_view& rest) {
  if (line_feed_due_) {
    const Step step = held();
    if (step.kind == Kind::kData) return step;
    line_feed_due_ = false;
    return {Kind::kData, kLineFeed};
  }
  const auto size = static_cast<size_t>(find_either(rest.data(), rest.data() + rest.size(), '\n', '\r') - rest.data());
  if (size != 0) {
    if (field_ == Field::kData) return data(rest, size);
    if (field_ == Field::kEvent) set_type(rest.substr(0, size));
    rest.remove_prefix(size);
  }
  if (!rest.empty()) {
    after_cr_ = rest[0] == '\r';
    rest.remove_prefix(1);
    line_ = Line::kStart;
  }
  return {};
}

// So many bytes of `rest` are data. As long as they may be "[DONE]" they are held back: kMore.
EventReader::Step EventReader::data(std::string_view& rest, size_t size) {
  if (maybe_done_) {
    const std::string_view wanted = kDoneText.substr(done_);
    if (size <= wanted.size() && rest.substr(0, size) == wanted.substr(0, size)) {
      done_ = static_cast<uint8_t>(done_ + size);
      rest.remove_prefix(size);
      return {};
    }
    const Step step = held();
    if (step.kind == Kind::kData) return step;
  }
  const std::string_view piece = rest.substr(0, size);
  rest.remove_prefix(size);
  return {Kind::kData, piece};
}

// What was held back, where it is not "[DONE]" after all; kMore: nothing was.
EventReader::Step EventReader::held() {
  if (!std::exchange(maybe_done_, false) || done_ == 0) return {};
  return {Kind::kData, kDoneText.substr(0, done_)};
}

EventReader::Step EventReader::end_sse_event() {
  const bool done = maybe_done_ && done_ == kDoneText.size();
  if (!done) {
    const Step step = held();
    if (step.kind == Kind::kData) return step;
  }
  maybe_done_ = true;
  done_ = 0;
  new_event_ = true;
  line_feed_due_ = false;
  return ended(done ? Kind::kDone : Kind::kEnd);
}

// JSON lines.

EventReader::Step EventReader::next_line(std::string_view& rest) {
  while (!rest.empty()) {
    if (!in_event_) {
      if (at_mark_ && skip_mark(rest)) continue;
      const bool space = is_space(rest[0]);
      if (!space) in_event_ = true;
      if (space) rest.remove_prefix(1);
      continue;
    }
    if (rest[0] == '\n') {
      rest.remove_prefix(1);
      return ended();
    }
    const std::string_view piece = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(piece.size());
    return {Kind::kData, piece};
  }
  return {};
}

// The elements of an array.

EventReader::Step EventReader::next_element(std::string_view& rest) {
  while (!rest.empty() || end_due_) {
    if (std::exchange(end_due_, false)) return ended();
    if (array_ == Array::kInElement) {
      const std::string_view piece = rest.substr(0, element_size(rest));
      rest.remove_prefix(piece.size());
      if (!piece.empty()) return {Kind::kData, piece};
      continue;
    }
    if (array_ == Array::kNone) return {Kind::kData, std::exchange(rest, {})};
    const Step step = between_elements(rest);
    if (step.kind != Kind::kMore) return step;
  }
  return {};
}

EventReader::Step EventReader::between_elements(std::string_view& rest) {
  if (at_mark_ && skip_mark(rest)) return {};
  const char c = rest[0];
  if (is_space(c)) {
    rest.remove_prefix(1);
    return {};
  }
  switch (array_) {
    case Array::kBefore:
      if (c == '[') {
        rest.remove_prefix(1);
        array_ = Array::kFirst;
        return {};
      }
      array_ = Array::kNone;
      in_event_ = true;
      return {};
    case Array::kComma:
      if (c != ',' && c != ']') return broken();
      array_ = c == ',' ? Array::kElement : Array::kAfter;
      rest.remove_prefix(1);
      return {};
    case Array::kFirst:
      if (c == ']') {
        array_ = Array::kAfter;
        rest.remove_prefix(1);
        return {};
      }
      [[fallthrough]];
    case Array::kElement:
      if (c == ',' || c == ']' || c == '}') return broken();
      array_ = Array::kInElement;
      in_event_ = true;
      return {};
    default:
      return broken();
  }
}

// How much of `bytes` the element takes; where it ends there, what follows is told by array_ and end_due_. Its own
// grammar is its reader's affair.
size_t EventReader::element_size(std::string_view bytes) {
  const char *p = bytes.data(), *end = p + bytes.size();
  const auto size = [&] { return static_cast<size_t>(p - bytes.data()); };
  for (; p < end; ++p) {
    if (in_string_) {
      if (std::exchange(escaped_, false)) continue;
      p = plain_text_end(p, end);
      if (p == end) break;
      escaped_ = *p == '\\';
      in_string_ = *p != '"';
      continue;
    }
    const char c = *p;
    if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++nesting_;
    } else if (nesting_ != 0 && (c == '}' || c == ']')) {
      if (--nesting_ != 0) continue;
      ++p;
      array_ = Array::kComma;
      end_due_ = true;
      return size();
    } else if (nesting_ == 0 && (c == ',' || c == ']' || c == '}')) {
      array_ = Array::kComma;
      end_due_ = true;
      return size();
    }
  }
  return size();
}

}  // namespace tallygate::meter
