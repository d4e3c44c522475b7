// Where to listen and where the app is: "10.0.0.1:80", "[::1]:80" or "unix:/path". No names: nothing here resolves them.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate::proxy {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  std::string text;  // as a Host value: "10.0.0.1:80"; "localhost" for a Unix socket
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

Result<Address> parse_address(std::string_view text);
// "10.0.0.1:80" or "[::1]:80"; empty for other families.
std::string to_string(const sockaddr* address);

}  // namespace tallygate::proxy
