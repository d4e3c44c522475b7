#include "sidecar/http/head.h"

#include "core/result.h"
#include "sidecar/http/chars.h"
#include "sidecar/http/field_id.h"

namespace tallygate::http {

void Head::start(Kind kind) {
  kind_ = kind;
  error_ = ParseError::kNone;
  first_line_done_ = kind == Kind::kTrailer;
  skipped_blank_ = host_seen_ = connection_upgrade_ = upgrade_other_ = false;
  listed_count_ = 0;
  line_ = scanned_ = 0;
  method = path = query = authority = reason = request_id = Slice{};
  has_query = absolute_form = chunked = close = keep_alive = upgrade = false;
  te_trailers = has_expect = expect_continue = has_forwarded_for = has_forwarded_proto = false;
  status = 0;
  minor_version = 1;
  content_length = -1;
  request_id_count = 0;
  field_count = 0;
}

// How many bytes from the head's first on the current line may reach, its line end included.
size_t Head::line_cap(const Limits& limits) const {
  switch (kind_) {
    case Kind::kRequest:
      return first_line_done_ ? limits.request_head_bytes_max : line_ + limits.request_line_bytes_max;
    case Kind::kResponse:
      return limits.response_head_bytes_max;
    case Kind::kTrailer:
      return limits.trailer_bytes_max;
  }
  return 0;
}

Progress Head::line_limit_error(const Limits&) {
  if (kind_ == Kind::kTrailer) fail(ParseError::kTrailer);
  else fail(kind_ == Kind::kRequest && !first_line_done_ ? ParseError::kTargetTooLong : ParseError::kHeadTooLarge);
  return Progress::kError;
}

Progress Head::parse(const char* data, size_t size, const Limits& limits) {
  for (;;) {
    const size_t cap = line_cap(limits);
    const char* end = data + (size < cap ? size : cap);
    const char* stop = find_control(data, data + scanned_, end);
    if (stop == end || (*stop == '\r' && stop + 1 == end)) {
      if (size >= cap) return line_limit_error(limits);
      scanned_ = static_cast<uint32_t>(stop - data);
      return Progress::kNeedMore;
    }
    if (*stop != '\r') {
      fail(*stop == '\n' ? ParseError::kBareLineEnd : ParseError::kControlCharacter);
      return Progress::kError;
    }
    if (stop[1] != '\n') {
      fail(ParseError::kBareLineEnd);
      return Progress::kError;
    }
    const auto line_end = static_cast<uint32_t>(stop - data);
    if (line_end == line_) {
      if (first_line_done_) {
        line_ = line_end + 2;
        return finish(data) ? Progress::kComplete : Progress::kError;
      }
      // RFC 9112 2.2: one empty line before a request line is ignored.
      if (kind_ != Kind::kRequest || skipped_blank_) {
        fail(kind_ == Kind::kRequest ? ParseError::kRequestLine : ParseError::kStatusLine);
        return Progress::kError;
      }
      skipped_blank_ = true;
    } else if (!(first_line_done_ ? parse_field(data, line_end, limits) : parse_first_line(data, line_end, limits))) {
      return Progress::kError;
    }
    line_ = scanned_ = line_end + 2;
  }
}

bool Head::parse_first_line(const char* data, uint32_t end, const Limits& limits) {
  first_line_done_ = true;
  return kind_ == Kind::kRequest ? parse_request_line(data, end, limits) : parse_status_line(data, end);
}

bool Head::parse_request_line(const char* data, uint32_t end, const Limits& limits) {
  const char* begin = data + line_;
  const char* stop = data + end;
  const char* space = skip_class(begin, stop, kTokenChar);
  if (space == begin || space == stop || *space != ' ') return fail(ParseError::kMethod);
  method = {line_, static_cast<uint32_t>(space - begin)};
  const auto target = static_cast<uint32_t>(space + 1 - data);
  const char* target_end = skip_class(data + target, stop, kTargetChar);
  if (target_end == data + target) return fail(ParseError::kRequestLine);
  if (target_end == stop) return fail(ParseError::kRequestLine);
  if (*target_end != ' ') return fail(ParseError::kTarget);
  // HTTP/d.d and nothing else.
  const char* version = target_end + 1;
  if (stop - version != 8 || std::memcmp(version, "HTTP/", 5) != 0 || !has_class(version[5], kDigitChar) ||
      version[6] != '.' || !has_class(version[7], kDigitChar)) {
    return fail(ParseError::kRequestLine);
  }
  if (version[5] != '1' || version[7] > '1') {
    const bool preface = view(data, method) == "PRI" && version[5] == '2';
    return fail(preface ? ParseError::kHttp2Preface : ParseError::kVersion);
  }
  minor_version = version[7] - '0';
  if (method.size > limits.method_bytes_max) return fail(ParseError::kMethodTooLong);
  if (method.size == 7 && std::memcmp(begin, "CONNECT", 7) == 0) return fail(ParseError::kConnectMethod);
  return parse_target(data, target, static_cast<uint32_t>(target_end - data));
}

bool Head::parse_target(const char* data, uint32_t begin, uint32_t end) {
  if (data[begin] == '/') return set_path(data, begin, end);
  if (data[begin] == '*' && end - begin == 1) {
    if (view(data, method) != "OPTIONS") return fail(ParseError::kTarget);
    path = {begin, 1};
    return true;
  }
  return parse_absolute_target(data, begin, end);
}

bool Head::parse_absolute_target(const char* data, uint32_t begin, uint32_t end) {
  const std::string_view target(data + begin, end - begin);
  size_t scheme = 0;
  if (equals_lower(target.substr(0, 7), "http://")) scheme = 7;
  else if (equals_lower(target.substr(0, 8), "https://")) scheme = 8;
  else return fail(ParseError::kTarget);
  const size_t slash = std::min(target.find_first_of("/?", scheme), target.size());
  if (!valid_authority(target.substr(scheme, slash - scheme))) return fail(ParseError::kTarget);
  absolute_form = true;
  authority = {begin + static_cast<uint32_t>(scheme), static_cast<uint32_t>(slash - scheme)};
  return set_path(data, begin + static_cast<uint32_t>(slash), end);
}

// `begin` is at the path's slash, at the question mark of an empty path, or at the end.
bool Head::set_path(const char* data, uint32_t begin, uint32_t end) {
  const void* mark = begin == end ? nullptr : std::memchr(data + begin, '?', end - begin);
  if (mark == nullptr) {
    path = {begin, end - begin};
    return true;
  }
  const auto at = static_cast<uint32_t>(static_cast<const char*>(mark) - data);
  path = {begin, at - begin};
  query = {at + 1, end - at - 1};
  has_query = true;
  return true;
}

// HTTP/1.x SP 3DIGIT [SP reason]. The last space may be missing: many servers leave it out with an empty reason.
bool Head::parse_status_line(const char* data, uint32_t end) {
  const char* p = data + line_;
  const size_t size = end - line_;
  if (size < 12 || std::memcmp(p, "HTTP/1.", 7) != 0 || p[8] != ' ') return fail(ParseError::kStatusLine);
  if (p[7] != '0' && p[7] != '1') return fail(ParseError::kVersion);
  minor_version = p[7] - '0';
  for (int i = 9; i < 12; ++i) {
    if (!has_class(p[i], kDigitChar)) return fail(ParseError::kStatusLine);
    status = status * 10 + (p[i] - '0');
  }
  if (status < 100 || status > 599) return fail(ParseError::kStatusLine);
  if (size == 12) return true;
  if (p[12] != ' ') return fail(ParseError::kStatusLine);
  reason = {line_ + 13, end - line_ - 13};
  return true;
}

bool Head::parse_field(const char* data, uint32_t end, const Limits& limits) {
  const char* begin = data + line_;
  const char* stop = data + end;
  const char* colon = skip_class(begin, stop, kTokenChar);
  if (colon == begin && (*begin == ' ' || *begin == '\t')) return fail(ParseError::kObsoleteFold);
  if (colon == stop) return fail(ParseError::kFieldLine);
  if (colon == begin || *colon != ':' || colon - begin > UINT16_MAX) return fail(ParseError::kFieldName);
  if (field_count >= limits.fields_max || field_count >= kFieldsCapacity) return fail(ParseError::kTooManyFields);
  const char* value = colon + 1;
  while (value != stop && (*value == ' ' || *value == '\t')) ++value;
  const char* value_end = stop;
  while (value_end != value && (value_end[-1] == ' ' || value_end[-1] == '\t')) --value_end;

  Field& field = fields[field_count++];
  field.line = line_;
  field.value = static_cast<uint32_t>(value - data);
  field.value_size = static_cast<uint32_t>(value_end - value);
  field.name_size = static_cast<uint16_t>(colon - begin);
  field.plain = value == colon + 2 && colon[1] == ' ' && value_end == stop;
  field.hop_by_hop = false;
  field.id = field_id(begin, field.name_size);
  return field.id == FieldId::kOther || note_field(data, field);
}

}  // namespace tallygate::http
