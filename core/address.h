// IP addresses and blocks of them: the one place that reads either. Values; any thread.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct sockaddr;

namespace tallygate {

// IPv4 as IPv4-mapped IPv6.
using AddressBytes = std::array<unsigned char, 16>;

// Without port, brackets and zone; nullopt where it is none.
std::optional<AddressBytes> parse_address(std::string_view text);
// "192.0.2.1", "2001:db8::1".
std::string to_text(const AddressBytes& address);
bool is_v4(const AddressBytes& address);
// localhost, 127.0.0.0/8 or ::1: what is sent there stays on this machine. Other names may be anybody's.
bool is_loopback_host(std::string_view host);

class Network {
 public:
  // "10.0.0.0/8", "2001:db8::/32", or one address. Bits past the prefix do not count.
  static std::optional<Network> parse(std::string_view text);
  bool contains(const AddressBytes& address) const;
  // False for null, and for what is no IP address.
  bool contains(const sockaddr* address) const;
  // Whether all bits past the prefix are 0, as text() has them.
  bool is_canonical() const;
  // "10.0.0.0/8", always with its prefix.
  std::string text() const;

 private:
  AddressBytes masked() const;
  AddressBytes network_{};
  unsigned bits_ = 128;
};

bool is_any_of(const std::vector<Network>& networks, const AddressBytes& address);

}  // namespace tallygate
