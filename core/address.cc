#include "core/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace tallygate {
namespace {

constexpr AddressBytes kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr size_t kMappedBytes = 12;

}  // namespace

bool is_v4(const AddressBytes& address) {
  return std::equal(kMapped.begin(), kMapped.begin() + kMappedBytes, address.begin());
}

std::optional<AddressBytes> parse_address(std::string_view text) {
  const std::string copy(text);
  if (copy.find('\0') != std::string::npos) return std::nullopt;  // inet_pton would stop there
  AddressBytes address = kMapped;
  if (inet_pton(AF_INET, copy.c_str(), address.data() + kMappedBytes) == 1) return address;
  if (inet_pton(AF_INET6, copy.c_str(), address.data()) == 1) return address;
  return std::nullopt;
}

std::string to_text(const AddressBytes& address) {
  char text[INET6_ADDRSTRLEN];
  const bool v4 = is_v4(address);
  inet_ntop(v4 ? AF_INET : AF_INET6, address.data() + (v4 ? kMappedBytes : 0), text, sizeof text);
  return text;
}

bool is_loopback_host(std::string_view host) {
  if (host == "localhost") return true;
  const auto address = parse_address(host);
  return address && (is_v4(*address) ? (*address)[kMappedBytes] == 127 : to_text(*address) == "::1");
}

std::optional<Network> Network::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) return std::nullopt;
  Network network;
  network.network_ = *address;
  if (slash == std::string_view::npos) return network;
  const std::string_view digits = text.substr(slash + 1);
  const bool has_colon = text.find(':') != std::string_view::npos;
  unsigned bits = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.size() > 3 ||
      (digits.size() > 1 && digits[0] == '0') || bits > (has_colon ? 128u : 32u)) {
    return std::nullopt;
  }
  network.bits_ = has_colon ? bits : bits + 8 * kMappedBytes;
  return network;
}

bool Network::contains(const AddressBytes& address) const {
  const unsigned whole = bits_ / 8, rest = bits_ % 8;
  if (!std::equal(network_.begin(), network_.begin() + whole, address.begin())) return false;
  return rest == 0 || ((network_[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

bool Network::contains(const sockaddr* address) const {
  AddressBytes bytes = kMapped;
  if (address == nullptr) return false;
  if (address->sa_family == AF_INET) {
    std::memcpy(bytes.data() + kMappedBytes, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, 4);
  } else if (address->sa_family == AF_INET6) {
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, bytes.size());
  } else {
    return false;
  }
  return contains(bytes);
}

AddressBytes Network::masked() const {
  AddressBytes bytes = network_;
  for (unsigned bit = bits_; bit < 128; ++bit) bytes[bit / 8] &= static_cast<unsigned char>(~(0x80u >> (bit % 8)));
  return bytes;
}

bool Network::is_canonical() const { return masked() == network_; }

std::string Network::text() const {
  const AddressBytes bytes = masked();
  const unsigned before = is_v4(bytes) && bits_ >= 8 * kMappedBytes ? 8 * kMappedBytes : 0;
  return to_text(bytes) + "/" + std::to_string(bits_ - before);
}

bool is_any_of(const std::vector<Network>& networks, const AddressBytes& address) {
  return std::any_of(networks.begin(), networks.end(), [&](const Network& n) { return n.contains(address); });
}

}  // namespace tallygate
