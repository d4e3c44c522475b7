#include "core/ledger_clock.h"

#include <cstdio>
#include <cstdlib>

namespace tallygate {

std::string LedgerClock::machine_fault() {
  const int64_t ahead_ms = machine_ahead_ms();
  if (std::abs(ahead_ms) <= kClockBound_ms) return "";
  char text[160];
  std::snprintf(text, sizeof text,
                "this machine's clock is %.1f s %s the ledger's, which is followed; have NTP keep it",
                static_cast<double>(std::abs(ahead_ms)) / 1000, ahead_ms > 0 ? "ahead of" : "behind");
  return text;
}

}  // namespace tallygate
