// Moments as texts, in UTC (RFC 3339).
#pragma once

#include <cstdint>
#include <string>

namespace tallygate {

// "2026-01-31T00:00:00Z"
std::string rfc3339(int64_t unix_s);
// "2026-01-31T00:00:00.000000Z", always six digits; what is finer is dropped.
std::string rfc3339_micros(int64_t wall_ns);

}  // namespace tallygate
