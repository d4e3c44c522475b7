// Where to listen and where the app is: "10.0.0.1:80", "[::1]:80", "unix:/path", ":80", "name:80", or one of several
// addresses, "[10.0.0.1,fd00::1]:80" (a pod's, as the kubelet tells them).
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::proxy {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  std::string text;  // as a Host value: "10.0.0.1:80"; "localhost" for a Unix socket
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// Without a look-up: kInvalid for names and for an empty host.
Result<Address> parse_address(std::string_view text);
// As parse_address(); also a name, looked up now, and an empty host, every address of this machine. All that there are,
// at least one, in the order in which to try them. A look-up may block for seconds; kUnavailable where it finds
// nothing.
Result<std::vector<Address>> look_up(std::string_view text);
// "10.0.0.1:80" or "[::1]:80"; empty for other families.
std::string to_string(const sockaddr* address);

}  // namespace tallygate::proxy
