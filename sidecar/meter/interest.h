// Whether an event may hold anything that usage is read from: most do not, and are not read further.
#pragma once

#include <cstring>
#include <string_view>

#include "sidecar/meter/bytes.h"

namespace tallygate::meter {

namespace detail {

// `p` is at a quoted word of five letters that ends before `end`: whether it is a key that matters with a value that
// does.
inline bool matters(const char* p, const char* end) {
  if (std::memcmp(p, "\"usage\"", 7) != 0 && std::memcmp(p, "\"error\"", 7) != 0) return false;
  p += 7;
  while (p < end && (*p == ' ' || *p == ':')) ++p;
  return end - p < 4 || std::memcmp(p, "null", 4) != 0;
}

}  // namespace detail

// `event` is a whole JSON text. False only where no object in it has a key "usage" or "error" with a value that is not
// null, however the key is spelled.
inline bool may_hold_usage(std::string_view event) {
  const char *p = event.data(), *end = p + event.size();
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), u = _mm_set1_epi8('u'),
                zero = _mm_set1_epi8('0');
  const auto load = [](const char* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); };
  for (; end - p >= 16 + 6; p += 16) {
    const __m128i first = load(p);
    const __m128i words = _mm_and_si128(_mm_cmpeq_epi8(first, quote), _mm_cmpeq_epi8(load(p + 6), quote));
    // \u00xx may spell a letter of a key.
    const __m128i escapes = _mm_and_si128(_mm_and_si128(_mm_cmpeq_epi8(first, slash), _mm_cmpeq_epi8(load(p + 1), u)),
                                          _mm_cmpeq_epi8(load(p + 2), zero));
    auto hits = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(words, escapes)));
    for (; hits != 0; hits &= hits - 1) {
      const char* hit = p + __builtin_ctz(hits);
      if (*hit == '\\' || detail::matters(hit, end)) return true;
    }
  }
#endif
  for (; end - p >= 3; ++p) {
    if (*p == '\\' && p[1] == 'u' && p[2] == '0') return true;
    if (*p == '"' && end - p >= 7 && p[6] == '"' && detail::matters(p, end)) return true;
  }
  return false;
}

}  // namespace tallygate::meter
