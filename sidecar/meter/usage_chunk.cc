#include "sidecar/meter/usage_chunk.h"

#include <utility>
#include <vector>

#include "sidecar/meter/bytes.h"
#include "sidecar/meter/event_reader.h"
#include "sidecar/meter/interest.h"
#include "sidecar/meter/json_scanner.h"

namespace tallygate::meter {
namespace {

JsonPointers compiled(const std::vector<std::string>& pointers) {
  auto made = JsonPointers::compile(pointers);
  TG_ASSERT(made.has_value());
  return std::move(*made);
}

// Where bytes go in, and what: into an object, before its first member if it has any.
void insert_member(const JsonValue& object, std::string_view member, UsageEdit* edit) {
  edit->at = object.begin + 1;
  edit->insert = member;
  if (object.count != 0) edit->insert += ',';
}

void replace(const JsonValue& value, std::string_view with, UsageEdit* edit) {
  edit->at = value.begin;
  edit->erase = value.end - value.begin;
  edit->insert = with;
}

}  // namespace

Result<UsageEdit> ask_for_usage(std::string_view body) {
  static const JsonPointers kPointers = compiled({"", "/stream", "/stream_options", "/stream_options/include_usage"});
  JsonScanner scanner(kPointers);
  scanner.feed(body);
  if (scanner.finish() != JsonScanner::State::kDone) return fail(Errc::kInvalid, "the body is no JSON text");
  const JsonValue top = scanner.value(0), stream = scanner.value(1), options = scanner.value(2),
                  include = scanner.value(3);
  if (top.kind != JsonKind::kObject) return fail(Errc::kInvalid, "the body is no JSON object");
  for (const auto& [value, name] :
       {std::pair{stream, "stream"}, {options, "stream_options"}, {include, "include_usage"}}) {
    if (value.duplicate) return fail(Errc::kInvalid, std::string("\"") + name + "\" is there twice");
  }
  UsageEdit edit;
  edit.streams = stream.kind == JsonKind::kTrue;
  edit.client_asked = include.kind == JsonKind::kTrue;
  if (!edit.streams || edit.client_asked) return edit;
  if (options.kind == JsonKind::kAbsent) {
    insert_member(top, "\"stream_options\":{\"include_usage\":true}", &edit);
  } else if (options.kind == JsonKind::kNull) {
    replace(options, "{\"include_usage\":true}", &edit);
  } else if (options.kind == JsonKind::kObject) {
    if (include.kind == JsonKind::kAbsent) {
      insert_member(options, "\"include_usage\":true", &edit);
    } else if (include.kind == JsonKind::kFalse || include.kind == JsonKind::kNull) {
      replace(include, "true", &edit);
    }
  }
  return edit;
}

std::string_view UsageChunkFilter::next(std::string_view& rest) {
  if (!rest.empty() && std::exchange(drop_line_feed_, false) && rest[0] == '\n') rest.remove_prefix(1);
  size_t passes = 0;  // of rest, events that are whole and stay
  while (passes < rest.size()) {
    const Place before = place_;
    const size_t size = event_end(rest.substr(passes));
    if (size == 0) {  // an event that is not complete
      if (passes != 0) place_ = before;
      break;
    }
    if (!held_.empty() || passing_through_) {
      // Its beginning came before.
      const std::string_view end = rest.substr(0, size);
      rest.remove_prefix(size);
      if (std::exchange(passing_through_, false)) return end;
      held_.append(end);
      if (is_usage_chunk(held_)) {
        removed();
        held_.clear();
        continue;
      }
      passing_ = std::exchange(held_, {});
      return passing_;
    }
    if (!is_usage_chunk(rest.substr(passes, size))) {
      passes += size;
      continue;
    }
    removed();
    const std::string_view kept = rest.substr(0, passes);
    rest.remove_prefix(passes + size);
    passes = 0;
    if (!kept.empty()) return kept;
  }
  if (passes != 0) {
    const std::string_view events = rest.substr(0, passes);
    rest.remove_prefix(passes);
    return events;
  }
  const std::string_view part = std::exchange(rest, {});
  if (passing_through_) return part;
  held_.append(part);
  if (held_.size() <= kHeldBytesMax) return {};
  passing_through_ = true;
  passing_ = std::exchange(held_, {});
  return passing_;
}

std::string_view UsageChunkFilter::finish() {
  passing_ = std::exchange(held_, {});
  if (passing_.empty() || !is_usage_chunk(passing_)) return passing_;
  ++removed_;
  return {};
}

// What ended with a carriage return takes the line feed with it that may come.
void UsageChunkFilter::removed() {
  ++removed_;
  drop_line_feed_ = std::exchange(place_.after_cr, false);
}

// The size of what is left of the event at the front, with the blank line that ends it; 0: it does not end there. A
// line feed that belongs to a carriage return before it is the next event's: it says nothing.
size_t UsageChunkFilter::event_end(std::string_view bytes) {
  const char *begin = bytes.data(), *p = begin, *end = p + bytes.size();
  while (p < end) {
    const char c = *p;
    if (c == '\n' && std::exchange(place_.after_cr, false)) {
      ++p;
      continue;
    }
    if (c != '\n' && c != '\r') {
      place_.after_cr = false;
      place_.line_empty = false;
      p = find_either(p, end, '\n', '\r');
      continue;
    }
    ++p;
    place_.after_cr = c == '\r';
    if (!std::exchange(place_.line_empty, true)) continue;
    if (place_.after_cr && p < end && *p == '\n') {
      ++p;
      place_.after_cr = false;
    }
    return static_cast<size_t>(p - begin);
  }
  return 0;
}

bool UsageChunkFilter::is_usage_chunk(std::string_view event) const {
  static const JsonPointers kPointers = compiled({"/choices", "/usage"});
  if (!may_hold_usage(event)) return false;
  JsonScanner scanner(kPointers);
  EventReader reader(Framing::kSse);
  for (;;) {
    auto step = reader.next(event);
    if (step.kind == EventReader::Step::Kind::kMore) step = reader.finish();
    if (step.kind == EventReader::Step::Kind::kData) {
      scanner.feed(step.data);
      continue;
    }
    if (step.kind != EventReader::Step::Kind::kEnd) return false;
    break;
  }
  if (scanner.finish() != JsonScanner::State::kDone) return false;
  const JsonValue choices = scanner.value(0), usage = scanner.value(1);
  return choices.kind == JsonKind::kArray && choices.count == 0 && usage.kind == JsonKind::kObject;
}

}  // namespace tallygate::meter
