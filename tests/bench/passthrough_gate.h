// Admits everything, and adds the three header fields that admission adds: what the data plane costs by itself.
#pragma once

#include <cstring>

#include "sidecar/proxy/gate.h"

namespace tallygate::bench {

class PassthroughGate final : public proxy::Gate {
 public:
  proxy::Verdict admit(const proxy::RequestView&, std::string_view, proxy::Ticket, proxy::Admission&,
                       proxy::Denial&) override {
    return proxy::Verdict::kAdmit;
  }
  proxy::Verdict readmit(proxy::Ticket, proxy::Admission&, proxy::Denial&) override { return proxy::Verdict::kAdmit; }
  void abandon(proxy::Ticket, proxy::Admission&) override {}
  size_t response_headers(proxy::Admission&, std::span<char> out) override {
    static constexpr std::string_view kFields =
        "RateLimit-Limit: 1000000\r\nRateLimit-Remaining: 999999\r\nRateLimit-Reset: 60\r\n";
    std::memcpy(out.data(), kFields.data(), kFields.size());
    return kFields.size();
  }
  void settle(proxy::Admission&, const proxy::Outcome&) override { ++settled; }
  uint64_t settled = 0;
};

}  // namespace tallygate::bench
