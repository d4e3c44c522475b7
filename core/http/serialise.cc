#include <time.h>

#include <algorithm>

#include "core/http/shared.h"
#include "core/telemetry/json_text.h"
#include "core/telemetry/log.h"

namespace tallygate::http {
namespace {

bool reserved(std::string_view name) {
  static constexpr std::string_view kReserved[] = {"content-length", "connection", "date", "transfer-encoding"};
  return std::any_of(std::begin(kReserved), std::end(kReserved), [&](std::string_view r) {
    return r.size() == name.size() && std::equal(r.begin(), r.end(), name.begin(), [](char a, char b) {
             return a == (b >= 'A' && b <= 'Z' ? b + 32 : b);
           });
  });
}

}  // namespace

Response connection_limit_response() {
  return problem_response({503, "ConnectionLimitReached", "Too many connections are open."}, {{"Retry-After", "1"}});
}

void make_sendable(Response& response) {
  bool legal = response.status >= 200 && response.status <= 599 && is_field_value(response.content_type);
  for (const auto& [name, value] : response.headers) {
    legal = legal && is_token(name) && is_field_value(value) && !reserved(name);
  }
  if (legal) return;
  static log::Throttle throttle(10);
  log::error(throttle, "handler made an illegal response", {{"status", response.status}});
  response = problem_response({500, "Internal", "The server made a mistake."});
}

std::string request_id_of(const Request& request, Env& env) {
  static constexpr size_t kGivenBytesMax = 128, kNewBytes = 16;
  const std::string_view given = request.header("x-request-id");
  const bool usable = given.size() <= kGivenBytesMax && is_token(given) && request.header_count("x-request-id") == 1;
  return env.random_hex(kNewBytes) + (usable ? "." + std::string(given) : "");
}

void name_request(const Shared& shared, Response& response, std::string id) {
  if (!shared.options.request_ids) return;
  if (id.empty()) id = request_id_of({}, shared.env);
  response.headers.emplace_back("X-Request-Id", id);
  if (response.content_type != "application/problem+json" || !response.body.ends_with('}')) return;
  response.body.pop_back();
  response.body += ",\"requestId\":";
  append_json_string(response.body, id);
  response.body += '}';
}

std::string serialise(const Response& response, const std::string& date, bool keep_alive, bool http_1_0,
                      bool without_body) {
  const bool never_body = response.status == 204 || response.status == 304;
  std::string out;
  out.reserve(256 + (response.body.size() <= kCopiedBodyMax ? response.body.size() : 0));
  out += "HTTP/1.1 ";
  out += std::to_string(response.status);
  out += ' ';
  out += status_phrase(response.status);
  out += "\r\nDate: ";
  out += date;
  if (!response.content_type.empty()) {
    out += "\r\nContent-Type: ";
    out += response.content_type;
  }
  for (const auto& [name, value] : response.headers) {
    out += "\r\n";
    out += name;
    out += ": ";
    out += value;
  }
  if (!never_body) {
    out += "\r\nContent-Length: ";
    out += std::to_string(response.body.size());
  }
  if (!keep_alive) {
    out += "\r\nConnection: close";
  } else if (http_1_0) {
    out += "\r\nConnection: keep-alive";
  }
  out += "\r\n\r\n";
  if (!without_body && !never_body && response.body.size() <= kCopiedBodyMax) out += response.body;
  return out;
}

const std::string& date_now(IoThread& io, Env& env) {
  const int64_t second = env.wall_s();
  if (second != io.date_second) {
    const time_t at = second;
    tm utc{};
    gmtime_r(&at, &utc);
    char text[64];
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[utc.tm_wday], utc.tm_mday,
                  kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
    io.date = text;
    io.date_second = second;
  }
  return io.date;
}

std::string_view known_method(std::string_view method) {
  static constexpr std::string_view kKnown[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"};
  const auto* found = std::find(std::begin(kKnown), std::end(kKnown), method);
  return found == std::end(kKnown) ? std::string_view("OTHER") : *found;
}

}  // namespace tallygate::http
