// The operator's part that answers the API server: the webhook, its view of the cluster and its certificates.
//
// Threading: start() and stop() from the owner's thread; trouble() and listens() from any.
#pragma once

#include <atomic>
#include <string>

#include "core/env.h"
#include "core/telemetry/metrics.h"
#include "operator/admission/certificate_keeper.h"
#include "operator/admission/cluster_view.h"
#include "operator/admission/settings.h"
#include "operator/admission/webhook.h"
#include "operator/kube/client.h"

namespace tallygate::admission {

class Admission {
 public:
  // What is referred to outlives it; `settings.listen` is given.
  Admission(Env& env, kube::Client& client, const AdmissionSettings& settings, metrics::Registry& registry);
  void start();
  // Ends what is under way, at most `grace_ms`.
  void stop(int64_t grace_ms);

  bool listens() const { return webhook_.listens(); }
  // What is not in order with the certificates; empty: nothing.
  std::string trouble() const { return keeper_.trouble(); }

 private:
  ClusterView cluster_;
  Webhook webhook_;
  CertificateKeeper keeper_;
};

}  // namespace tallygate::admission
