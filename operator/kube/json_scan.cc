#include "operator/kube/json_scan.h"

#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

namespace tallygate::kube::json {
namespace {

constexpr size_t kNowhere = std::string_view::npos;

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

size_t skip_blanks(std::string_view text, size_t at) {
  while (at < text.size() && is_blank(text[at])) ++at;
  return at;
}

// `at` is its opening quote; → behind the closing one.
size_t skip_string(std::string_view text, size_t at) {
  const size_t start = ++at;
  while (at < text.size()) {
    const void* quote = std::memchr(text.data() + at, '"', text.size() - at);
    if (quote == nullptr) return kNowhere;
    at = static_cast<size_t>(static_cast<const char*>(quote) - text.data());
    size_t escapes = 0;
    while (at - escapes > start && text[at - escapes - 1] == '\\') ++escapes;
    ++at;
    if (escapes % 2 == 0) return at;
  }
  return kNowhere;
}

// Behind the value at `at`.
size_t skip_value(std::string_view text, size_t at) {
  if (at >= text.size()) return kNowhere;
  if (text[at] == '"') return skip_string(text, at);
  if (text[at] != '{' && text[at] != '[') {
    const size_t end = text.find_first_of(",]} \n\t\r", at);
    return end == at ? kNowhere : std::min(end, text.size());
  }
  size_t depth = 0;
  while (at < text.size()) {
    switch (text[at]) {
      case '"':
        at = skip_string(text, at);
        if (at == kNowhere) return kNowhere;
        continue;
      case '{':
      case '[':
        ++depth;
        break;
      case '}':
      case ']':
        if (--depth == 0) return at + 1;
        break;
      default:
        break;
    }
    ++at;
  }
  return kNowhere;
}

// Walks what is between `open` and `close`, each part with `take`, which moves `at` behind it, or to kNowhere, and says
// whether to go on.
template <class Take>
bool walk(std::string_view text, char open, char close, Take take) {
  size_t at = skip_blanks(text, 0);
  if (at >= text.size() || text[at] != open) return false;
  at = skip_blanks(text, at + 1);
  if (at < text.size() && text[at] == close) return skip_blanks(text, at + 1) == text.size();
  while (true) {
    if (!take(at)) return true;
    if (at == kNowhere) return false;
    at = skip_blanks(text, at);
    if (at >= text.size()) return false;
    if (text[at] == close) return skip_blanks(text, at + 1) == text.size();
    if (text[at] != ',') return false;
    at = skip_blanks(text, at + 1);
  }
}

}  // namespace

bool each_member(std::string_view text, const OnMember& on_member) {
  return walk(text, '{', '}', [&](size_t& at) {
    const size_t key_at = at;
    const size_t key_end = at < text.size() && text[at] == '"' ? skip_string(text, at) : kNowhere;
    at = kNowhere;
    if (key_end == kNowhere) return true;
    const size_t colon = skip_blanks(text, key_end);
    if (colon >= text.size() || text[colon] != ':') return true;
    const size_t value_at = skip_blanks(text, colon + 1);
    at = skip_value(text, value_at);
    if (at == kNowhere) return true;
    return on_member(text.substr(key_at + 1, key_end - key_at - 2), text.substr(value_at, at - value_at));
  });
}

bool each_item(std::string_view text, const OnItem& on_item) {
  return walk(text, '[', ']', [&](size_t& at) {
    const size_t value_at = at;
    at = skip_value(text, at);
    return at == kNowhere || on_item(text.substr(value_at, at - value_at));
  });
}

std::string string_of(std::string_view value) {
  if (value.size() < 2 || value.front() != '"') return {};
  if (value.find('\\') == kNowhere) return std::string(value.substr(1, value.size() - 2));
  const auto parsed = nlohmann::json::parse(value, nullptr, false);
  return parsed.is_string() ? parsed.get<std::string>() : std::string();
}

int64_t integer_of(std::string_view value) {
  int64_t number = 0;
  std::from_chars(value.data(), value.data() + value.size(), number);
  return number;
}

}  // namespace tallygate::kube::json
