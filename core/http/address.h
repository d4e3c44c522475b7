// Addresses of clients: how they are counted, and which of them are proxies whose word is taken for others.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::http {

// IPv4 as IPv4-mapped IPv6.
using AddressBytes = std::array<unsigned char, 16>;

// Without port, brackets and zone; nullopt where it is none.
std::optional<AddressBytes> parse_address(std::string_view text);
// "192.0.2.1", "2001:db8::1".
std::string to_text(const AddressBytes& address);

// An address as one client has it: IPv4 whole; of IPv6 the first 64 bits.
struct AddressKey {
  explicit AddressKey(const AddressBytes& address);
  bool operator==(const AddressKey&) const = default;
  uint64_t high, low;
};

class Network {
 public:
  // "10.0.0.0/8", "2001:db8::/32", or one address.
  static std::optional<Network> parse(std::string_view text);
  bool contains(const AddressBytes& address) const;

 private:
  AddressBytes network_{};
  unsigned bits_ = 128;
};

bool is_any_of(const std::vector<Network>& networks, const AddressBytes& address);
// Whose request it is that a trusted proxy brings: the last address of X-Forwarded-For that is none of theirs; nullopt
// where it is not said, or not clearly.
std::optional<AddressBytes> client_of(std::string_view forwarded_for, const std::vector<Network>& trusted);

}  // namespace tallygate::http
