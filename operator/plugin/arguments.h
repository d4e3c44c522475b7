// The command line of `kubectl tallygate`: COMMAND [ARGUMENT…] [--flag VALUE | --flag=VALUE]…, flags anywhere.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace tallygate::plugin {

struct Arguments {
  std::string command;
  std::vector<std::string> operands;
  std::string kubeconfig, context;  // empty: kubectl's
  std::string name_space;           // of tenants that are named without one; empty: the context's
  std::string system_namespace = "tallygate-system";
  std::string reason, currency, key;
  std::string token_secret = "tallygate-cli";
  bool json = false, watch = false, yes = false, pre = false, help = false;
};

// kInvalid: what is wrong, for people.
Result<Arguments> parse(int argc, const char* const* argv);

extern const char kHelp[];

}  // namespace tallygate::plugin
