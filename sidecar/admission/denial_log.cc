#include "sidecar/admission/denial_log.h"

namespace tallygate::sidecar {

void DenialLog::note(const DenialFacts& facts, std::string_view route, int64_t now_ns) {
  const ReasonInfo& reason = info(facts.reason);
  const log::Level level = reason.status >= 500 ? log::Level::kWarn : log::Level::kInfo;
  uint64_t suppressed = 0;
  if (!log::enabled(level) || !samplers_[static_cast<size_t>(facts.reason)].admit(now_ns, suppressed)) return;
  log::write(level, "denied",
             {{"request_id", facts.request_id},
              {"tenant", facts.tenant},
              {"route", route},
              {"reason", reason.code},
              {"status", reason.status},
              {"meter", facts.item != nullptr ? std::string_view(facts.item->meter) : std::string_view()},
              {"limit", facts.item != nullptr ? std::string_view(facts.item->limit) : std::string_view()},
              {"detail", facts.detail}},
             suppressed);
}

}  // namespace tallygate::sidecar
