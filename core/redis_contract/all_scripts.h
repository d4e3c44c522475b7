// Every script of core/lua/, for who loads or checks them all.
#pragma once

#include <span>

#include "core/redis_contract/scripts.h"

namespace tallygate::redis_contract {

std::span<const Script* const> all_scripts();

}  // namespace tallygate::redis_contract
