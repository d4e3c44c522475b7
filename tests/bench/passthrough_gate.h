// Admits everything, and guards and adds the fields that admission does: what the data plane costs by itself.
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
  const proxy::NameSet& guarded() const override { return guarded_; }
  size_t request_headers(proxy::Admission&, std::span<char> out) override {
    return put("x-tenant: tenant-0042\r\nX-Tallygate-Tenant: shop/tenant-0042\r\n", out);
  }
  size_t response_headers(proxy::Admission&, std::span<char> out) override {
    return put("RateLimit-Limit: 1000000\r\nRateLimit-Remaining: 999999\r\nRateLimit-Reset: 60\r\n", out);
  }
  void settle(proxy::Admission&, const proxy::Outcome&) override { ++settled; }
  uint64_t settled = 0;

 private:
  static size_t put(std::string_view fields, std::span<char> out) {
    std::memcpy(out.data(), fields.data(), fields.size());
    return fields.size();
  }
  const proxy::NameSet guarded_{{"X-Tallygate-Tenant", "x-api-key", "x-tenant"}};
};

}  // namespace tallygate::bench
