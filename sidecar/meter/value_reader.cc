#include "sidecar/meter/value_reader.h"

namespace tallygate::meter {

ValueReader::ValueReader(const JsonPointers& pointers, Framing framing) : reader_(framing), scanner_(pointers) {
  values_.resize(pointers.size());
}

void ValueReader::feed(std::string_view bytes) {
  for (;;) {
    const auto step = reader_.next(bytes);
    if (step.kind == EventReader::Step::Kind::kMore) return;
    take(step);
  }
}

void ValueReader::finish() {
  for (;;) {
    const auto step = reader_.finish();
    if (step.kind == EventReader::Step::Kind::kMore) break;
    take(step);
  }
  if (reader_.framing() == Framing::kWhole && reader_.events() == 0) malformed_ = true;  // an empty body
}

void ValueReader::take(const EventReader::Step& step) {
  using Kind = EventReader::Step::Kind;
  if (step.kind == Kind::kData) {
    scanner_.feed(step.data);
    has_data_ = true;
  } else if (step.kind == Kind::kEnd) {
    end_document();
  } else if (step.kind == Kind::kMalformed) {
    malformed_ = true;
    scanner_.reset();
    has_data_ = false;
  }
}

void ValueReader::end_document() {
  const bool whole = reader_.framing() == Framing::kWhole;
  const auto state = scanner_.finish();
  if (state != JsonScanner::State::kDone) {
    too_deep_ |= state == JsonScanner::State::kTooDeep;
    malformed_ |= whole && state == JsonScanner::State::kMalformed;
    if (has_data_) ++unreadable_;
  } else {
    for (size_t i = 0; i < values_.size(); ++i) {
      const JsonValue found = scanner_.value(i);
      Value& value = values_[i];
      value.duplicate |= found.duplicate;
      value.alias |= found.alias;
      if (found.count == 0 && (found.kind == JsonKind::kAbsent || (!whole && found.kind == JsonKind::kNull))) continue;
      value.kind = found.kind;
      value.cut = found.cut;
      value.text = found.text;
      value.count = found.count;
    }
  }
  scanner_.reset();
  has_data_ = false;
}

}  // namespace tallygate::meter
