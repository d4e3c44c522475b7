#include "core/redis_client/url.h"

#include <charconv>

#include "core/address.h"

namespace tallygate::redis {
namespace {

constexpr const char* kForm = "wanted: redis://[user[:password]@]host[:port][/db], rediss://… or unix:///path[?db=N]";

tl::unexpected<Error> bad(const std::string& what) { return fail(Errc::kInvalid, what + "; " + kForm); }

Result<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    if (i + 2 >= text.size() ||
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr != text.data() + i + 3) {
      return bad("a percent sign in the credentials is not followed by two hex digits");
    }
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

bool parse_number(std::string_view text, int max, int* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out >= 0 && *out <= max;
}

Result<Endpoint> parse_unix(std::string_view rest) {
  Endpoint endpoint;
  const size_t query = rest.find('?');
  endpoint.unix_path = rest.substr(0, query);
  if (endpoint.unix_path.empty() || endpoint.unix_path[0] != '/') return bad("the socket's path must start with /");
  if (query != std::string_view::npos) {
    const std::string_view parameters = rest.substr(query + 1);
    if (!parameters.starts_with("db=") || !parse_number(parameters.substr(3), 9999, &endpoint.db)) {
      return bad("the only parameter is db=N");
    }
  }
  return endpoint;
}

Result<std::string_view> take_credentials(std::string_view rest, Endpoint* endpoint) {
  const size_t at = rest.rfind('@');
  if (at == std::string_view::npos) return rest;
  const std::string_view credentials = rest.substr(0, at);
  const size_t colon = credentials.find(':');
  auto user = percent_decode(credentials.substr(0, colon));
  if (!user) return tl::unexpected(user.error());
  endpoint->user = std::move(*user);
  if (colon != std::string_view::npos) {
    auto password = percent_decode(credentials.substr(colon + 1));
    if (!password) return tl::unexpected(password.error());
    endpoint->password = std::move(*password);
  }
  return rest.substr(at + 1);
}

}  // namespace

Result<Endpoint> parse_url(std::string_view url) {
  if (url.starts_with("unix://")) return parse_unix(url.substr(7));
  Endpoint endpoint;
  if (url.starts_with("rediss://")) {
    endpoint.tls = true;
    url.remove_prefix(9);
  } else if (url.starts_with("redis://")) {
    url.remove_prefix(8);
  } else {
    return bad("unknown scheme");
  }
  auto rest = take_credentials(url, &endpoint);
  if (!rest) return tl::unexpected(rest.error());
  const size_t slash = rest->find('/');
  if (slash != std::string_view::npos && slash + 1 < rest->size() &&
      !parse_number(rest->substr(slash + 1), 9999, &endpoint.db)) {
    return bad("the database after the last slash must be a number");
  }
  std::string_view authority = rest->substr(0, slash);
  std::string_view port;
  if (authority.starts_with('[')) {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return bad("an IPv6 address lacks its closing ]");
    endpoint.host = authority.substr(1, close - 1);
    authority.remove_prefix(close + 1);
    if (!authority.empty() && authority[0] != ':') return bad("unexpected text after ]");
    if (!authority.empty()) port = authority.substr(1);
  } else {
    const size_t colon = authority.find(':');
    endpoint.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) port = authority.substr(colon + 1);
  }
  if (endpoint.host.empty()) return bad("the host is missing");
  for (const char c : endpoint.host) {
    if (static_cast<unsigned char>(c) <= ' ' || std::string_view("?#\"\\%").find(c) != std::string_view::npos) {
      return bad("the host has a character that no host has");
    }
  }
  if (!port.empty() && (!parse_number(port, 65535, &endpoint.port) || endpoint.port == 0)) {
    return bad("the port must be 1 to 65535");
  }
  return endpoint;
}

bool Endpoint::is_plain_off_this_machine() const { return !tls && unix_path.empty() && !is_loopback_host(host); }

std::string Endpoint::display() const {
  if (!unix_path.empty()) return "unix://" + unix_path;
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return (!scheme.empty() ? scheme : tls ? "rediss" : "redis") + "://" + name + ":" + std::to_string(port);
}

}  // namespace tallygate::redis
