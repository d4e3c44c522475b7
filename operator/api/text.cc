#include "operator/api/text.h"

#include <algorithm>
#include <charconv>

#include "core/base64.h"
#include "core/time_text.h"
#include "core/utf8.h"

namespace tallygate::api {
namespace {

constexpr int64_t kNano = 1'000'000'000;

// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
int64_t days_from_civil(int64_t year, int month, int day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t era = year / 400;
  const int64_t of_era = year - era * 400;
  const int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146'097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719'468;
}

int days_in(int64_t year, int month) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : kDays[month - 1];
}

// Reads exactly `count` digits.
std::optional<int> digits(std::string_view& text, size_t count) {
  if (text.size() < count) return std::nullopt;
  int value = 0;
  for (size_t i = 0; i < count; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

// "Z" or "+01:00", in seconds; everything must be used up.
std::optional<int64_t> offset_s(std::string_view text) {
  if (text == "Z" || text == "z") return 0;
  const bool behind = text.starts_with('-');
  if (!take(text, "+-")) return std::nullopt;
  const auto hours = digits(text, 2);
  if (!hours || !take(text, ":")) return std::nullopt;
  const auto minutes = digits(text, 2);
  if (!minutes || !text.empty() || *hours > 23 || *minutes > 59) return std::nullopt;
  const int64_t seconds = *hours * 3600 + *minutes * 60;
  return behind ? -seconds : seconds;
}

// ".5": nanoseconds; further digits are dropped.
std::optional<int64_t> fraction_ns(std::string_view& text) {
  if (!take(text, ".")) return 0;
  int64_t ns = 0, unit = kNano / 10;
  size_t count = 0;
  for (; count < text.size() && text[count] >= '0' && text[count] <= '9'; ++count, unit /= 10)
    ns += (text[count] - '0') * unit;
  if (count == 0 || count > 18) return std::nullopt;
  text.remove_prefix(count);
  return ns;
}

}  // namespace

std::optional<int64_t> parse_moment(std::string_view text) {
  const auto year = digits(text, 4);
  if (!year || !take(text, "-")) return std::nullopt;
  const auto month = digits(text, 2);
  if (!month || !take(text, "-")) return std::nullopt;
  const auto day = digits(text, 2);
  if (!day || !take(text, "Tt")) return std::nullopt;
  const auto hour = digits(text, 2);
  if (!hour || !take(text, ":")) return std::nullopt;
  const auto minute = digits(text, 2);
  if (!minute || !take(text, ":")) return std::nullopt;
  const auto second = digits(text, 2);
  if (!second) return std::nullopt;
  const auto ns = fraction_ns(text);
  const auto offset = offset_s(text);
  if (!ns || !offset || *year < 1970 || *year > 2261 || *month < 1 || *month > 12 || *day < 1 ||
      *day > days_in(*year, *month) || *hour > 23 || *minute > 59 || *second > 59) {
    return std::nullopt;
  }
  const int64_t seconds =
      days_from_civil(*year, *month, *day) * 86'400 + *hour * 3600 + *minute * 60 + *second - *offset;
  if (seconds < 0) return std::nullopt;
  return seconds * kNano + *ns;
}

std::string format_moment(int64_t wall_ns) {
  return wall_ns % kNano / 1000 == 0 ? rfc3339(wall_ns / kNano) : rfc3339_micros(wall_ns);
}

std::string format_moment_sql(std::string_view text) {
  std::string out(text);
  if (out.size() > 10) out[10] = 'T';
  if (out.ends_with("+00")) out.replace(out.size() - 3, 3, "Z");
  return out;
}

bool is_clean_text(std::string_view text) {
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text.front());
    const size_t length = utf8_length(text);
    if (length == 0 || lead < 0x20 || lead == 0x7F) return false;
    if (lead == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0) return false;  // the C1 controls
    text.remove_prefix(length);
  }
  return true;
}

bool is_key(std::string_view text) {
  return !text.empty() && text.size() <= 255 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

std::string make_cursor(char kind, int64_t id) { return base64url_encode(kind + std::to_string(id)); }

std::optional<int64_t> read_cursor(char kind, std::string_view text) {
  const auto plain = base64url_decode(text);
  if (!plain || plain->empty() || plain->front() != kind) return std::nullopt;
  return parse_integer(std::string_view(*plain).substr(1), 1, INT64_MAX);
}

std::optional<int64_t> parse_integer(std::string_view text, int64_t min, int64_t max) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max) return std::nullopt;
  return value;
}

}  // namespace tallygate::api
