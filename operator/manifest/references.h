// The rules between objects: what an object names must exist and agree. Private to accept.cc.
#pragma once

#include <map>
#include <string>

#include "operator/manifest/fault.h"
#include "operator/manifest/resources.h"

namespace tallygate::manifest {

// object key → what is wrong with it, given all of `resources`; nothing about an object's own form. `previous` is what
// is in force: who held an identity or was the default plan keeps it.
std::map<std::string, Faults> check_references(const Resources& resources, const Resources& previous);

// A change of an accepted plan's prices.
bool check_immutable(const BillingPlan& plan, const Resources& previous, Faults* faults);

}  // namespace tallygate::manifest
