#include "core/http/head_check.h"

#include <algorithm>
#include <charconv>

namespace tallygate::http {
namespace {

constexpr size_t kFieldsMax = 100;
constexpr size_t kTargetBytesMax = 8 * 1024;

tl::unexpected<Refused> refuse(std::string detail, int status = 400, ReasonName reason = "MalformedRequest") {
  return tl::unexpected<Refused>(Refused{status, reason, std::move(detail)});
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool host_text(std::string_view text) {
  return text.size() <= 512 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  (c != '\0' && std::string_view("-._~:[]!$&'()*+,;=%").find(c) != std::string_view::npos);
         });
}

// The head's lines, one after the other.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  bool next(std::string_view& line) {
    const size_t end = rest_.find("\r\n");
    if (end == std::string_view::npos) return false;
    line = rest_.substr(0, end);
    rest_.remove_prefix(end + 2);
    return true;
  }

 private:
  std::string_view rest_;
};

// Splits the target into path and query; an absolute target's authority replaces Host (RFC 9112, 3.2.2).
bool read_target(std::string_view target, Request& request) {
  if (!std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f && c != '#'; })) return false;
  if (target == "*") {
    request.path = target;
    return request.method == "OPTIONS";
  }
  if (!target.starts_with('/')) {
    const size_t scheme_end = target.find("://");
    const std::string scheme = lower(target.substr(0, std::min(scheme_end, target.size())));
    if (scheme != "http" && scheme != "https") return false;
    target.remove_prefix(scheme_end + 3);
    const size_t authority_end = std::min(target.find_first_of("/?"), target.size());
    request.host = target.substr(0, authority_end);
    if (request.host.empty() || !host_text(request.host)) return false;
    target.remove_prefix(authority_end);
  }
  const size_t question = target.find('?');
  request.path = target.substr(0, question);
  if (request.path.empty()) request.path = "/";
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  return true;
}

tl::expected<void, Refused> read_request_line(std::string_view line, Head& head) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return refuse("The request line is malformed.");
  const std::string_view version = line.substr(last + 1);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  head.request.method = line.substr(0, first);
  if (!is_token(head.request.method)) return refuse("The method is malformed.");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    if (version.starts_with("HTTP/") && version.size() == 8) {
      return refuse("Only HTTP/1.1 and HTTP/1.0 are spoken here.", 505, "VersionNotSupported");
    }
    return refuse("The protocol version is malformed.");
  }
  head.http_1_0 = version == "HTTP/1.0";
  if (target.size() > kTargetBytesMax) return refuse("The target is too long.", 414, "TargetTooLong");
  if (head.request.method == "CONNECT") return refuse("This is not a proxy.", 501, "MethodNotImplemented");
  if (!read_target(target, head.request)) return refuse("The target is malformed.");
  return {};
}

tl::expected<void, Refused> read_fields(Lines& lines, Headers& headers) {
  std::string_view line;
  while (lines.next(line) && !line.empty()) {
    if (line.front() == ' ' || line.front() == '\t') return refuse("A header line is folded.");
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
      return refuse("A header name is malformed.");
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (!is_field_value(value)) return refuse("A header value holds a control character.");
    if (headers.size() == kFieldsMax) return refuse("There are too many header lines.", 431, "RequestHeadTooLarge");
    headers.emplace_back(lower(line.substr(0, colon)), value);
  }
  return {};
}

tl::expected<void, Refused> check_framing(Head& head) {
  const Request& request = head.request;
  const size_t lengths = request.header_count("content-length");
  const size_t encodings = request.header_count("transfer-encoding");
  if (lengths > 1 || encodings > 1 || (lengths > 0 && encodings > 0)) {
    return refuse("The message's length is given more than once.");
  }
  if (encodings == 1) {
    if (head.http_1_0) return refuse("HTTP/1.0 has no Transfer-Encoding.");
    if (lower(request.header("transfer-encoding")) != "chunked")
      return refuse("The Transfer-Encoding is not \"chunked\".");
    head.content_length = -1;
  }
  if (lengths == 1) {
    const std::string_view digits = request.header("content-length");
    const bool plain = std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), head.content_length);
    if (digits.empty() || !plain || error != std::errc() || end != digits.data() + digits.size()) {
      return refuse("The Content-Length is malformed.");
    }
  }
  return {};
}

tl::expected<void, Refused> check_meaning(Head& head) {
  Request& request = head.request;
  const size_t hosts = request.header_count("host");
  if (hosts > 1 || (hosts == 0 && !head.http_1_0)) return refuse("There must be exactly one Host.");
  if (!host_text(request.header("host"))) return refuse("The Host is malformed.");
  if (request.host.empty()) request.host = request.header("host");
  bool close = false, keep = false;
  for (const auto& [name, value] : request.headers) {
    if (name != "connection") continue;
    const std::string options = "," + lower(value) + ",";
    for (size_t at = 0; at + 1 < options.size();) {
      const size_t end = options.find(',', at + 1);
      const std::string_view option = trimmed(std::string_view(options).substr(at + 1, end - at - 1));
      close |= option == "close";
      keep |= option == "keep-alive";
      at = end;
    }
  }
  head.keep_alive = !close && (keep || !head.http_1_0);
  if (const size_t expects = request.header_count("expect"); expects > 0) {
    if (expects > 1 || lower(request.header("expect")) != "100-continue") {
      return refuse("Nothing but 100-continue can be expected.", 417, "ExpectationFailed");
    }
    head.expects_continue = !head.http_1_0;
  }
  return {};
}

}  // namespace

bool has_bare_line_feed(std::string_view text) {
  for (size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1)) {
    if (at == 0 || text[at - 1] != '\r') return true;
  }
  return false;
}

tl::expected<Head, Refused> read_head(std::string_view text) {
  Head head;
  Lines lines(text);
  std::string_view line;
  if (!lines.next(line)) return refuse("The request line is malformed.");
  if (auto checked = read_request_line(line, head); !checked) return tl::unexpected<Refused>(checked.error());
  if (auto checked = read_fields(lines, head.request.headers); !checked)
    return tl::unexpected<Refused>(checked.error());
  if (auto checked = check_framing(head); !checked) return tl::unexpected<Refused>(checked.error());
  if (auto checked = check_meaning(head); !checked) return tl::unexpected<Refused>(checked.error());
  return head;
}

}  // namespace tallygate::http
