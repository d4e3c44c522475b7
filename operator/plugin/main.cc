// `kubectl-tallygate`: kubectl finds it on the PATH and calls it as `kubectl tallygate`.
#include <cstdio>
#include <map>

#include "core/config/options.h"
#include "operator/plugin/commands.h"

using namespace tallygate;
using plugin::Arguments;
using plugin::Cluster;

namespace {

struct Command {
  size_t operands;
  int (*run)(Cluster&, const Arguments&);
};
const std::map<std::string, Command> kCommands{
    {"status", {0, plugin::status}},
    {"usage", {1, plugin::usage}},
    {"why", {1, plugin::why}},
    {"suspend", {1, [](Cluster& c, const Arguments& a) { return plugin::suspend(c, a, true); }}},
    {"resume", {1, [](Cluster& c, const Arguments& a) { return plugin::suspend(c, a, false); }}},
    {"credit", {2, plugin::credit}},
    {"check", {0, plugin::check}},
    {"uninstall", {0, plugin::uninstall}},
};

int misused(const std::string& what) {
  std::fprintf(stderr, "error: %s\n`kubectl tallygate --help` lists the commands.\n", what.c_str());
  return config::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = plugin::parse(argc, argv);
  if (!arguments) return misused(arguments.error().message);
  if (arguments->help || arguments->command.empty()) {
    std::fputs(plugin::kHelp, arguments->help ? stdout : stderr);
    return arguments->help ? 0 : config::kExitUsage;
  }
  const auto command = kCommands.find(arguments->command);
  if (command == kCommands.end()) return misused("there is no command " + arguments->command);
  if (arguments->operands.size() != command->second.operands) {
    return misused(arguments->command + " takes " + std::to_string(command->second.operands) + " arguments, not " +
                   std::to_string(arguments->operands.size()));
  }
  auto cluster = Cluster::open(*arguments);
  if (!cluster) return plugin::failed(cluster.error());
  return command->second.run(*cluster, *arguments);
}
