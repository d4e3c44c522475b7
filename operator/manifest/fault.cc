#include "operator/manifest/fault.h"

#include <algorithm>

namespace tallygate::manifest {
namespace {

// Optimal string alignment distance: insert, delete, replace, swap neighbours; case costs nothing.
size_t distance(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + replace});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1])) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

const char* to_string(Reason reason) {
  switch (reason) {
    case Reason::kSyntax:
      return "Syntax";
    case Reason::kUnknownField:
      return "UnknownField";
    case Reason::kUnknownKind:
      return "UnknownKind";
    case Reason::kRequired:
      return "Required";
    case Reason::kInvalidValue:
      return "InvalidValue";
    case Reason::kOutOfRange:
      return "OutOfRange";
    case Reason::kImmutable:
      return "Immutable";
    case Reason::kNotFound:
      return "NotFound";
    case Reason::kDuplicate:
      return "Duplicate";
    case Reason::kConflict:
      return "Conflict";
    case Reason::kTooMany:
      return "TooMany";
    case Reason::kUnsupportedFeature:
      return "UnsupportedFeature";
    case Reason::kNotInForceYet:
      return "NotInForceYet";
    case Reason::kTrustsEveryone:
      return "TrustsEveryone";
  }
  return "Unknown";
}

std::string to_string(const Fault& fault) {
  std::string text = fault.file;
  if (fault.line > 0) text += ":" + std::to_string(fault.line);
  const auto part = [&](const std::string& what) {
    if (what.empty()) return;
    if (!text.empty()) text += ": ";
    text += what;
  };
  part(fault.object);
  part(fault.field);
  part(to_string(fault.reason));
  part(fault.message);
  if (!fault.fix.empty()) text += " (fix: " + fault.fix + ")";
  return text;
}

std::string_view did_you_mean(std::string_view word, const std::vector<std::string_view>& candidates) {
  if (word.size() > 64) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;  // the first that is too far
  for (const auto candidate : candidates) {
    const size_t d = distance(word, candidate);
    if (d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

}  // namespace tallygate::manifest
