#include "core/http/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace tallygate::http {
namespace {

constexpr AddressBytes kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr size_t kMappedBytes = 12;

bool is_v4(const AddressBytes& address) {
  return std::equal(kMapped.begin(), kMapped.begin() + kMappedBytes, address.begin());
}

uint64_t number(const AddressBytes& address, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value = value << 8 | address[at + i];
  return value;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

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

AddressKey::AddressKey(const AddressBytes& address)
    : high(is_v4(address) ? 0 : number(address, 0)), low(is_v4(address) ? number(address, 8) : 0) {}

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
  if (error != std::errc() || end != digits.data() + digits.size() || bits > (has_colon ? 128u : 32u)) {
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

bool is_any_of(const std::vector<Network>& networks, const AddressBytes& address) {
  return std::any_of(networks.begin(), networks.end(), [&](const Network& n) { return n.contains(address); });
}

std::optional<AddressBytes> client_of(std::string_view forwarded_for, const std::vector<Network>& trusted) {
  while (!forwarded_for.empty()) {
    const size_t comma = forwarded_for.rfind(',');
    const size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
    const auto address = parse_address(trimmed(forwarded_for.substr(begin)));
    if (!address) return std::nullopt;
    if (!is_any_of(trusted, *address)) return address;
    forwarded_for = forwarded_for.substr(0, begin == 0 ? 0 : comma);
  }
  return std::nullopt;
}

}  // namespace tallygate::http
