#include "operator/http_client/http_client.h"

#include <algorithm>

#include "core/http/message.h"
#include "operator/http_client/internal.h"

namespace tallygate {

std::string_view HttpResponse::header(std::string_view lower_name) const {
  for (const auto& [name, value] : headers) {
    if (name == lower_name) return value;
  }
  return {};
}

namespace http_client_internal {
namespace {

constexpr size_t kUrlBytesMax = 8 * 1024;

bool controls_framing(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return lower == "content-length" || lower == "transfer-encoding" || lower == "connection" || lower == "host" ||
         lower == "expect" || lower == "upgrade" || lower == "te";
}

}  // namespace

Result<Target> check(const HttpRequest& request) {
  if (!http::is_token(request.method)) return fail(Errc::kInvalid, "the HTTP method is malformed");
  if (request.timeout_ms <= 0) return fail(Errc::kInvalid, "the HTTP time-out is not positive");
  const std::string_view url = request.url;
  const size_t host_at = url.starts_with("https://") ? 8 : url.starts_with("http://") ? 7 : 0;
  const bool plain =
      std::all_of(url.begin(), url.end(), [](char c) { return c > 0x20 && c < 0x7f && c != '#' && c != '\\'; });
  if (host_at == 0 || !plain || url.size() > kUrlBytesMax) return fail(Errc::kInvalid, "the URL is malformed");
  const size_t host_end = std::min(url.find_first_of("/?", host_at), url.size());
  const std::string_view authority = url.substr(host_at, host_end - host_at);
  if (authority.empty() || authority.find('@') != std::string_view::npos) {
    return fail(Errc::kInvalid, "the URL's host is missing or carries user information");
  }
  for (const auto& [name, value] : request.headers) {
    if (!http::is_token(name) || !http::is_field_value(value) || controls_framing(name)) {
      return fail(Errc::kInvalid,
                  "a header cannot be sent: " + (http::is_token(name) ? name : "its name is malformed"));
    }
  }
  Target target{std::string(url.substr(0, host_end)), std::string(url.substr(host_end))};
  if (!target.resource.starts_with('/')) target.resource.insert(0, "/");
  return target;
}

std::pair<std::string, std::string> host_and_port(const Target& target) {
  const std::string authority = target.origin.substr(target.origin.find("://") + 3);
  const size_t address_end = authority.find(']');  // of an IPv6 address
  const size_t colon = authority.find(':', address_end == std::string::npos ? 0 : address_end);
  if (colon == std::string::npos) return {authority, ""};
  return {authority.substr(0, colon), authority.substr(colon)};
}

BodySink::Outcome BodySink::take(int status, std::string_view piece, std::string& body) const {
  if (request_.on_body && status >= 200 && status < 300)
    return request_.on_body(piece) ? Outcome::kGoOn : Outcome::kEnough;
  if (piece.size() > bytes_max_ - body.size()) return Outcome::kTooLarge;
  body.append(piece);
  return Outcome::kGoOn;
}

tl::unexpected<Error> too_large(const Target& target) {
  return fail(Errc::kExhausted, target.origin + ": the response is larger than allowed");
}

tl::unexpected<Error> too_late(const Target& target, const HttpRequest& request) {
  return fail(Errc::kTimeout, target.origin + ": no " + (request.on_body ? "data" : "complete response") + " within " +
                                  std::to_string(request.timeout_ms) + " ms");
}

tl::unexpected<Error> stopped(const Target& target) {
  return fail(Errc::kUnavailable, target.origin + ": the call was stopped");
}

void add_header(HttpHeaders& headers, std::string_view name, std::string_view value) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  for (auto& [known, values] : headers) {
    if (known == lower) {
      values.append(", ").append(value);
      return;
    }
  }
  headers.emplace_back(std::move(lower), value);
}

}  // namespace http_client_internal
}  // namespace tallygate
