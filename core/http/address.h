// Addresses of clients: how they are counted, and which of them are proxies whose word is taken for others.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/address.h"

namespace tallygate::http {

// An address as one client has it: IPv4 whole; of IPv6 the first 64 bits.
struct AddressKey {
  explicit AddressKey(const AddressBytes& address);
  bool operator==(const AddressKey&) const = default;
  uint64_t high, low;
};

// Whose request it is that a trusted proxy brings: the last address of X-Forwarded-For that is none of theirs; nullopt
// where it is not said, or not clearly.
std::optional<AddressBytes> client_of(std::string_view forwarded_for, const std::vector<Network>& trusted);

}  // namespace tallygate::http
