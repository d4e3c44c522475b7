#include "core/http/message.h"
#include "core/telemetry/json_text.h"

namespace tallygate::http {

std::string_view status_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 402:
      return "Payment Required";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 425:
      return "Too Early";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "Unknown";
  }
}

std::string to_json(const Problem& problem) {
  std::string out = "{\"type\":";
  append_json_string(
      out, problem.reason.empty() ? "about:blank" : std::string(kProblemTypePrefix).append(problem.reason.str()));
  out += ",\"title\":";
  append_json_string(out, problem.title.empty() ? status_phrase(problem.status) : std::string_view(problem.title));
  out += ",\"status\":" + std::to_string(problem.status);
  if (!problem.detail.empty()) {
    out += ",\"detail\":";
    append_json_string(out, problem.detail);
  }
  if (!problem.reason.empty()) {
    out += ",\"reason\":";
    append_json_string(out, problem.reason.str());
  }
  for (const auto& [name, json] : problem.members) {
    out += ',';
    append_json_string(out, name);
    out += ':' + json;
  }
  return out += '}';
}

Response problem_response(const Problem& problem, Headers headers) {
  return {problem.status, to_json(problem), "application/problem+json", std::move(headers)};
}

}  // namespace tallygate::http
