#include "core/http1/body.h"

#include <algorithm>

#include "core/http1/chars.h"
#include "core/http1/head.h"

namespace tallygate::http1 {

BodyReader::Step BodyReader::next(const char* data, size_t size, const Limits& limits) {
  switch (kind_) {
    case Kind::kLength: {
      const size_t n = static_cast<size_t>(std::min<uint64_t>(size, left_));
      left_ -= n;
      done_ = left_ == 0;
      return {n, data, n, ParseError::kNone};
    }
    case Kind::kUntilClose:
      return {size, data, size, ParseError::kNone};
    case Kind::kChunked:
      return next_chunked(data, size, limits);
    case Kind::kNone:
      break;
  }
  return {};
}

ParseError BodyReader::size_byte(char c) {
  const char low = static_cast<char>(c | 0x20);
  int digit = -1;
  if (c >= '0' && c <= '9')
    digit = c - '0';
  else if (low >= 'a' && low <= 'f')
    digit = low - 'a' + 10;
  if (digit >= 0) {
    if (++digits_ > 15) return ParseError::kChunkSize;  // cannot overflow
    left_ = left_ * 16 + static_cast<uint64_t>(digit);
    return ParseError::kNone;
  }
  if (digits_ == 0) return ParseError::kChunkSize;
  if (c == '\r')
    state_ = State::kSizeLf;
  else if (c == ';')
    state_ = State::kExtension;
  else
    return ParseError::kChunkSize;  // also the white space that RFC 9112 7.1.1 calls bad
  return ParseError::kNone;
}

ParseError BodyReader::extension_byte(char c, const Limits& limits) {
  if (c == '\r') {
    state_ = State::kSizeLf;
    return ParseError::kNone;
  }
  const auto u = static_cast<unsigned char>(c);
  if ((u < 0x20 && c != '\t') || u == 0x7f) return ParseError::kChunkExtension;
  ++extension_bytes_;
  ++extensions_bytes_;
  const bool fits =
      extension_bytes_ <= limits.chunk_extension_bytes_max && extensions_bytes_ <= limits.chunk_extensions_bytes_max;
  return fits ? ParseError::kNone : ParseError::kChunkExtension;
}

// The trailer section is collected whole, then parsed like a head. A section that is just CR LF, the usual case, needs
// no memory: `digits_` says whether its CR was seen.
ParseError BodyReader::trailer_byte(char c, const Limits& limits) {
  if (!trailers_) {
    if (digits_ == 0 && c == '\r') {
      digits_ = 1;
      return ParseError::kNone;
    }
    if (digits_ == 1) {
      if (c != '\n') return ParseError::kTrailer;
      done_ = true;
      return ParseError::kNone;
    }
    trailers_ = std::make_unique<std::string>();
  }
  if (trailers_->size() >= limits.trailer_bytes_max) return ParseError::kTrailer;
  if (c == '\n' && !trailers_->ends_with('\r')) return ParseError::kTrailer;
  trailers_->push_back(c);
  return trailers_->ends_with("\r\n\r\n") ? finish_trailers(limits) : ParseError::kNone;
}

ParseError BodyReader::finish_trailers(const Limits& limits) {
  auto head = std::make_unique<Head>();
  head->start(Head::Kind::kTrailer);
  const std::string raw = std::move(*trailers_);
  if (head->parse(raw.data(), raw.size(), limits) != Progress::kComplete || head->size() != raw.size()) {
    return ParseError::kTrailer;
  }
  trailers_->clear();
  for (size_t i = 0; i < head->field_count; ++i) {
    const Field& field = head->fields[i];
    if (field.id != FieldId::kOther) continue;  // RFC 9110 6.5.1
    trailers_->append(head->name(raw.data(), field)).append(": ").append(head->value(raw.data(), field)).append("\r\n");
  }
  done_ = true;
  return ParseError::kNone;
}

BodyReader::Step BodyReader::next_chunked(const char* data, size_t size, const Limits& limits) {
  Step step;
  while (step.consumed < size && !done_) {
    const char c = data[step.consumed];
    switch (state_) {
      case State::kSize:
        step.error = size_byte(c);
        break;
      case State::kExtension:
        step.error = extension_byte(c, limits);
        break;
      case State::kSizeLf:
        if (c != '\n') step.error = ParseError::kChunkSize;
        state_ = left_ > 0 ? State::kData : State::kTrailer;
        digits_ = 0;
        extension_bytes_ = 0;
        break;
      case State::kData: {
        const size_t n = static_cast<size_t>(std::min<uint64_t>(size - step.consumed, left_));
        step.payload = data + step.consumed;
        step.payload_size = n;
        step.consumed += n;
        left_ -= n;
        if (left_ == 0) state_ = State::kDataCr;
        return step;
      }
      case State::kDataCr:
        if (c != '\r') step.error = ParseError::kChunkEnd;
        state_ = State::kDataLf;
        break;
      case State::kDataLf:
        if (c != '\n') step.error = ParseError::kChunkEnd;
        state_ = State::kSize;
        break;
      case State::kTrailer:
        step.error = trailer_byte(c, limits);
        break;
    }
    if (step.error != ParseError::kNone) return step;
    ++step.consumed;
  }
  return step;
}

}  // namespace tallygate::http1
