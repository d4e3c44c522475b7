#include "operator/admission/admission.h"

namespace tallygate::admission {
namespace {

KeeperOptions keeper_options(const AdmissionSettings& settings) {
  KeeperOptions options;
  options.folder = settings.certificates;
  options.secret = {settings.secret.space, settings.secret.name};
  options.configuration = settings.configuration;
  options.dns_names = dns_names(settings.service);
  return options;
}

}  // namespace

Admission::Admission(Env& env, kube::Client& client, const AdmissionSettings& settings, metrics::Registry& registry)
    : cluster_(env, client, registry),
      webhook_(env, *settings.listen, cluster_, settings.injector, registry),
      keeper_(
          env, client, keeper_options(settings),
          [this](const std::string& certificate, const std::string& key) { return webhook_.use(certificate, key); },
          registry) {}

void Admission::start() {
  cluster_.start();
  keeper_.start();
}

void Admission::stop(int64_t grace_ms) {
  keeper_.stop();  // else it might open the webhook again
  webhook_.stop(grace_ms);
  cluster_.stop();
}

}  // namespace tallygate::admission
