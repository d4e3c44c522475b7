#include "sidecar/main/refusal_log.h"

namespace tallygate::sidecar {

void RefusalLog::note(const proxy::Refusal& refusal, int64_t now_ns) {
  const proxy::Problem& problem = proxy::problem(refusal.reason);
  const log::Level level =
      problem.status >= 500 && problem.status != 501 && problem.status != 505 ? log::Level::kWarn : log::Level::kInfo;
  uint64_t suppressed = 0;
  if (!log::enabled(level) || !samplers_[static_cast<size_t>(refusal.reason)].admit(now_ns, suppressed)) return;
  log::write(level, "refused",
             {{"request_id", refusal.request_id},
              {"client", refusal.client},
              {"reason", problem.reason},
              {"status", problem.status},
              {"detail", refusal.detail.empty() ? std::string_view(problem.detail) : refusal.detail}},
             suppressed);
}

}  // namespace tallygate::sidecar
