#include "sidecar/admission/path.h"

namespace tallygate::sidecar {
namespace {

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool unreserved(int c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
         c == '~';
}

bool is_plain(std::string_view path) {
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '%') return false;
    if (path[i] == '/' && i + 1 < path.size() && (path[i + 1] == '/' || path[i + 1] == '.')) return false;
  }
  return true;
}

}  // namespace

std::string_view plain_path(std::string_view path, std::string* room) {
  if (path.empty() || path[0] != '/' || is_plain(path)) [[likely]] return path;
  std::string& out = *room;
  out.clear();
  // Ends a segment that is done, or goes up.
  const auto close = [&out] {
    const size_t slash = out.rfind('/');
    const std::string_view last = std::string_view(out).substr(slash + 1);
    if (last == "..") {
      const size_t before = slash == 0 ? std::string::npos : out.rfind('/', slash - 1);
      out.resize(before == std::string::npos ? 1 : before + 1);
    } else if (last == ".") {
      out.resize(slash + 1);
    } else if (!last.empty()) {
      return true;
    }
    return false;
  };
  out += '/';
  for (size_t i = 1; i < path.size(); ++i) {
    if (path[i] == '/') {
      if (close()) out += '/';
      continue;
    }
    if (path[i] == '%' && i + 2 < path.size() && hex(path[i + 1]) >= 0 && hex(path[i + 2]) >= 0) {
      const int c = hex(path[i + 1]) * 16 + hex(path[i + 2]);
      if (unreserved(c)) {
        out += static_cast<char>(c);
        i += 2;
        continue;
      }
    }
    out += path[i];
  }
  close();
  return out;
}

}  // namespace tallygate::sidecar
