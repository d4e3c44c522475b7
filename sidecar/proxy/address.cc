#include "sidecar/proxy/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace tallygate::proxy {
namespace {

Result<Address> parse_unix(std::string_view path) {
  Address address;
  auto* un = reinterpret_cast<sockaddr_un*>(&address.storage);
  if (path.empty() || path.size() >= sizeof un->sun_path) return fail(Errc::kInvalid, "the socket's path is too long");
  un->sun_family = AF_UNIX;
  std::memcpy(un->sun_path, path.data(), path.size());
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  address.text = "localhost";
  return address;
}

// "10.0.0.1,fd00::1" → both, with the port. kInvalid where one of them is no address.
Result<std::vector<Address>> parse_list(std::string_view hosts, const std::string& port) {
  std::vector<Address> all;
  while (true) {
    const size_t comma = std::min(hosts.find(','), hosts.size());
    const std::string host(hosts.substr(0, comma));
    const bool six = host.find(':') != std::string::npos;
    auto one = parse_address((six ? "[" + host + "]:" : host + ":") + port);
    if (!one) return tl::unexpected(one.error());
    all.push_back(std::move(*one));
    if (comma == hosts.size()) return all;
    hosts.remove_prefix(comma + 1);
  }
}

}  // namespace

Result<Address> parse_address(std::string_view text) {
  if (text.starts_with("unix:")) return parse_unix(text.substr(5));
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(Errc::kInvalid, "no port in address '" + std::string(text) + "'");
  std::string host(text.substr(0, colon));
  const std::string_view port_text = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size()) {
    return fail(Errc::kInvalid, "bad port in address '" + std::string(text) + "'");
  }
  Address address;
  address.text = std::string(text);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    address.size = sizeof *in6;
    if (inet_pton(AF_INET6, host.c_str(), &in6->sin6_addr) == 1) return address;
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&address.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    address.size = sizeof *in;
    if (inet_pton(AF_INET, host.c_str(), &in->sin_addr) == 1) return address;
  }
  return fail(Errc::kInvalid, "not an IP address and port: '" + std::string(text) + "'");
}

Result<std::vector<Address>> look_up(std::string_view text) {
  if (auto one = parse_address(text)) return std::vector{std::move(*one)};
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(Errc::kInvalid, "no port in address '" + std::string(text) + "'");
  std::string host(text.substr(0, colon));
  const std::string port(text.substr(colon + 1));
  uint16_t number = 0;  // getaddrinfo would cut one that is out of range
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size()) {
    return fail(Errc::kInvalid, "bad port in address '" + std::string(text) + "'");
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);  // with a zone
  if (host.find(',') != std::string::npos) return parse_list(host, port);
  if (host.empty()) {
    std::vector<Address> every;
    for (const std::string any : {"[::]:", "0.0.0.0:"}) {  // the first takes IPv4 too; a machine may be without IPv6
      auto address = parse_address(any + port);
      if (!address) return tl::unexpected(address.error());
      every.push_back(std::move(*address));
    }
    return every;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int rc = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (rc != 0) return fail(Errc::kUnavailable, "cannot look up " + host + ": " + gai_strerror(rc));
  std::vector<Address> all;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    Address address;
    std::memcpy(&address.storage, each->ai_addr, each->ai_addrlen);
    address.size = each->ai_addrlen;
    address.text = std::string(text);
    all.push_back(std::move(address));
  }
  freeaddrinfo(found);
  return all;
}

std::string to_string(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN];
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(in->sin_port));
  }
  if (address->sa_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + std::to_string(ntohs(in6->sin6_port));
  }
  return {};
}

}  // namespace tallygate::proxy
