#include "operator/admission/settings.h"

#include "core/ids.h"
#include "operator/admission/pod.h"

namespace tallygate::admission {
namespace {

using config::Parsed;
using config::Parser;
using config::Refusal;

template <class T>
Parser<std::optional<T>> optional_of(Parser<T> base) {
  return {[base](std::string_view in) -> Parsed<std::optional<T>> {
            auto parsed = base(in);
            if (!parsed) return tl::unexpected<Refusal>(std::move(parsed.error()));
            return std::optional(std::move(*parsed));
          },
          base.placeholder};
}

Parser<std::string> object_name() {
  return {[](std::string_view in) -> Parsed<std::string> {
            if (is_dns_subdomain(in)) return std::string(in);
            return config::refuse(config::quoted(in) + " is no name of an object",
                                  "write lower-case letters, digits, '-' and '.'");
          },
          "NAME"};
}

// What Kubernetes would refuse in each pod is refused here, once.
Parser<std::string> resource_quantity() {
  return {[](std::string_view in) -> Parsed<std::string> {
            if (in.size() < 20 && quantity(in) > 0) return std::string(in);
            return config::refuse(config::quoted(in) + " is no quantity", "write one such as 10m, 0.5 or 64Mi");
          },
          "QUANTITY"};
}

Parser<std::optional<int64_t>> user() {
  const auto number = config::integer(1, INT32_MAX);
  return {[number](std::string_view in) -> Parsed<std::optional<int64_t>> {
            if (in == "platform") return std::optional<int64_t>();
            auto parsed = number(in);
            if (!parsed)
              return config::refuse(config::quoted(in) + " is no user", "write a number above 0, or platform");
            return std::optional(*parsed);
          },
          "UID|platform"};
}

void declare_sidecar(config::OptionSet& options, InjectorSettings& s) {
  options.add("sidecar-image", &s.image, config::text(1, 512))
      .env()
      .help("the image of tallygate-sidecar that is injected, with its tag or digest; required with --webhook");
  options
      .add("sidecar-image-pull-policy", &s.image_pull_policy,
           config::one_of<std::string>(
               {{"default", ""}, {"Always", "Always"}, {"IfNotPresent", "IfNotPresent"}, {"Never", "Never"}}))
      .env()
      .fallback("default")
      .help("default: as Kubernetes chooses by the tag");
  options.add("sidecar-pull-secrets", &s.pull_secrets, config::list_of(object_name()))
      .env()
      .help("Secrets of the pods' namespaces that may pull the image; added to each pod");
  options.add("sidecar-secret", &s.credentials, object_name())
      .env()
      .fallback(kCredentialsSecret)
      .help("the Secret in the pods' namespaces that holds redis-url and, with --sidecar-ledger-url, ledger-token");
  options.add("sidecar-ledger-url", &s.ledger_url, config::text(1, 512))
      .env()
      .help("where sidecars lease units while Redis is away: this API as pods reach it, https://…");
  options.add("sidecar-private-ca", &s.private_authority, config::boolean())
      .env()
      .fallback("false")
      .help("sidecars trust ca.crt of --sidecar-secret, for Redis and for the ledger, and no other authority");
  options
      .add("capture", &s.capture,
           config::one_of<Capture>(
               {{"auto", Capture::kAuto}, {"redirect", Capture::kRedirect}, {"unprivileged", Capture::kUnprivileged}}))
      .env()
      .fallback("auto")
      .help(
          "how requests reach the sidecar. redirect: an init container with NET_ADMIN; unprivileged: by the name of "
          "the "
          "app's port; auto: redirect, unless the namespace's Pod Security label is baseline or restricted");
  // No variables: a Service called tallygate-sidecar makes Kubernetes set TALLYGATE_SIDECAR_PORT.
  options.add("sidecar-port", &s.listen_port, config::integer_as<uint16_t>(1024, 65535))
      .fallback("9900")
      .help("where sidecars take requests");
  options.add("sidecar-admin-port", &s.admin_port, config::integer_as<uint16_t>(1024, 65535))
      .fallback("9902")
      .help("where sidecars have metrics, health, and the relay of the app's probes");
  options.add("sidecar-cpu-request", &s.cpu_request, resource_quantity()).env().fallback("10m").help("of each sidecar");
  options.add("sidecar-cpu-limit", &s.cpu_limit, resource_quantity())
      .env()
      .fallback("200m")
      .help("request and limit in a pod of QoS class Guaranteed; others have no CPU limit");
  options.add("sidecar-memory-request", &s.memory_request, resource_quantity()).env().fallback("32Mi").help("of each sidecar");
  options.add("sidecar-memory-limit", &s.memory_limit, resource_quantity()).env().fallback("128Mi").help("of each sidecar");
  options.add("sidecar-log-mib", &s.log_mib, config::integer(16, 4096))
      .env()
      .fallback("64")
      .help("MiB of usage that a sidecar keeps until the ledger has it; its volume may grow to three times that");
  options.add("sidecar-user", &s.run_as_user, user())
      .env()
      .fallback("65532")
      .help("who sidecars run as; platform: as the platform says, such as OpenShift");
}

}  // namespace

void declare_admission(config::OptionSet& options, AdmissionSettings& s) {
  options.add("webhook", &s.listen, optional_of(config::listen_address()))
      .env()
      .help(
          "where the API server asks before it stores: validation, sidecar injection; without it there is no webhook");
  options.add("webhook-certificates", &s.certificates, config::directory(config::Must::kExist))
      .env()
      .help(
          "a folder with tls.crt and tls.key, followed as they change, such as cert-manager's Secret; without it the "
          "operator makes its own and tells the API server whom to trust");
  options.add("webhook-service", &s.service, config::object_name())
      .env()
      .fallback("tallygate-system/tallygate-webhook")
      .help("the Service before the webhook: the certificate is made for its name");
  options.add("webhook-secret", &s.secret, config::object_name())
      .env()
      .fallback("tallygate-system/tallygate-webhook-certificates")
      .help("where the certificates are kept that all replicas share");
  options.add("webhook-configuration", &s.configuration, object_name())
      .env()
      .fallback("tallygate")
      .help(
          "the name of the ValidatingWebhookConfiguration and of the MutatingWebhookConfiguration that call this "
          "webhook");
  declare_sidecar(options, s.injector);
  s.injector.version = TALLYGATE_VERSION;
  options.check("sidecar-image", [&s]() -> std::optional<Refusal> {
    if (!s.listen || !s.injector.image.empty()) return std::nullopt;
    return Refusal{"there is nothing to inject", "name the image of tallygate-sidecar, with its tag or digest"};
  });
  options.check("sidecar-admin-port", [&s]() -> std::optional<Refusal> {
    if (s.injector.admin_port != s.injector.listen_port) return std::nullopt;
    return Refusal{"it is --sidecar-port", "use two ports"};
  });
  options.check("sidecar-ledger-url", [&s]() -> std::optional<Refusal> {
    const std::string& url = s.injector.ledger_url;
    if (url.empty() || url.starts_with("https://")) return std::nullopt;
    return Refusal{"the token would go over plain HTTP", "write https://"};
  });
}

std::vector<std::string> dns_names(const config::ObjectName& service) {
  const std::string name = service.name + "." + service.space;
  return {name + ".svc", name + ".svc.cluster.local", name};
}

}  // namespace tallygate::admission
