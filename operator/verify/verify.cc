#include "operator/verify/verify.h"

namespace tallygate::verify {

Report verify(Env& env, const Deployment& deployment, HttpClient& http) {
  Report report;
  const auto facts = check_postgres(deployment.database_url, report);
  const LedgerFacts* known = facts ? &*facts : nullptr;
  check_redis(
      env, deployment.redis, known, [&] { return read_facts(deployment.database_url); }, deployment.settle_ms, report);
  if (deployment.stripe) {
    check_stripe(http, *deployment.stripe, known, report);
  } else {
    report.skipped("stripe", "--stripe=disabled: usage is kept and not submitted");
  }
  // Manifests come from a folder only; there is no cluster to ask.
  report.skipped("kubernetes: CRDs", "no Kubernetes source: manifests come from a folder");
  return report;
}

}  // namespace tallygate::verify
