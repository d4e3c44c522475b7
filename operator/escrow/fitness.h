// Whether a Redis server takes what will be asked of it: its role, its cluster mode, what our user may do, room to
// write. Asked before an epoch is spent on it, and by health, so that people read what is wrong with the server in
// place of the last command that failed.
#pragma once

#include <string>
#include <string_view>

#include "core/redis_client/client.h"

namespace tallygate::escrow {

enum class Trial : uint8_t {
  kQuiet,  // all but telling sidecars of it
  kWhole,  // they look once more whether something was published
};

// What is wrong with the server, and the fix; empty: nothing is. An error: it is away, or cannot say yet.
Result<std::string> unfit(redis::Client& redis, Trial trial);

// Of the answer to INFO: why a server of this kind cannot be used; empty: it can. Pure.
std::string unfit_by_info(std::string_view info);

}  // namespace tallygate::escrow
