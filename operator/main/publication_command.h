// `tallygate-operator publication key|prepare|rotate|retire`: the keys that the publication is signed with.
#pragma once

#include <string>

#include "core/env.h"
#include "operator/main/settings.h"

namespace tallygate::operator_main {

// `command`: as on the command line, "publication key". The exit code.
int publication_command(Env& env, const std::string& command, const PublicationSettings& settings);

}  // namespace tallygate::operator_main
