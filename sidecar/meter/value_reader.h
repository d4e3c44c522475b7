// The values at JSON pointers in a body of any framing: of a whole body its values, of a stream the last that each
// pointer had in any event. One rule serves `stream: true` and `stream: false`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/meter/event_reader.h"
#include "sidecar/meter/json_scanner.h"

namespace tallygate::meter {

class ValueReader {
 public:
  struct Value {
    JsonKind kind = JsonKind::kAbsent;
    bool duplicate = false, alias = false, cut = false;  // as in JsonValue, of any event
    std::string text;                                    // as in JsonValue
    uint64_t count = 0;
  };

  // `pointers` must outlive it. In an event stream an event that is no JSON changes nothing and is counted; a null
  // there leaves the value before it.
  ValueReader(const JsonPointers& pointers, Framing framing);

  void feed(std::string_view bytes);
  void finish();

  const Value& value(size_t pointer) const { return values_[pointer]; }
  // kWhole: the body was no JSON text. Else: the framing broke. The values up to there stay.
  bool malformed() const { return malformed_; }
  bool too_deep() const { return too_deep_; }
  uint64_t events() const { return reader_.events(); }
  uint64_t unreadable_events() const { return unreadable_; }

 private:
  void take(const EventReader::Step& step);
  void end_document();

  EventReader reader_;
  JsonScanner scanner_;
  std::vector<Value> values_;
  bool malformed_ = false, too_deep_ = false, has_data_ = false;
  uint64_t unreadable_ = 0;
};

}  // namespace tallygate::meter
