#include "operator/main/verify.h"

#include <cstdio>

#include "operator/http_client/http_client.h"
#include "operator/verify/verify.h"

namespace tallygate::operator_main {

int verify(Env& env, const VerifySettings& settings) {
  verify::Deployment deployment;
  deployment.database_url = settings.database.url.text;
  deployment.redis = settings.redis;
  if (settings.stripe == Stripe::kEnabled) {
    std::string base = settings.stripe_api_base.text;
    while (base.ends_with('/')) base.pop_back();
    deployment.stripe = {std::move(base), settings.stripe_api_key, settings.stripe_version, settings.stripe_timeout_ms};
  }
  const auto http = make_http_client();
  const verify::Report report = verify::verify(env, deployment, *http);
  std::fputs((settings.output == Output::kJson ? report.json() : report.table()).c_str(), stdout);
  return report.all_right() ? 0 : 1;
}

}  // namespace tallygate::operator_main
