// The commands. Each writes what it found on standard output and returns the exit code: 0, or 1 where something is wrong or could
// not be done, with the reason on standard error.
#pragma once

#include "operator/plugin/cluster.h"

namespace tallygate::plugin {

int status(Cluster& cluster, const Arguments& arguments);
int usage(Cluster& cluster, const Arguments& arguments);
int why(Cluster& cluster, const Arguments& arguments);
int suspend(Cluster& cluster, const Arguments& arguments, bool suspended);
int credit(Cluster& cluster, const Arguments& arguments);
int check(Cluster& cluster, const Arguments& arguments);
int uninstall(Cluster& cluster, const Arguments& arguments);

int failed(const Error& error);

// One operator's pod, as it tells of itself through the API server's proxy.
struct OperatorPod {
  std::string name, version, fault;  // fault: why it could not be asked
  bool ready = false, leads = false;
  Json health;                                              // of /health
  std::vector<std::pair<std::string, std::string>> sidecars;  // software and how many: the leader's word
};
Result<std::vector<OperatorPod>> ask_operators(Cluster& cluster, const std::string& system_namespace);

}  // namespace tallygate::plugin
