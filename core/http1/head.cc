#include "core/http1/head.h"

#include <algorithm>

#include "core/http1/chars.h"
#include "core/http1/field_id.h"

namespace tallygate::http1 {

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

// The bytes so far are well-formed, but the line is not complete. At the cap there will not be more of them.
Progress Head::wait(const char* data, const char* scanned, bool at_cap) {
  if (at_cap) {
    if (kind_ == Kind::kTrailer) return failed(ParseError::kTrailer);
    const bool first = kind_ == Kind::kRequest && !first_line_done_;
    return failed(first ? ParseError::kTargetTooLong : ParseError::kHeadTooLarge);
  }
  scanned_ = static_cast<uint32_t>(scanned - data);
  return Progress::kNeedMore;
}

Progress Head::parse(const char* data, size_t size, const Limits& limits) {
  if (!first_line_done_) {
    const Progress progress = parse_first_line(data, size, limits);
    if (progress != Progress::kComplete) return progress;
  }
  return parse_fields(data, size, limits);
}

Progress Head::parse_first_line(const char* data, size_t size, const Limits& limits) {
  for (;;) {
    // The head's limit holds for its first line too: parse_fields() goes on from the line's end.
    const size_t cap = kind_ == Kind::kRequest
                           ? std::min<size_t>(line_ + limits.request_line_bytes_max, limits.request_head_bytes_max)
                           : limits.response_head_bytes_max;
    const char* end = data + std::min(size, cap);
    const char* stop = find_control(data, data + scanned_, end);
    if (stop == end || (*stop == '\r' && stop + 1 == end)) return wait(data, stop, size >= cap);
    if (*stop != '\r') return failed(*stop == '\n' ? ParseError::kBareLineEnd : ParseError::kControlCharacter);
    if (stop[1] != '\n') return failed(ParseError::kBareLineEnd);
    const auto line_end = static_cast<uint32_t>(stop - data);
    const bool blank = line_end == line_;
    if (blank && kind_ == Kind::kResponse) return failed(ParseError::kStatusLine);
    if (blank && skipped_blank_) return failed(ParseError::kRequestLine);
    if (!blank &&
        !(kind_ == Kind::kRequest ? parse_request_line(data, line_end, limits) : parse_status_line(data, line_end))) {
      return Progress::kError;
    }
    line_ = scanned_ = line_end + 2;
    first_line_done_ = !blank;
    if (!blank) return Progress::kComplete;
    skipped_blank_ = true;  // RFC 9112 2.2: one empty line before a request line is ignored
  }
}

// Of a line whose name does not end in a colon.
ParseError Head::line_error(const char* begin, const char* colon, const char* stop) const {
  if (*begin == ' ' || *begin == '\t') return ParseError::kObsoleteFold;
  return colon == stop ? ParseError::kFieldLine : ParseError::kFieldName;
}

// [begin, stop) is the line, `end` that of what may be read.
[[gnu::always_inline]] inline bool Head::add_field(const char* data, const char* begin, const char* stop,
                                                   const char* end, const Limits& limits) {
  const char* colon = skip_token(begin, end);
  if (*colon != ':' || colon == begin || colon - begin > UINT16_MAX) return fail(line_error(begin, colon, stop));
  const size_t count = field_count;
  if (count >= limits.fields_max || count >= kFieldsCapacity) return fail(ParseError::kTooManyFields);
  // "Name: value" with nothing around the value, as a rule. colon[2] may be the line's end, which is not above ' '.
  const char* value = colon + 2;
  const char* value_end = stop;
  const bool plain =
      colon[1] == ' ' && static_cast<unsigned char>(colon[2]) > ' ' && static_cast<unsigned char>(stop[-1]) > ' ';
  if (!plain) {
    value = colon + 1;
    while (value != stop && (*value == ' ' || *value == '\t')) ++value;
    while (value_end != value && (value_end[-1] == ' ' || value_end[-1] == '\t')) --value_end;
  }
  const auto name_size = static_cast<uint16_t>(colon - begin);
  const FieldId id = field_id(begin, name_size);
  fields[count] = Field{static_cast<uint32_t>(begin - data),
                        static_cast<uint32_t>(value - data),
                        static_cast<uint32_t>(value_end - value),
                        name_size,
                        id,
                        plain,
                        false};
  field_count = count + 1;
  return id == FieldId::kOther || id == FieldId::kProtected || note_field(data, fields[count]);
}

// The search for a line's end starts at its first byte, though the name will be looked at again: the ends of lines are
// then the only chain of dependent steps, and the processor looks into the lines beside it.
Progress Head::parse_fields(const char* data, size_t size, const Limits& limits) {
  size_t cap = limits.request_head_bytes_max;
  if (kind_ != Kind::kRequest)
    cap = kind_ == Kind::kResponse ? limits.response_head_bytes_max : limits.trailer_bytes_max;
  const char* end = data + std::min(size, cap);
  for (;;) {
    const char* stop = find_control(data, data + scanned_, end);
    if (stop == end || (*stop == '\r' && stop + 1 == end)) return wait(data, stop, size >= cap);
    if (*stop != '\r') return failed(*stop == '\n' ? ParseError::kBareLineEnd : ParseError::kControlCharacter);
    if (stop[1] != '\n') return failed(ParseError::kBareLineEnd);
    const auto next = static_cast<uint32_t>(stop - data) + 2;
    if (next == line_ + 2) {
      line_ = next;
      return finish(data) ? Progress::kComplete : Progress::kError;
    }
    if (!add_field(data, data + line_, stop, end, limits)) return Progress::kError;
    line_ = scanned_ = next;
  }
}

bool Head::parse_request_line(const char* data, uint32_t end, const Limits& limits) {
  const char* begin = data + line_;
  const char* stop = data + end;
  const char* space = skip_class(begin, stop, kTokenChar);
  if (space == begin || space == stop || *space != ' ') return fail(ParseError::kMethod);
  method = {line_, static_cast<uint32_t>(space - begin)};
  // Methods have a case, and none that is known has small letters. Many apps ignore it: they would take `post` for
  // POST.
  if (std::any_of(begin, space, [](char c) { return c >= 'a' && c <= 'z'; })) return fail(ParseError::kMethodCase);
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
  if (equals_lower(target.substr(0, 7), "http://"))
    scheme = 7;
  else if (equals_lower(target.substr(0, 8), "https://"))
    scheme = 8;
  else
    return fail(ParseError::kTarget);
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

}  // namespace tallygate::http1
