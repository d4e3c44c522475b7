// The command `verify`.
#pragma once

#include "core/env.h"
#include "operator/main/settings.h"

namespace tallygate::operator_main {

// Prints what it found on standard output; returns the exit code: 0 where everything is right, else 1.
int verify(Env& env, const VerifySettings& settings);

}  // namespace tallygate::operator_main
