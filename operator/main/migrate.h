// The command `migrate`.
#pragma once

#include "core/env.h"
#include "operator/main/settings.h"

namespace tallygate::operator_main {

// Tells on standard output what it applied; returns the exit code.
int migrate(Env& env, const MigrateSettings& settings);

}  // namespace tallygate::operator_main
