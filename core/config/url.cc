// Refusals of a URL never quote it: whatever is wrong with it, it may hold a password.
#include <algorithm>
#include <optional>

#include "core/address.h"
#include "core/config/parsers.h"

namespace tallygate::config {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return out;
}

std::string forms(const std::vector<std::string>& schemes) {
  std::string out = "write ";
  for (size_t i = 0; i < schemes.size(); ++i) {
    if (i > 0) out += i + 1 == schemes.size() ? " or " : ", ";
    out += schemes[i] + (schemes[i] == "unix" ? ":///PATH" : "://HOST…");
  }
  return out;
}

bool is_postgres(const Url& url) { return url.scheme.starts_with("postgres"); }

// [user[:password]@]host[:port]; returns what is wrong, or nothing.
std::string read_authority(std::string_view authority, Url& url) {
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    const std::string_view info = authority.substr(0, at);
    const size_t colon = info.find(':');
    const auto user = percent_decoded(info.substr(0, colon));
    const auto password = percent_decoded(colon == std::string_view::npos ? "" : info.substr(colon + 1));
    if (!user || !password) return "the user or password has a broken percent-escape";
    url.user = *user;
    url.password = *password;
    authority.remove_prefix(at + 1);
  }
  if (is_postgres(url) && authority.find(',') != std::string_view::npos) {  // several hosts: libpq reads them
    url.host = authority;
    return {};
  }
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return "the IPv6 address has no closing bracket";
    url.host = authority.substr(1, end - 1);
    authority.remove_prefix(end + 1);
    if (!authority.empty() && authority[0] != ':') return "there is something between host and port";
    port = authority;
  } else {
    const size_t colon = authority.find(':');
    url.host = authority.substr(0, colon);
    port = colon == std::string_view::npos ? std::string_view() : authority.substr(colon);
  }
  if (port.size() == 1) return "the port is missing after \":\"";
  if (!port.empty()) {
    const auto number = integer(1, 65535)(port.substr(1));
    if (!number) return "the port is not 1 to 65535";
    url.port = static_cast<uint16_t>(*number);
  }
  if (url.host.empty() && !is_postgres(url)) return "the host is missing";
  return {};
}

Parsed<Url> read_url(std::string_view in, const std::vector<std::string>& schemes) {
  const std::string fix = forms(schemes);
  if (in.empty()) return refuse("the URL is empty", fix);
  if (in.size() > 2048) return refuse("the URL is longer than 2048 bytes", fix);
  if (std::any_of(in.begin(), in.end(), [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; })) {
    return refuse("the URL contains white space or a control character", "percent-encode it, or remove it");
  }
  Url url;
  url.text = in;
  const size_t colon = in.find(':');
  if (colon == std::string_view::npos || !in.substr(colon).starts_with("://")) {
    return refuse("the URL has no scheme", fix);
  }
  url.scheme = lower(in.substr(0, colon));
  if (std::find(schemes.begin(), schemes.end(), url.scheme) == schemes.end()) {
    return refuse("the URL's scheme is not allowed here", fix);
  }
  in.remove_prefix(colon + 3);
  if (in.find('#') != std::string_view::npos)
    return refuse("the URL has a fragment (#…)", "percent-encode or remove \"#\"");
  const size_t question = in.find('?');
  if (question != std::string_view::npos) url.query = in.substr(question + 1);
  in = in.substr(0, question);
  const size_t slash = std::min(in.find('/'), in.size());
  url.path = in.substr(slash);
  if (url.scheme == "unix") {
    if (slash != 0 || url.path.size() < 2) return refuse("the URL names no absolute path", "write unix:///PATH");
    return url;
  }
  const std::string wrong = read_authority(in.substr(0, slash), url);
  if (!wrong.empty()) return refuse("in the URL, " + wrong, fix);
  return url;
}

// Deliberately crude, so that a malformed URL is taken to hold one rather than not: user information with a colon, or
// libpq's and other drivers' password in the query.
bool may_hold_password(std::string_view in) {
  const size_t start = in.find("://");
  const std::string_view rest = start == std::string_view::npos ? in : in.substr(start + 3);
  const size_t at = rest.rfind('@');
  if (at != std::string_view::npos && rest.substr(0, at).find(':') != std::string_view::npos) return true;
  return lower(rest).find("password=") != std::string::npos;
}

}  // namespace

std::string Url::redacted() const {
  if (scheme == "unix") return "unix://" + path;
  const bool v6 = host.find(':') != std::string::npos && host.find(',') == std::string::npos;
  std::string out = scheme + "://" + (v6 ? "[" + host + "]" : host);
  if (port != 0) out += ":" + std::to_string(port);
  return out + path;
}

bool is_loopback(const std::string& host) { return is_loopback_host(host); }

Parser<Url> url(std::vector<std::string> schemes) {
  return {[schemes = std::move(schemes)](std::string_view in) { return read_url(in, schemes); }, "URL",
          may_hold_password};
}

}  // namespace tallygate::config
