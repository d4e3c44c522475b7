#include "operator/manifest/formats.h"

#include <date/tz.h>

#include <charconv>

#include "core/address.h"
#include "core/ids.h"
#include "core/utf8.h"

namespace tallygate::manifest {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_alnum(char c) { return is_digit(c) || is_alpha(c); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

template <class Fn>
bool all(std::string_view text, Fn fn) {
  for (const char c : text) {
    if (!fn(c)) return false;
  }
  return true;
}

// Reads `count` digits at `at`; false where there are none.
bool digits(std::string_view text, size_t at, size_t count, int* out) {
  *out = 0;
  if (at + count > text.size()) return false;
  for (size_t i = at; i < at + count; ++i) {
    if (!is_digit(text[i])) return false;
    *out = *out * 10 + (text[i] - '0');
  }
  return true;
}

// "." or "..", each dot written out or escaped.
bool is_dot_segment(std::string_view segment) {
  int dots = 0;
  while (!segment.empty()) {
    const bool escaped = segment.starts_with("%2e") || segment.starts_with("%2E");
    if (!escaped && segment.front() != '.') return false;
    segment.remove_prefix(escaped ? 3 : 1);
    ++dots;
  }
  return dots == 1 || dots == 2;
}

}  // namespace

int first_bad_utf8_line(std::string_view text) {
  int line = 1;
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const auto c = static_cast<unsigned char>(text.front());
    if (length == 0 || c == 0x7F || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) return line;
    if (c == '\n') ++line;
    text.remove_prefix(length);
  }
  return 0;
}

Result<int64_t> parse_duration_ms(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::kInvalid, "\"" + std::string(text.substr(0, 40)) + "\" is not a duration (GEP-2257)");
  };
  std::string_view rest = text;
  int64_t total_ms = 0;
  int parts = 0;
  while (!rest.empty()) {
    size_t n = 0;
    int64_t value = 0;
    while (n < rest.size() && n <= 5 && is_digit(rest[n])) value = value * 10 + (rest[n++] - '0');
    if (n == 0 || n > 5 || ++parts > 4) return bad();
    rest.remove_prefix(n);
    if (rest.starts_with("ms")) {
      total_ms += value;
      rest.remove_prefix(2);
      continue;
    }
    if (rest.empty()) return bad();
    switch (rest.front()) {
      case 'h':
        total_ms += value * 3'600'000;
        break;
      case 'm':
        total_ms += value * 60'000;
        break;
      case 's':
        total_ms += value * 1'000;
        break;
      default:
        return bad();
    }
    rest.remove_prefix(1);
  }
  if (parts == 0) return bad();
  return total_ms;
}

Result<int64_t> parse_rfc3339(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::kInvalid, "\"" + std::string(text.substr(0, 40)) + "\" is not an RFC 3339 time in whole seconds");
  };
  int year, month, day, hour, minute, second;
  if (text.size() < 20 || !digits(text, 0, 4, &year) || text[4] != '-' || !digits(text, 5, 2, &month) ||
      text[7] != '-' || !digits(text, 8, 2, &day) || text[10] != 'T' || !digits(text, 11, 2, &hour) ||
      text[13] != ':' || !digits(text, 14, 2, &minute) || text[16] != ':' || !digits(text, 17, 2, &second)) {
    return bad();
  }
  const date::year_month_day ymd{date::year{year}, date::month{static_cast<unsigned>(month)},
                                 date::day{static_cast<unsigned>(day)}};
  if (!ymd.ok() || hour > 23 || minute > 59 || second > 59) return bad();
  int64_t offset_s = 0;
  if (text[19] == 'Z') {
    if (text.size() != 20) return bad();
  } else {
    int offset_hour, offset_minute;
    if (text.size() != 25 || (text[19] != '+' && text[19] != '-') || !digits(text, 20, 2, &offset_hour) ||
        text[22] != ':' || !digits(text, 23, 2, &offset_minute) || offset_hour > 23 || offset_minute > 59) {
      return bad();
    }
    offset_s = (offset_hour * 60 + offset_minute) * 60 * (text[19] == '-' ? -1 : 1);
  }
  const int64_t days = date::sys_days{ymd}.time_since_epoch().count();
  return days * 86'400 + hour * 3600 + minute * 60 + second - offset_s;
}

bool is_time_zone(std::string_view text) {
  if (text.empty() || text.size() > 64) return false;
  try {
    date::locate_zone(text);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

Result<std::string> canonical_cidr(std::string_view text) {
  const size_t slash = text.find('/');
  const auto network = Network::parse(text);
  if (!network && (slash == std::string_view::npos || !parse_address(text.substr(0, slash)))) {
    return fail(Errc::kInvalid, "write it as 10.0.4.0/24 or fd00::/8");
  }
  if (!network) {
    return fail(Errc::kInvalid, std::string("use a prefix length from 0 to ") +
                                    (text.find(':') == std::string_view::npos ? "32" : "128") +
                                    ", without leading zeros");
  }
  if (slash == std::string_view::npos) return fail(Errc::kInvalid, "add the prefix length: " + network->text());
  if (!network->is_canonical()) {
    return fail(Errc::kInvalid, "bits are set past the prefix: write " + network->text());
  }
  return network->text();
}

bool is_display_text(std::string_view text) {
  return !text.empty() && text.front() != ' ' && text.back() != ' ' && first_bad_utf8_line(text) == 0 &&
         all(text, [](char c) { return c != '\n' && c != '\r' && c != '\t'; });
}

bool is_printable_ascii(std::string_view text) {
  return !text.empty() && text.front() != ' ' && text.back() != ' ' &&
         all(text, [](char c) { return c >= 0x20 && c < 0x7F; });
}

bool is_feature_name(std::string_view text) {
  return !text.empty() && text.size() <= 63 && text.front() >= 'a' && text.front() <= 'z' &&
         all(text, [](char c) { return (c >= 'a' && c <= 'z') || is_digit(c) || c == '_' || c == '-'; });
}

bool is_header_name(std::string_view text) {
  return !text.empty() && text.size() <= 64 && all(text, [](char c) {
    return is_alnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool is_json_pointer(std::string_view text) {
  if (text.empty() || text.size() > 256 || text.front() != '/' || !is_display_text(text)) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '~' && (i + 1 == text.size() || (text[i + 1] != '0' && text[i + 1] != '1'))) return false;
  }
  return true;
}

bool is_path(std::string_view text) {
  if (text.empty() || text.size() > 1024 || text.front() != '/') return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c <= 0x20 || c >= 0x7F || c == '?' || c == '#' || c == '\\' || c == '"' || c == '<' || c == '>') return false;
    if (c == '%' && (i + 2 >= text.size() || !is_hex(text[i + 1]) || !is_hex(text[i + 2]))) return false;
    if (c != '/') continue;
    std::string_view segment = text.substr(i + 1);
    segment = segment.substr(0, segment.find('/'));
    if (is_dot_segment(segment) || (segment.empty() && i + 1 != text.size())) return false;
  }
  return true;
}

bool is_host(std::string_view text) { return is_dns_subdomain(to_lower(text)); }

bool is_email(std::string_view text) {
  const size_t at = text.find('@');
  return text.size() <= 254 && at != 0 && at != std::string_view::npos && at <= 64 && is_host(text.substr(at + 1)) &&
         all(text, [](char c) { return c > 0x20 && c < 0x7F && c != ',' && c != ';' && c != '<' && c != '>'; });
}

bool is_https_url(std::string_view text) {
  constexpr std::string_view kScheme = "https://";
  if (text.size() > 512 || !text.starts_with(kScheme)) return false;
  std::string_view host = text.substr(kScheme.size());
  host = host.substr(0, host.find('/'));
  const size_t colon = host.find(':');
  if (colon != std::string_view::npos) {
    const std::string_view port = host.substr(colon + 1);
    if (port.empty() || port.size() > 5 || !all(port, is_digit)) return false;
  }
  return is_host(host.substr(0, colon)) &&
         all(text, [](char c) { return c > 0x20 && c < 0x7F && c != '"' && c != '#'; });
}

bool is_web_origin(std::string_view text) {
  const size_t end = text.find("://");
  if (text.size() > 256 || end == std::string_view::npos || end == 0 || !is_lower(text[0])) return false;
  const std::string_view scheme = text.substr(0, end);
  if (!all(scheme, [](char c) { return is_lower(c) || is_digit(c) || c == '+' || c == '-' || c == '.'; })) return false;
  std::string_view host = text.substr(end + 3);
  std::string_view port;
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    port = host.substr(colon + 1);
    host = host.substr(0, colon);
    if (port.empty() || port.size() > 5 || port[0] == '0' || !all(port, is_digit)) return false;
    if ((scheme == "https" && port == "443") || (scheme == "http" && port == "80")) return false;
  }
  if (host.size() > 4 && host.front() == '[' && host.back() == ']') {
    return all(host.substr(1, host.size() - 2),
               [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || c == ':' || c == '.'; });
  }
  return is_dns_subdomain(host);
}

bool is_api_key_hash(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  return text.size() == kPrefix.size() + 64 && text.starts_with(kPrefix) &&
         all(text.substr(kPrefix.size()), [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

bool is_stripe_customer(std::string_view text) {
  return text.size() > 4 && text.size() <= 255 && text.starts_with("cus_") &&
         all(text.substr(4), [](char c) { return is_alnum(c) || c == '_'; });
}

bool is_label_value(std::string_view text) {
  return text.empty() || (text.size() <= 63 && is_alnum(text.front()) && is_alnum(text.back()) &&
                          all(text, [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; }));
}

bool is_label_key(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string_view name = slash == std::string_view::npos ? text : text.substr(slash + 1);
  return !name.empty() && is_label_value(name) &&
         (slash == std::string_view::npos || is_dns_subdomain(text.substr(0, slash)));
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return lower;
}

}  // namespace tallygate::manifest
