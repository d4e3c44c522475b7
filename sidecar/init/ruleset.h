// The redirects as nftables rules. Pure.
//
// New inbound TCP connections to a captured port go to the port where the sidecar listens for it, IPv4 and IPv6 alike:
// one table of the family inet, so that neither can be forgotten. Only what comes from outside the pod passes the hook
// prerouting for the first time there: the app's own connections and the sidecar's to the app, which go over the
// loopback interface, are left alone, and so is everything outbound.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::sidecar {

struct Redirect {
  uint16_t from = 0;  // the app's port
  uint16_t to = 0;    // the sidecar's
  auto operator<=>(const Redirect&) const = default;
};

inline constexpr char kCaptureTable[] = "tallygate";

// A transaction for nft(8) that makes the table anew, whatever was in it before. Without redirects it removes it.
std::string ruleset(const std::vector<Redirect>& redirects);

// Whether the kernel's table, as JSON of libnftables-json(5), is what ruleset() asked for. The error says what differs.
Result<void> verify(const std::vector<Redirect>& redirects, std::string_view json);

}  // namespace tallygate::sidecar
