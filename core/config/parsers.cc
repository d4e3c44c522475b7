#include "core/config/parsers.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace tallygate::config {
namespace {

constexpr size_t kPathLongest = 4096;

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

bool digits_only(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string range_text(int64_t min, int64_t max) {
  return "write a whole number from " + std::to_string(min) + " to " + std::to_string(max);
}

// 90'000 → "1m30s".
std::string duration_text(int64_t ms) {
  static constexpr std::pair<const char*, int64_t> kUnits[] = {
      {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}};
  if (ms == 0) return "0s";
  std::string out;
  for (const auto& [unit, size] : kUnits) {
    if (ms / size > 0) out += std::to_string(ms / size) + unit;
    ms %= size;
  }
  return out;
}

std::optional<int64_t> unit_ms(std::string_view unit) {
  if (unit == "ms") return 1;
  if (unit == "s") return 1'000;
  if (unit == "m") return 60'000;
  if (unit == "h") return 3'600'000;
  if (unit == "d") return 86'400'000;
  return std::nullopt;
}

constexpr const char* kDurationFix = "write a duration such as 250ms, 5s, 1m30s or 24h";

Parsed<int64_t> read_duration(std::string_view in) {
  if (in == "0") return 0;
  int64_t total_ms = 0;
  int64_t last_unit = INT64_MAX;
  for (std::string_view rest = in; !rest.empty() || in.empty();) {
    const size_t number_size = std::min(rest.find_first_not_of("0123456789"), rest.size());
    const auto number = whole_number(rest.substr(0, number_size));
    if (!number) return refuse(quoted(in) + " is not a duration", kDurationFix);
    rest.remove_prefix(number_size);
    const size_t unit_size = std::min(rest.find_first_of("0123456789"), rest.size());
    if (unit_size == 0) return refuse(quoted(in) + " has no unit", kDurationFix);
    const auto unit = unit_ms(rest.substr(0, unit_size));
    if (!unit) return refuse(quoted(in) + " has an unknown unit " + quoted(rest.substr(0, unit_size)), kDurationFix);
    if (*unit >= last_unit) return refuse(quoted(in) + " does not name its units from the largest down", kDurationFix);
    last_unit = *unit;
    rest.remove_prefix(unit_size);
    int64_t part_ms;
    if (__builtin_mul_overflow(*number, *unit, &part_ms) || __builtin_add_overflow(total_ms, part_ms, &total_ms)) {
      return refuse(quoted(in) + " is too long", kDurationFix);
    }
  }
  return total_ms;
}

bool label_char(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }

// DNS-1123 label (subdomain if dots are allowed), as Kubernetes has it.
bool dns_name(std::string_view name, size_t longest, bool dots) {
  if (name.empty() || name.size() > longest) return false;
  char before = '.';
  for (const char c : name) {
    if (c == '.' ? !dots : !label_char(c)) return false;
    if ((c == '.' || c == '-') && before == '.') return false;
    if (c == '.' && before == '-') return false;
    before = c;
  }
  return before != '.' && before != '-';
}

bool host_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

bool valid_host(std::string_view host) {
  return host.size() <= 253 && std::all_of(host.begin(), host.end(), host_char);
}

bool valid_v6(std::string_view host) {
  return host.size() >= 2 && host.size() <= 60 && host.find(':') != std::string_view::npos &&
         std::all_of(host.begin(), host.end(), [](char c) { return host_char(c) || c == ':' || c == '%'; });
}

Parsed<ListenAddress> read_address(std::string_view in, bool dial) {
  const std::string fix = dial ? "write HOST:PORT or [v6]:PORT, such as redis:6379"
                               : "write HOST:PORT, [v6]:PORT or :PORT, such as :8080, 127.0.0.1:8080 or [::1]:8080";
  ListenAddress address;
  const size_t colon = in.rfind(':');
  if (in.empty() || colon == std::string_view::npos || (in.front() == '[' && in.find(']') > colon)) {
    return refuse(quoted(in) + " has no port", fix);
  }
  std::string_view host = in.substr(0, colon);
  const std::string_view port = in.substr(colon + 1);
  if (!host.empty() && host.front() == '[') {
    if (host.back() != ']' || !valid_v6(host.substr(1, host.size() - 2))) {
      return refuse(quoted(in) + " has a broken IPv6 address", fix);
    }
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return refuse(quoted(in) + " has an IPv6 address without brackets", fix);
  } else if (!valid_host(host)) {
    return refuse(quoted(in) + " has a host with characters that no host has", fix);
  }
  if (dial && host.empty()) return refuse(quoted(in) + " has no host", fix);
  const auto number = digits_only(port) ? whole_number(port) : std::nullopt;
  if (!number || *number > 65535 || (dial && *number == 0)) {
    return refuse(quoted(in) + " has a port that is not " + (dial ? "1" : "0") + " to 65535", fix);
  }
  address.host = host;
  address.port = static_cast<uint16_t>(*number);
  return address;
}

Parser<std::string> path_parser(std::string placeholder, Must must, bool wants_directory) {
  auto parse = [must, wants_directory](std::string_view in) -> Parsed<std::string> {
    const std::string what = wants_directory ? "directory" : "file";
    if (in.empty()) return refuse("the path is empty", "write the path of a " + what);
    if (in.size() > kPathLongest) return refuse("the path is longer than 4096 bytes", "write a shorter path");
    if (in.find('\0') != std::string_view::npos) return refuse(quoted(in) + " contains a NUL", "write a plain path");
    std::string path(in);
    if (must == Must::kNothing) return path;
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      return refuse(quoted(in) + " does not exist or may not be read", "create the " + what + ", or correct the path");
    }
    if (S_ISDIR(info.st_mode) != wants_directory) {
      return refuse(quoted(in) + " is not a " + what, "write the path of a " + what);
    }
    return path;
  };
  return {std::move(parse), std::move(placeholder)};
}

std::string joined(const std::vector<std::string>& words, std::string_view between) {
  std::string out;
  for (const auto& word : words) {
    if (!out.empty()) out += between;
    out += word;
  }
  return out;
}

}  // namespace

std::string to_string(const ListenAddress& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return (v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

Parser<std::string> text(size_t length_min, size_t length_max) {
  auto parse = [=](std::string_view in) -> Parsed<std::string> {
    const std::string fix = "write " + std::to_string(length_min) + " to " + std::to_string(length_max) + " characters";
    if (in.size() < length_min) return refuse(in.empty() ? "the value is empty" : "the value is too short", fix);
    if (in.size() > length_max) return refuse("the value is longer than " + std::to_string(length_max) + " bytes", fix);
    const bool plain = std::all_of(in.begin(), in.end(), [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return (byte >= 0x20 && byte != 0x7f) || c == '\t';
    });
    if (!plain) return refuse("the value contains a control character", "remove line breaks and control characters");
    return std::string(in);
  };
  return {std::move(parse), "TEXT"};
}

Parser<bool> boolean() {
  return {[](std::string_view in) -> Parsed<bool> {
            for (const auto word : {"true", "yes", "on", "1"})
              if (in == word) return true;
            for (const auto word : {"false", "no", "off", "0"})
              if (in == word) return false;
            return refuse(quoted(in) + " is neither true nor false", "write true or false");
          },
          ""};
}

Parser<int64_t> integer(int64_t min, int64_t max) {
  auto parse = [=](std::string_view in) -> Parsed<int64_t> {
    const std::string_view digits = in.starts_with('-') ? in.substr(1) : in;
    if (!digits_only(digits)) return refuse(quoted(in) + " is not a whole number", range_text(min, max));
    const auto value = whole_number(in);
    if (!value || *value > max) return refuse(quoted(in) + " is above " + std::to_string(max), range_text(min, max));
    if (*value < min) return refuse(quoted(in) + " is below " + std::to_string(min), range_text(min, max));
    return *value;
  };
  return {std::move(parse), "N"};
}

Parser<int64_t> duration_ms(int64_t min_ms, int64_t max_ms) {
  auto parse = [=](std::string_view in) -> Parsed<int64_t> {
    auto value = read_duration(in);
    if (!value) return value;
    const std::string fix = "write a duration from " + duration_text(min_ms) + " to " + duration_text(max_ms);
    if (*value < min_ms) return refuse(quoted(in) + " is shorter than " + duration_text(min_ms), fix);
    if (*value > max_ms) return refuse(quoted(in) + " is longer than " + duration_text(max_ms), fix);
    return value;
  };
  return {std::move(parse), "DURATION"};
}

Parser<int64_t> byte_size(int64_t min, int64_t max) {
  auto parse = [=](std::string_view in) -> Parsed<int64_t> {
    const std::string fix = range_text(min, max) + " of bytes, or use KiB, MiB or GiB, such as 64KiB";
    const size_t number_size = std::min(in.find_first_not_of("0123456789"), in.size());
    auto value = whole_number(in.substr(0, number_size));
    const std::string_view unit = in.substr(number_size);
    const int shift = unit.empty() ? 0 : unit == "KiB" ? 10 : unit == "MiB" ? 20 : unit == "GiB" ? 30 : -1;
    if (number_size == 0) return refuse(quoted(in) + " is not a size", fix);
    if (shift < 0) return refuse(quoted(in) + " has an unknown unit " + quoted(unit), fix);
    if (!value || *value > (max >> shift))
      return refuse(quoted(in) + " is above " + std::to_string(max) + " bytes", fix);
    *value <<= shift;
    if (*value < min) return refuse(quoted(in) + " is below " + std::to_string(min) + " bytes", fix);
    return *value;
  };
  return {std::move(parse), "BYTES"};
}

Parser<ListenAddress> listen_address() {
  return {[](std::string_view in) { return read_address(in, false); }, "ADDRESS"};
}

Parser<ListenAddress> host_port() {
  return {[](std::string_view in) { return read_address(in, true); }, "HOST:PORT"};
}

Parser<ObjectName> object_name() {
  auto parse = [](std::string_view in) -> Parsed<ObjectName> {
    const char* fix = "write NAMESPACE/NAME, lower case letters, digits and \"-\", such as billing/tallygate-tls";
    const size_t slash = in.find('/');
    if (slash == std::string_view::npos) return refuse(quoted(in) + " has no \"/\"", fix);
    if (!dns_name(in.substr(0, slash), 63, false))
      return refuse(quoted(in) + " has a namespace that cannot exist", fix);
    if (!dns_name(in.substr(slash + 1), 253, true)) return refuse(quoted(in) + " has a name that cannot exist", fix);
    return ObjectName{std::string(in.substr(0, slash)), std::string(in.substr(slash + 1))};
  };
  return {std::move(parse), "NAMESPACE/NAME"};
}

Parser<std::string> directory(Must must) { return path_parser("DIRECTORY", must, true); }
Parser<std::string> file(Must must) { return path_parser("FILE", must, false); }

Parser<Tagged> tagged(std::vector<std::pair<std::string, std::string>> tags) {
  std::vector<std::string> forms;
  for (const auto& [tag, value] : tags) {
    const bool optional = value.starts_with('[');
    forms.push_back(value.empty() ? tag : optional ? tag + "[:" + value.substr(1) : tag + ":" + value);
  }
  auto parse = [tags, fix = "write " + joined(forms, " or ")](std::string_view in) -> Parsed<Tagged> {
    const size_t colon = in.find(':');
    const std::string_view tag = in.substr(0, colon);
    for (const auto& [known, placeholder] : tags) {
      if (tag != known) continue;
      const std::string_view value = colon == std::string_view::npos ? std::string_view() : in.substr(colon + 1);
      if (placeholder.empty() && colon != std::string_view::npos) return refuse(quoted(in) + " takes no value", fix);
      const bool needed = !placeholder.empty() && (!placeholder.starts_with('[') || colon != std::string_view::npos);
      if (needed && value.empty()) return refuse(quoted(in) + " has no " + placeholder, fix);
      return Tagged{std::string(tag), std::string(value)};
    }
    return refuse(quoted(in) + " is of no known kind", fix);
  };
  return {std::move(parse), joined(forms, "|")};
}

Parser<size_t> choice_index(std::vector<std::string> words) {
  const std::string placeholder = joined(words, "|");
  auto parse = [words = std::move(words)](std::string_view in) -> Parsed<size_t> {
    const auto found = std::find(words.begin(), words.end(), in);
    if (found != words.end()) return static_cast<size_t>(found - words.begin());
    const auto meant = nearest(in, words);
    std::string fix = "write one of " + joined(words, ", ");
    if (!meant.empty()) fix += "; did you mean " + std::string(meant) + "?";
    return refuse(quoted(in) + " is not one of the choices", std::move(fix));
  };
  return {std::move(parse), placeholder};
}

}  // namespace tallygate::config
