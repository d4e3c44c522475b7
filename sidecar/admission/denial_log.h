// A line in the log for each denial, within bounds: of one reason a few at once, then one a second, and each line says
// how many of its reason were left out before it. Metrics count them all.
//
// Threading: one thread.
#pragma once

#include <array>
#include <string_view>

#include "core/telemetry/log.h"
#include "sidecar/admission/problem.h"

namespace tallygate::sidecar {

class DenialLog {
 public:
  // No credential and nothing else that a client chose goes into it, but the request's id, which has a harmless form.
  void note(const DenialFacts& facts, std::string_view route, int64_t now_ns);

 private:
  std::array<log::Sampler, static_cast<size_t>(Reason::kCount)> samplers_;
};

}  // namespace tallygate::sidecar
