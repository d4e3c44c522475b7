#include "core/path/normal_form.h"

#include <algorithm>

#include "core/path/escapes.h"

namespace tallygate::path {
namespace {

// Ends the segment that `out` ends with, if it is one of dots. False: it leads above the root.
bool close_segment(std::string* out) {
  const size_t slash = out->rfind('/');
  const std::string_view last = std::string_view(*out).substr(slash + 1);
  if (last == "..") {
    if (slash == 0) return false;
    out->resize(out->rfind('/', slash - 1) + 1);
  } else if (last == ".") {
    out->resize(slash + 1);
  }
  return true;
}

char capital(char c) { return c >= 'a' && c <= 'f' ? static_cast<char>(c - 0x20) : c; }

}  // namespace

Fault normal_form(std::string_view path, std::string* out) {
  out->assign("/");
  for (size_t i = 1; i < path.size(); ++i) {
    if (path[i] == '/') {
      if (!close_segment(out)) return Fault::kAboveRoot;
      if (!out->ends_with('/')) *out += '/';
      continue;
    }
    if (path[i] != '%') {
      *out += path[i];
      continue;
    }
    const int byte = escaped_byte(path, i);
    if (byte < 0) return Fault::kBrokenEscape;
    if (is_control(byte)) return Fault::kForbiddenByte;
    if (is_ordinary(byte)) {
      *out += static_cast<char>(byte);
    } else {
      *out += {'%', capital(path[i + 1]), capital(path[i + 2])};
    }
    i += 2;
  }
  return close_segment(out) ? Fault::kNone : Fault::kAboveRoot;
}

Result<std::string> route_path(std::string_view text) {
  std::string normal;
  if (text.empty() || text.front() != '/') return fail(Errc::kInvalid, "begin it with /");
  if (const Fault fault = normal_form(text, &normal); fault != Fault::kNone) {
    return fail(Errc::kInvalid, std::string(words(fault)));
  }
  for (const char c : open_escapes(normal)) {
    if (!is_structural(static_cast<unsigned char>(c)) || c == '/') continue;
    return fail(Errc::kInvalid, std::string("servers do not agree on what \"") + c +
                                    "\" means in a path, escaped or not: end the value before it and use PathPrefix");
  }
  return normal;
}

}  // namespace tallygate::path
