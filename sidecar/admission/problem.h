// A denial that explains itself: RFC 9457 problem details.
#pragma once

#include <string>
#include <string_view>

#include "sidecar/admission/plan.h"
#include "sidecar/admission/reason.h"
#include "sidecar/proxy/gate.h"

namespace tallygate::sidecar {

struct DenialFacts {
  Reason reason = Reason::kUnauthenticated;
  std::string_view detail;        // for people; empty: the reason's title
  std::string_view request_id;
  std::string_view tenant;        // empty: not known
  const Plan* plan = nullptr;     // for the quota headers
  const PlanItem* item = nullptr; // the bucket that is short
  int64_t requested = 0;          // units of it that the request needs
  const char* challenge = "ApiKey";  // of a 401: the scheme that is wanted
  int64_t now_s = 0;
  int64_t retry_after_s = 0;      // 0: none
};

void write_denial(const DenialFacts& facts, proxy::Denial* denial);

}  // namespace tallygate::sidecar
