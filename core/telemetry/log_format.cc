#include "core/telemetry/log_format.h"

#include <time.h>

#include <algorithm>
#include <cstdio>

#include "core/telemetry/json_text.h"

namespace tallygate::log::internal {
namespace {

const char* name_of(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarn:
      return "warn";
    case Level::kError:
      return "error";
    case Level::kOff:
      break;
  }
  return "off";
}

struct Instant {
  tm utc{};
  int ms = 0;
};

Instant split(int64_t wall_ns) {
  const int64_t wall_ms = std::max<int64_t>(wall_ns, 0) / 1'000'000;
  const time_t seconds = wall_ms / 1000;
  Instant instant;
  gmtime_r(&seconds, &instant.utc);
  instant.ms = static_cast<int>(wall_ms % 1000);
  return instant;
}

void append_value(std::string& out, const Field& field) {
  switch (field.kind) {
    case Field::Kind::kText:
      append_json_string(out, field.text);
      return;
    case Field::Kind::kBool:
      out += field.flag ? "true" : "false";
      return;
    case Field::Kind::kDouble:
      append_json_number(out, field.real);
      return;
    case Field::Kind::kSigned:
      out += std::to_string(field.number);
      return;
    case Field::Kind::kUnsigned:
      out += std::to_string(field.natural);
      return;
  }
}

// Words that need no quotes for people to see where they end.
bool plain_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '=' && c != '\\'; });
}

}  // namespace

std::string json_line(int64_t wall_ns, Level level, std::string_view message, Fields fields, uint64_t suppressed) {
  const Instant at = split(wall_ns);
  char stamp[64];
  std::snprintf(stamp, sizeof stamp, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", at.utc.tm_year + 1900, at.utc.tm_mon + 1,
                at.utc.tm_mday, at.utc.tm_hour, at.utc.tm_min, at.utc.tm_sec, at.ms);
  std::string out;
  out.reserve(128 + message.size() + fields.size() * 32);
  out += "{\"ts\":\"";
  out += stamp;
  out += "\",\"level\":\"";
  out += name_of(level);
  out += "\",\"msg\":";
  append_json_string(out, message);
  for (const Field& field : fields) {
    out += ',';
    append_json_string(out, field.key);
    out += ':';
    append_value(out, field);
  }
  if (suppressed > 0) out += ",\"suppressed\":" + std::to_string(suppressed);
  out += '}';
  return out;
}

std::string text_line(int64_t wall_ns, Level level, std::string_view message, Fields fields, uint64_t suppressed) {
  const Instant at = split(wall_ns);
  char head[64];
  std::snprintf(head, sizeof head, "%02d:%02d:%02d.%03d %-5s ", at.utc.tm_hour, at.utc.tm_min, at.utc.tm_sec, at.ms,
                name_of(level));
  std::string quoted_message;
  append_json_string(quoted_message, message);
  std::string out = head + quoted_message.substr(1, quoted_message.size() - 2);
  for (const Field& field : fields) {
    out += ' ';
    out += field.key;
    out += '=';
    if (field.kind == Field::Kind::kText && plain_word(field.text)) {
      out += field.text;
    } else {
      append_value(out, field);
    }
  }
  if (suppressed > 0) out += " suppressed=" + std::to_string(suppressed);
  return out;
}

}  // namespace tallygate::log::internal
