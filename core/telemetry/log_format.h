// What a log line looks like; internal to the log.
#pragma once

#include "core/telemetry/log.h"

namespace tallygate::log::internal {

// Both without the newline. `suppressed` is shown unless 0.
std::string json_line(int64_t wall_ns, Level level, std::string_view message, Fields fields, uint64_t suppressed);
std::string text_line(int64_t wall_ns, Level level, std::string_view message, Fields fields, uint64_t suppressed);

}  // namespace tallygate::log::internal
