// A line in the log for each request that the proxy itself refuses or fails; bounded as admission's denials are.
//
// Threading: one thread.
#pragma once

#include <array>

#include "core/telemetry/log.h"
#include "sidecar/proxy/options.h"
#include "sidecar/proxy/problem.h"

namespace tallygate::sidecar {

class RefusalLog {
 public:
  void note(const proxy::Refusal& refusal, int64_t now_ns);

 private:
  std::array<log::Sampler, static_cast<size_t>(proxy::Reason::kCount)> samplers_;
};

}  // namespace tallygate::sidecar
