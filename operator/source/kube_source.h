// Manifests from a cluster: BillingPlan, BillingTenant and BillingPolicy as the API server has them.
//
// The first look comes when each kind has been listed whole; until then, and while the API server is away, what was last
// accepted stays in force, and trouble says why. A kind that the server does not know (any more), whose CRD is on its way
// out, or that we may not read is doubted: what is missing of it was hardly removed by those whose it is.
//
// Changes are gathered: a look comes 10 ms after the first of them, and after a look that took long to take a pause of
// once and a half that time, so that a busy cluster costs no more than 40 % of a core. A status that is written is no
// change.
//
// Threading: the reflectors have a thread each; what they tell is posted to the loop. known() from any thread.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/io/event_loop.h"
#include "core/telemetry/metrics.h"
#include "operator/kube/client.h"
#include "operator/kube/reflector.h"
#include "operator/source/source.h"

namespace tallygate::source {

enum class Kind : uint8_t { kPlan, kTenant, kPolicy };
inline constexpr std::array kKinds{Kind::kPlan, Kind::kTenant, Kind::kPolicy};
const kube::ResourceType& type_of(Kind kind);

class KubeSource final : public Source {
 public:
  // `env`, `loop`, `client` and `registry` outlive it.
  // `secret_namespaces`: where Secrets may be read that tenants' API keys are in.
  KubeSource(Env& env, EventLoop& loop, kube::Client& client, const std::vector<std::string>& secret_namespaces,
             metrics::Registry& registry);
  ~KubeSource() override;
  Result<void> start(OnLook on_look) override;
  void stop() override;  // blocks for up to a second: watches end

  // The objects, statuses and all.
  std::shared_ptr<const kube::Reflector::Known> known(Kind kind) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tallygate::source
