#include "operator/admission/sidecar_container.h"

#include "operator/admission/pod.h"

namespace tallygate::admission {
namespace {

constexpr char kProgram[] = "/usr/local/bin/tallygate-sidecar";  // in our images
constexpr char kLogMount[] = "/var/lib/tallygate";
constexpr char kCredentialsMount[] = "/var/run/tallygate";
// Where the ServiceAccount plug-in mounts a token into each container that has nothing there. It runs again after us.
constexpr char kTokenMount[] = "/var/run/secrets/kubernetes.io/serviceaccount";
// The volume holds the log, what a predecessor left while its usage is being sent, and booked usage that is kept.
constexpr int64_t kVolumePerLog = 3;

std::string mebibytes(int64_t number) { return std::to_string(number) + "Mi"; }

Json arguments(const SidecarSpec& spec, const InjectorSettings& settings) {
  const std::string app = spec.app_on_loopback ? "127.0.0.1" : "[$(POD_IPS)]";
  Json args = {"run",
               "--listen=:" + std::to_string(settings.listen_port),
               "--upstream=" + app + ":" + std::to_string(spec.app_port),
               "--admin=:" + std::to_string(settings.admin_port),
               "--policy=" + spec.policy,
               std::string("--redis-url-file=") + kCredentialsMount + "/" + kRedisUrlKey,
               // Below the mount, so that it can be made with a mode of its own.
               std::string("--data-dir=") + kLogMount + "/log",
               "--max-log-bytes=" + std::to_string(settings.log_mib) + "MiB",
               "--keep-booked-bytes=" + std::to_string(settings.log_mib) + "MiB"};
  const std::string authority = std::string(kCredentialsMount) + "/" + kAuthorityKey;
  if (settings.private_authority) args.push_back("--redis-ca-file=" + authority);
  if (settings.redis_insecure) args.push_back("--redis-insecure");
  if (spec.verifies) args.push_back(std::string("--publication-key-file=") + kCredentialsMount + "/" + kPublicationKey);
  if (spec.verifies && settings.peppered) {
    args.push_back(std::string("--api-key-pepper-file=") + kCredentialsMount + "/" + kPepperKey);
  }
  if (!settings.ledger_url.empty()) {
    args.push_back("--ledger-url=" + settings.ledger_url);
    args.push_back(std::string("--ledger-token-file=") + kCredentialsMount + "/" + kLedgerTokenKey);
    if (settings.private_authority) args.push_back("--ledger-ca-file=" + authority);
  }
  return args;
}

Json resources(const Json& pod, const InjectorSettings& settings) {
  // A pod that has a budget as a whole: the sidecar lives within it.
  if (!at(pod, "/spec/resources").empty()) return Json::object();
  if (is_guaranteed(pod)) {
    const Json both = {{"cpu", settings.cpu_limit}, {"memory", settings.memory_limit}};
    return {{"limits", both}, {"requests", both}};
  }
  Json all = {{"requests", {{"cpu", settings.cpu_request}, {"memory", settings.memory_request}}},
              {"limits", {{"memory", settings.memory_limit}}}};
  return all;
}

// A pod is evicted whose files, volumes included, are larger than its containers' limits together: where others have
// one, the log needs its share. Where none has, one of ours would become the whole pod's.
void add_storage_limit(const Json& pod, const InjectorSettings& settings, Json* resources) {
  bool limited = false;
  for_each_container(pod, [&](const Json& each) {
    limited = limited || at(each, "/resources/limits").contains("ephemeral-storage");
  });
  if (!limited) return;
  const std::string size = mebibytes(settings.log_mib * kVolumePerLog + 16);
  (*resources)["limits"]["ephemeral-storage"] = size;
  (*resources)["requests"]["ephemeral-storage"] = size;
}

Json security(const InjectorSettings& settings) {
  Json context = {{"allowPrivilegeEscalation", false},
                  {"capabilities", {{"drop", {"ALL"}}}},
                  {"readOnlyRootFilesystem", true},
                  {"runAsNonRoot", true},
                  {"seccompProfile", {{"type", "RuntimeDefault"}}}};
  if (settings.run_as_user) context["runAsUser"] = *settings.run_as_user;
  return context;
}

// As text that Kubernetes does not take for references to other variables.
std::string literal(const Json& value) {
  std::string text;
  for (const char c : value.dump()) text += c == '$' ? std::string("\\u0024") : std::string(1, c);
  return text;
}

Json mount(const char* volume, const char* path, bool read_only) {
  Json made = {{"name", volume}, {"mountPath", path}};
  if (read_only) made["readOnly"] = true;
  return made;
}

}  // namespace

Json sidecar_container(const SidecarSpec& spec, const Json& pod, const InjectorSettings& settings) {
  Json container = {{"name", kSidecar},
                    {"image", settings.image},
                    {"restartPolicy", "Always"},
                    {"args", arguments(spec, settings)},
                    {"securityContext", security(settings)}};
  if (!settings.image_pull_policy.empty()) container["imagePullPolicy"] = settings.image_pull_policy;
  container["env"] = Json::array(
      {{{"name", "POD_IPS"}, {"valueFrom", {{"fieldRef", {{"apiVersion", "v1"}, {"fieldPath", "status.podIPs"}}}}}}});
  if (!spec.relays.empty()) container["env"].push_back({{"name", kProbesVariable}, {"value", literal(spec.relays)}});
  container["ports"] = Json::array(
      {spec.request_port, {{"name", kAdminPort}, {"containerPort", settings.admin_port}, {"protocol", "TCP"}}});
  // Started: it listens. It waits for Redis and its policy by itself, so that nothing that is away delays the app.
  container["startupProbe"] = {
      {"tcpSocket", {{"port", settings.listen_port}}}, {"periodSeconds", 1}, {"failureThreshold", 120}};
  container["readinessProbe"] = {{"httpGet", {{"path", "/readyz"}, {"port", settings.admin_port}}},
                                 {"periodSeconds", 2},
                                 {"failureThreshold", 2},
                                 {"timeoutSeconds", 2}};
  container["livenessProbe"] = {{"httpGet", {{"path", "/health"}, {"port", settings.admin_port}}},
                                {"periodSeconds", 10},
                                {"failureThreshold", 3},
                                {"timeoutSeconds", 5}};
  // The app is told to end at once, a native sidecar after it: until then clients are to be let go of.
  container["lifecycle"] = {
      {"preStop", {{"exec", {{"command", {kProgram, "drain", "--admin=:" + std::to_string(settings.admin_port)}}}}}}};
  container["volumeMounts"] = {mount(kLogVolume, kLogMount, false), mount(kCredentialsVolume, kCredentialsMount, true),
                               mount(kNoTokenVolume, kTokenMount, true)};
  Json budget = resources(pod, settings);
  add_storage_limit(pod, settings, &budget);
  if (!budget.empty()) container["resources"] = std::move(budget);
  return container;
}

Json init_container(int64_t app_port, const Json& pod, const InjectorSettings& settings) {
  const std::string redirect = std::to_string(app_port) + ":" + std::to_string(settings.listen_port);
  // Root, for a capability that is added reaches no other user; and nothing else of root's.
  Json container = {{"name", kInit},
                    {"image", settings.image},
                    {"args", {"init", "--capture=" + redirect}},
                    {"securityContext",
                     {{"allowPrivilegeEscalation", false},
                      {"capabilities", {{"drop", {"ALL"}}, {"add", {"NET_ADMIN"}}}},
                      {"readOnlyRootFilesystem", true},
                      {"runAsNonRoot", false},
                      {"runAsUser", 0},
                      {"seccompProfile", {{"type", "RuntimeDefault"}}}}},
                    {"volumeMounts", Json::array({mount(kNoTokenVolume, kTokenMount, true)})}};
  if (!settings.image_pull_policy.empty()) container["imagePullPolicy"] = settings.image_pull_policy;
  if (Json budget = resources(pod, settings); !budget.empty()) container["resources"] = std::move(budget);
  return container;
}

Json sidecar_volumes(const InjectorSettings& settings) {
  return {{{"name", kLogVolume}, {"emptyDir", {{"sizeLimit", mebibytes(settings.log_mib * kVolumePerLog)}}}},
          {{"name", kCredentialsVolume}, {"secret", {{"secretName", settings.credentials}}}},
          {{"name", kNoTokenVolume}, {"emptyDir", {{"sizeLimit", "1Mi"}}}}};
}

}  // namespace tallygate::admission
