// What injection has to know of the cluster: the namespaces' labels and the BillingPolicies, followed by watches of
// their own, so that the webhook answers on every replica, whatever else is away.
//
// What a watch does not know yet is asked of the API server: a pod may come a moment after its namespace's label, or
// its policy, and would stay without for its whole life.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/admission/inject.h"
#include "operator/kube/client.h"
#include "operator/kube/reflector.h"

namespace tallygate::admission {

struct NamespaceView {
  StringMap labels, annotations;
  std::vector<PolicyView> policies;
};

// Of a BillingPolicy's JSON; what is not as it should be reads as absent.
PolicyView policy_view(const Json& object);

class ClusterView {
 public:
  // `env`, `client` and `registry` outlive it.
  ClusterView(Env& env, kube::Client& client, metrics::Registry& registry);
  void start();
  void stop();

  // As far as it is known here. Any thread.
  NamespaceView known(const std::string& name_space) const;
  // As the API server has it now. Blocks.
  Result<NamespaceView> fresh(const std::string& name_space);
  // Whether the Secret is somebody else's and has no kPublicationKey, as the API server has it now; not where that cannot
  // be told: a sidecar that waits for its key says so. Blocks.
  bool has_foreign_secret(const std::string& name_space, const std::string& secret);

 private:
  kube::Client& client_;
  kube::Reflector namespaces_, policies_;
};

}  // namespace tallygate::admission
