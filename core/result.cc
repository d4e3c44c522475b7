#include "core/result.h"

#include <cstdio>
#include <cstdlib>

namespace tallygate {

const char* to_string(Errc errc) {
  switch (errc) {
    case Errc::kInvalid: return "invalid";
    case Errc::kNotFound: return "not_found";
    case Errc::kConflict: return "conflict";
    case Errc::kUnavailable: return "unavailable";
    case Errc::kTimeout: return "timeout";
    case Errc::kExhausted: return "exhausted";
    case Errc::kInternal: return "internal";
  }
  return "unknown";
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "assertion failed: %s (%s:%d)\n", expression, file, line);
  std::abort();
}

}  // namespace tallygate
