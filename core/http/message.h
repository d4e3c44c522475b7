// Requests and responses as handlers see them; no dependency on the server.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/reason.h"

namespace tallygate::http {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string method;  // as sent; methods are case-sensitive
  std::string path;    // before the question mark, percent-encoding untouched
  std::string query;   // after it
  std::string host;
  // Names in lower case, in the order of arrival; framing and hop-by-hop fields included. No trailers.
  Headers headers;
  std::string body;
  std::string id;    // of ServerOptions::request_ids
  std::string peer;  // the client's IP address, as text
  bool tls = false;
  bool head = false;        // a HEAD that is answered by the GET handler
  int64_t received_ns = 0;  // monotonic, when it was complete
  // What the route's {name} segments matched, percent-decoded, and which route it was, e.g. "/v1/tenants/{tenant}".
  std::vector<std::pair<std::string_view, std::string>> params;
  std::string_view route;

  // The first field's value, nullptr data() where there is none. `lower_name` in lower case.
  std::string_view header(std::string_view lower_name) const;
  size_t header_count(std::string_view lower_name) const;
  // Empty where the route has no such segment.
  std::string_view param(std::string_view name) const;
  // The first such parameter of the query, form-decoded ("+" is a space); nullopt where there is none or where its
  // escapes are broken.
  std::optional<std::string> query_param(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::string body;
  std::string content_type;  // none if empty
  // Further fields. Content-Length, Connection, Date and Transfer-Encoding are the server's. A name or value that is
  // not legal makes the response a 500.
  Headers headers;
};

inline Response text_response(int status, std::string body) {
  return {status, std::move(body), "text/plain; charset=utf-8", {}};
}
inline Response json_response(int status, std::string body) {
  return {status, std::move(body), "application/json", {}};
}

// An error as RFC 9457 describes it. `reason` is for programs, and `type` follows from it; `detail` is for people and
// never holds what the client may not know.
struct Problem {
  int status = 500;
  ReasonName reason = {};
  std::string detail = {};
  std::string title = {};  // the status's standard phrase if empty
  // Further members: name and JSON text, e.g. {"limit", "100"}, {"meter", "\"api_calls\""}.
  std::vector<std::pair<std::string, std::string>> members = {};
};
std::string to_json(const Problem& problem);
Response problem_response(const Problem& problem, Headers headers = {});

// "Not Found"; "Unknown" for codes that have no name.
std::string_view status_phrase(int status);

// Percent-decoding of a path segment; nullopt where an escape is broken or stands for a control character. In a form's
// values there may be tabs and line breaks.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false, bool breaks = false);

// RFC 9110: a token; a field value without control characters.
bool is_token(std::string_view text);
bool is_field_value(std::string_view text);

}  // namespace tallygate::http
