// The JSON form of the policy model, as published to Redis. Readers ignore members they do not know, and refuse a
// document whose "v" is newer than theirs.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "core/tenant/model.h"

namespace tallygate::tenant {

std::string to_json(const Tenant& tenant);
std::string to_json(const Policy& policy);
Result<Tenant> tenant_from_json(std::string_view json);
Result<Policy> policy_from_json(std::string_view json);

}  // namespace tallygate::tenant
