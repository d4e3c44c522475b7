// `tallygate-operator key new`: an API key for a tenant's client, and its hash for the manifest.
#pragma once

#include "core/env.h"

namespace tallygate::operator_main {

// Prints both, once: nothing keeps the key. The exit code.
int key_new(Env& env);

}  // namespace tallygate::operator_main
