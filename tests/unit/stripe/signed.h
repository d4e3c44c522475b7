// Signs as Stripe does.
#pragma once

#include <string>
#include <string_view>

#include "core/hmac.h"

namespace tallygate::testing {

inline std::string to_hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

inline std::string mac_of(std::string_view secret, std::string_view moment, std::string_view body) {
  return to_hex(hmac_sha256(secret, std::string(moment) + "." + std::string(body)));
}

inline std::string stripe_signature(std::string_view secret, int64_t at_s, std::string_view body) {
  const std::string moment = std::to_string(at_s);
  return "t=" + moment + ",v1=" + mac_of(secret, moment, body);
}

}  // namespace tallygate::testing
