#include "core/path/readings.h"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "core/path/escapes.h"

namespace tallygate::path {
namespace {

constexpr size_t kReadingsMax = 96;
constexpr size_t kBytesMax = 128 * 1024;  // of all readings that were formed, known ones too

// One bit for each of the 16 bytes that is `c`.
inline unsigned bytes_equal(__m128i bytes, char c) {
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(c))));
}

// Not 0 where the 16 bytes at `p` are not plain. `behind_slash`: the byte before them is a slash; set for those after.
inline unsigned find_in_block(const char* p, unsigned* behind_slash) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const unsigned slashes = bytes_equal(bytes, '/');
  const unsigned behind = slashes << 1 | *behind_slash;
  *behind_slash = slashes >> 15;
  return bytes_equal(bytes, '%') | bytes_equal(bytes, '\\') | bytes_equal(bytes, ';') |
         (behind & (slashes | bytes_equal(bytes, '.')));
}

// --- Steps: each gives what is left of `text`, or has a fault ---------------------------------------------------

struct Step {
  std::string_view mark;  // does nothing where there is none
  Fault (*run)(std::string_view text, std::string* out);
  bool decodes_percent = false;  // and so brings up new escapes
};

template <class Wanted>
Fault decode(std::string_view text, std::string* out, Wanted wanted) {
  for (size_t i = 0; i < text.size(); ++i) {
    const int byte = escaped_byte(text, i);
    if (byte >= 0 && wanted(byte)) {
      *out += static_cast<char>(byte);
      i += 2;
    } else {
      *out += text[i];
    }
  }
  return Fault::kNone;
}

// Of a level that decoding "%25" brought up, bytes that have no other spelling come with the ordinary ones.
Fault decode_ordinary(std::string_view text, std::string* out) {
  return decode(text, out, [](int byte) { return !is_structural(byte); });
}

template <char... kBytes>
Fault decode_these(std::string_view text, std::string* out) {
  return decode(text, out, [](int byte) { return ((byte == kBytes) || ...); });
}

Fault remove_dots(std::string_view text, std::string* out) {
  for (size_t begin = 1; begin <= text.size();) {
    const size_t end = std::min(text.find('/', begin), text.size());
    const std::string_view segment = text.substr(begin, end - begin);
    const bool up = segment == "..";
    if (up) {
      if (out->empty()) return Fault::kAboveRoot;
      out->resize(out->rfind('/'));
    }
    if (!up && segment != ".") {
      *out += '/';
      *out += segment;
    } else if (end == text.size()) {
      *out += '/';
    }
    begin = end + 1;
  }
  return Fault::kNone;
}

Fault merge_slashes(std::string_view text, std::string* out) {
  for (const char c : text) {
    if (c != '/' || !out->ends_with('/')) *out += c;
  }
  return Fault::kNone;
}

// As parsers of whole URLs do: "//host/path" has an authority.
Fault cut_authority(std::string_view text, std::string* out) {
  *out = text;
  if (!text.starts_with("//")) return Fault::kNone;
  const size_t authority = std::min(text.find_first_not_of('/'), text.size());
  *out = text.substr(std::min(text.find('/', authority), text.size()));
  if (out->empty()) *out = "/";
  return Fault::kNone;
}

Fault turn_backslashes(std::string_view text, std::string* out) {
  *out = text;
  std::replace(out->begin(), out->end(), '\\', '/');
  return Fault::kNone;
}

Fault cut_parameters(std::string_view text, std::string* out) {
  bool cut = false;
  for (const char c : text) {
    cut = c != '/' && (cut || c == ';');
    if (!cut) *out += c;
  }
  return Fault::kNone;
}

template <char kFirst>
Fault cut_from(std::string_view text, std::string* out) {
  *out = text.substr(0, text.find(kFirst));
  return Fault::kNone;
}

constexpr Step kSteps[] = {
    {"%", decode_ordinary},        {"%", decode_these<'/'>},       {"%", decode_these<'\\'>}, {"%", decode_these<';'>},
    {"%", decode_these<'?', '#'>}, {"%", decode_these<'%'>, true}, {"/.", remove_dots},       {"//", merge_slashes},
    {"//", cut_authority},         {"\\", turn_backslashes},       {";", cut_parameters},     {";", cut_from<';'>},
    {"?", cut_from<'?'>},          {"#", cut_from<'#'>},
};

// --------------------------------------------------------------------------------------------------------------

// An ASCII character in more bytes than it needs: some decoders take "%c0%ae" for ".".
bool is_overlong(unsigned char first, unsigned char second) {
  return (first == 0xc0 || first == 0xc1 || (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90)) &&
         second >= 0x80 && second < 0xc0;
}

bool has_forbidden_byte(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (is_control(c)) return true;
    if (c >= 0xc0 && i + 1 < text.size() && is_overlong(c, static_cast<unsigned char>(text[i + 1]))) return true;
  }
  return false;
}

// Of the path itself: what a server decodes first.
Fault check_escapes(std::string_view path) {
  for (size_t at = path.find('%'); at != std::string_view::npos; at = path.find('%', at + 1)) {
    const int byte = escaped_byte(path, at);
    if (byte < 0) return Fault::kBrokenEscape;
    if (is_control(byte)) return Fault::kForbiddenByte;
  }
  return Fault::kNone;
}

struct Reading {
  std::string text;
  int percent_decoded = 0;  // how often: twice decoded is the most
};

}  // namespace

bool is_plain(std::string_view path) {
  const char* p = path.data();
  size_t left = path.size();
  unsigned found = 0, behind_slash = 0;
  for (; left >= 16; p += 16, left -= 16) found |= find_in_block(p, &behind_slash);
  char rest[16] = {};
  if (left > 0) std::memcpy(rest, p, left);
  return (found | find_in_block(rest, &behind_slash)) == 0;
}

std::string_view words(Fault fault) {
  switch (fault) {
    case Fault::kNone:
      return "";
    case Fault::kBrokenEscape:
      return "an escape is broken: % is followed by two hexadecimal digits, and is itself %25";
    case Fault::kForbiddenByte:
      return "an escape stands for a control character, or for part of an overlong one";
    case Fault::kAboveRoot:
      return "dot segments lead above the root";
    case Fault::kTooManyReadings:
      return "it can be read in too many ways";
  }
  return "";
}

std::string open_escapes(std::string_view text) {
  std::string out;
  decode(text, &out, is_always_escaped);
  return out;
}

Fault each_reading(std::string_view path, const std::function<bool(std::string_view reading)>& see) {
  if (const Fault fault = check_escapes(path); fault != Fault::kNone) return fault;
  std::deque<Reading> readings{{open_escapes(path), 0}};  // keeps its items where they are
  size_t bytes = 0;
  for (size_t i = 0; i < readings.size(); ++i) {
    const Reading& from = readings[i];
    if (has_forbidden_byte(from.text)) return Fault::kForbiddenByte;
    if (!see(from.text)) return Fault::kNone;
    for (const Step& step : kSteps) {
      if (from.text.find(step.mark) == std::string::npos || (step.decodes_percent && from.percent_decoded > 0))
        continue;
      Reading to{{}, from.percent_decoded + (step.decodes_percent ? 1 : 0)};
      if (const Fault fault = step.run(from.text, &to.text); fault != Fault::kNone) return fault;
      if ((bytes += to.text.size()) > kBytesMax || readings.size() > kReadingsMax) return Fault::kTooManyReadings;
      const bool known = std::any_of(readings.begin(), readings.end(), [&](const Reading& other) {
        return other.percent_decoded <= to.percent_decoded && other.text == to.text;
      });
      if (!known) readings.push_back(std::move(to));
    }
  }
  return Fault::kNone;
}

}  // namespace tallygate::path
