#include "core/http/address.h"

namespace tallygate::http {
namespace {

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

AddressKey::AddressKey(const AddressBytes& address)
    : high(is_v4(address) ? 0 : number(address, 0)), low(is_v4(address) ? number(address, 8) : 0) {}

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
