#include "sidecar/proxy/problem.h"

#include <algorithm>
#include <array>

#include "core/reason.h"

namespace tallygate::proxy {
namespace {

constexpr std::array<Problem, static_cast<size_t>(Reason::kCount)> kProblems{{
    {400, "MalformedRequest", "Malformed request", "The request is not well-formed HTTP/1.1."},
    {400, "MalformedBody", "Malformed request body", "The request's body is not framed as HTTP/1.1 demands."},
    {413, "BodyTooLarge", "Content too large", "The request's body is larger than is taken here."},
    {431, "RequestHeadTooLarge", "Request header fields too large", "The request's head is too large."},
    {414, "TargetTooLong", "Request target too long", "The request line is too long."},
    {501, "MethodNotImplemented", "Method not implemented", "This server does not implement the method."},
    {405, "MethodNotAllowed", "Method not allowed", "TRACE does not go through here."},
    {505, "VersionNotSupported", "HTTP version not supported", "Only HTTP/1.0 and HTTP/1.1 are spoken here."},
    {417, "ExpectationFailed", "Expectation failed", "The only expectation known here is 100-continue."},
    {501, "UpgradeNotImplemented", "Protocol upgrade not implemented", "This server does not switch protocols."},
    {408, "RequestTimeout", "Request timeout", "The request did not arrive in time."},
    {502, "UpstreamUnreachable", "Bad gateway", "The application could not be reached."},
    {502, "UpstreamClosed", "Bad gateway", "The application closed the connection before it had answered."},
    {502, "UpstreamMalformedResponse", "Bad gateway", "The application's answer is not well-formed HTTP/1.1."},
    {504, "UpstreamTimeout", "Gateway timeout", "The application did not answer in time."},
    {503, "UpstreamLimitReached", "Service unavailable", "Too many connections to the application are in use."},
    {503, "ConnectionLimitReached", "Service unavailable", "Too many client connections are open."},
    {503, "WaitingLimitReached", "Service unavailable", "Too many requests wait for a decision."},
}};
static_assert(std::all_of(kProblems.begin(), kProblems.end(), [](const Problem& p) { return is_reason(p.reason); }));

}  // namespace

const Problem& problem(Reason reason) { return kProblems[static_cast<size_t>(reason)]; }

Reason reason_of(http1::ParseError error) {
  switch (http1::info(error).status) {
    case 414:
      return Reason::kTargetTooLong;
    case 431:
      return Reason::kRequestHeadTooLarge;
    case 501:
      return Reason::kMethodNotImplemented;
    case 505:
      return Reason::kVersionNotSupported;
    default:
      return Reason::kMalformedRequest;
  }
}

// Nothing here needs escaping: the texts are constants of ours and a request id is limited to harmless characters.
std::string problem_json(Reason reason, std::string_view detail, std::string_view request_id) {
  const Problem& p = problem(reason);
  std::string json;
  json.reserve(320);
  json.append(R"({"type":")").append(kProblemTypePrefix).append(p.reason);
  json.append(R"(","title":")").append(p.title);
  json.append(R"(","status":)").append(std::to_string(p.status));
  json.append(R"(,"detail":")").append(detail.empty() ? p.detail : detail);
  json.append(R"(","reason":")").append(p.reason);
  json.append(R"(","requestId":")").append(request_id).append("\"}");
  return json;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
  }
}

}  // namespace tallygate::proxy
