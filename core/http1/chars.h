// Character classes of RFC 9110 and RFC 3986, and scans over them that never read past `end`.
#pragma once

#include <emmintrin.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace tallygate::http1 {

enum CharClass : uint8_t {
  kTokenChar = 1,   // RFC 9110 5.6.2
  kTargetChar = 2,  // visible ASCII without '#': what a request target may hold
  kHostChar = 4,    // reg-name of RFC 3986 3.2.2
  kIdChar = 8,      // what a request id may hold: harmless in logs, JSON and URLs
  kDigitChar = 16,
};

namespace detail {
constexpr std::array<uint8_t, 256> make_classes() {
  std::array<uint8_t, 256> table{};
  const auto mark = [&table](std::string_view chars, uint8_t classes) {
    for (const char c : chars) table[static_cast<unsigned char>(c)] |= classes;
  };
  constexpr std::string_view kAlpha = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr std::string_view kDigits = "0123456789";
  mark(kAlpha, kTokenChar | kHostChar | kIdChar);
  mark(kDigits, kTokenChar | kHostChar | kIdChar | kDigitChar);
  mark("!#$%&'*+-.^_`|~", kTokenChar);
  mark("-._~%!$&'()*+,;=", kHostChar);
  mark("-._~+=/:", kIdChar);
  for (int c = 0x21; c <= 0x7e; ++c) {
    if (c != '#') table[static_cast<size_t>(c)] |= kTargetChar;
  }
  return table;
}
}  // namespace detail

inline constexpr std::array<uint8_t, 256> kCharClasses = detail::make_classes();

inline bool has_class(char c, uint8_t char_class) { return kCharClasses[static_cast<unsigned char>(c)] & char_class; }

// The first byte in [p, end) that is not of the class, or end.
inline const char* skip_class(const char* p, const char* end, uint8_t char_class) {
  while (p != end && has_class(*p, char_class)) ++p;
  return p;
}

inline bool all_of_class(std::string_view text, uint8_t char_class) {
  return skip_class(text.data(), text.data() + text.size(), char_class) == text.data() + text.size();
}

// One bit per byte of the 16 at `p`: set for control characters other than HTAB, and DEL.
inline unsigned control_mask(const char* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
  const __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
  const __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_andnot_si128(tab, _mm_or_si128(low, del))));
}

// The first control character other than HTAB in [p, end), or end. `begin` ≤ p is where readable memory starts: the
// last, short block is read from before `p` where it can be, and shifted.
inline const char* find_control(const char* begin, const char* p, const char* end) {
  for (; end - p >= 16; p += 16) {
    if (const unsigned mask = control_mask(p)) return p + __builtin_ctz(mask);
  }
  if (p == end) return end;
  if (end - begin >= 16) {
    const unsigned mask = control_mask(end - 16) >> (16 - (end - p));
    return mask ? p + __builtin_ctz(mask) : end;
  }
  for (; p != end; ++p) {
    const auto c = static_cast<unsigned char>(*p);
    if ((c < 0x20 && c != '\t') || c == 0x7f) return p;
  }
  return end;
}

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

namespace detail {
constexpr std::array<char, 256> make_folds() {
  std::array<char, 256> folds{};
  for (size_t i = 0; i < folds.size(); ++i) {
    const char c = lower(static_cast<char>(i));
    folds[i] = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '-';
  }
  return folds;
}
inline constexpr std::array<char, 256> kFolds = make_folds();
}  // namespace detail

// A character of a field name as apps may confuse them: many a server makes X-Tenant-Id, x_tenant_id and X.Tenant.Id
// one variable (CGI, WSGI, PHP). Letters are lowered, and '-' stands for whatever is no letter and no digit.
constexpr char fold_name_char(char c) { return detail::kFolds[static_cast<unsigned char>(c)]; }

inline std::string fold_name(std::string_view name) {
  std::string folded(name);
  for (char& c : folded) c = fold_name_char(c);
  return folded;
}

// skip_class(p, end, kTokenChar), fast for what field names are made of as a rule: letters, digits and '-'.
inline const char* skip_token(const char* p, const char* end) {
  while (end - p >= 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i letter = _mm_sub_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    const __m128i digit = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
    const __m128i plain = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter),
                                                    _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit)),
                                       _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
    const unsigned other = static_cast<unsigned>(_mm_movemask_epi8(plain)) ^ 0xffff;
    if (other == 0) {
      p += 16;
      continue;
    }
    p += __builtin_ctz(other);
    if (*p == ':') return p;
    break;  // one of the rarer characters: byte by byte from here
  }
  return skip_class(p, end, kTokenChar);
}

// Case-insensitive; `lower_text` is in lower case already.
inline bool equals_lower(std::string_view text, std::string_view lower_text) {
  if (text.size() != lower_text.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != lower_text[i]) return false;
  }
  return true;
}

inline std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace tallygate::http1
