// Percent-encoding (RFC 3986, 2.1), byte by byte.
#pragma once

#include <string_view>

namespace tallygate::path {

constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The byte that the escape at `at` stands for; -1 where there is none, or a broken one.
constexpr int escaped_byte(std::string_view text, size_t at) {
  if (at + 2 >= text.size() || text[at] != '%') return -1;
  const int high = hex_digit(text[at + 1]), low = hex_digit(text[at + 2]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

constexpr bool is_control(int byte) { return (byte >= 0 && byte < 0x20) || byte == 0x7f; }

// Bytes that have no other spelling in a URL than their escape: blank, what is not ASCII, and the excluded ones of RFC
// 2396, 2.4.3.
constexpr bool is_always_escaped(int byte) {
  return byte == ' ' || byte >= 0x80 ||
         (byte > 0 && std::string_view("\"<>^`{|}").find(static_cast<char>(byte)) != std::string_view::npos);
}

// Bytes that say how a path is to be taken apart, or could be taken for that.
constexpr bool is_structural(int byte) {
  return byte > 0 && byte < 0x80 && std::string_view("/\\;?#%").find(static_cast<char>(byte)) != std::string_view::npos;
}

// Bytes that may stand in a path as they are, and mean the same there as escaped: unreserved ones, sub-delims but ";",
// ":" and "@".
constexpr bool is_ordinary(int byte) {
  return byte > 0x20 && byte < 0x7f && !is_structural(byte) && !is_always_escaped(byte);
}

}  // namespace tallygate::path
