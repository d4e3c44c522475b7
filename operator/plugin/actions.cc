#include <algorithm>
#include <cstdio>
#include <iostream>

#include "core/base64.h"
#include "operator/plugin/commands.h"

namespace tallygate::plugin {
namespace {

const kube::ResourceType kValidating{"admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations",
                                     "ValidatingWebhookConfiguration", false};
const kube::ResourceType kMutating{"admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations",
                                   "MutatingWebhookConfiguration", false};
constexpr char kOurs[] = "billing.tallygate.dev/";

kube::ObjectName name_of(const Json& object) {
  return {text_at(object, {"metadata", "namespace"}), text_at(object, {"metadata", "name"})};
}

// Who kubectl's user is, by the API server.
Result<std::string> whoami(Cluster& cluster) {
  const auto review = cluster.raw("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                                  {{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "SelfSubjectReview"}});
  if (!review) return tl::unexpected<Error>(review.error());
  return text_at(*review, {"status", "userInfo", "username"}, "unknown");
}

Result<std::string> service_token(Cluster& cluster, const Arguments& arguments) {
  const kube::ObjectName name{arguments.system_namespace, arguments.token_secret};
  const auto secret = cluster.get(kSecrets, name);
  if (!secret) return tl::unexpected<Error>(secret.error());
  auto token = base64_decode(text_at(*secret, {"data", "token"}));
  if (!token || token->empty()) return fail(Errc::kInvalid, "the Secret " + name.str() + " has no `token`");
  while (token->ends_with('\n')) token->pop_back();
  return std::move(*token);
}

bool serves_tls(const Json& container) {
  for (const char* where : {"args", "command"}) {
    for (const Json& word : at(container, {where})) {
      if (word.is_string() && word.get<std::string>().starts_with("--api-tls-")) return true;
    }
  }
  return false;
}

// The path of an operator's API behind the API server's proxy: of any that is ready, for all of them serve it.
Result<std::string> api_path(Cluster& cluster, const Arguments& arguments) {
  const auto pods = cluster.list(kPods, arguments.system_namespace, kOperatorLabels);
  if (!pods) return tl::unexpected<Error>(pods.error());
  for (const Json& pod : *pods) {
    if (text_at(condition(pod, "Ready"), {"status"}) != "True") continue;
    for (const Json& container : at(pod, {"spec", "containers"})) {
      for (const Json& port : at(container, {"ports"})) {
        if (text_at(port, {"name"}) != "api") continue;
        return "/api/v1/namespaces/" + arguments.system_namespace + "/pods/" + (serves_tls(container) ? "https:" : "") +
               name_of(pod).name + ":" + text_at(port, {"containerPort"}) + "/proxy";
      }
    }
  }
  return fail(Errc::kNotFound, "no operator in " + arguments.system_namespace +
                                   " is ready and serves the API: install the chart with api.enabled=true");
}

std::string random_key() {
  return "kubectl-" + system_env().random_hex(12);
}

bool agreed(const Arguments& arguments, const std::string& question) {
  if (arguments.yes) return true;
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string line;
  return std::getline(std::cin, line) && (line == "y" || line == "Y" || line == "yes");
}

}  // namespace

int suspend(Cluster& cluster, const Arguments& arguments, bool suspended) {
  const auto name = cluster.tenant_name(arguments.operands.at(0));
  if (!name) return failed(name.error());
  const auto done = cluster.client().merge_patch(kTenants, *name, Json{{"spec", {{"suspend", suspended}}}}.dump());
  if (!done) return failed(done.error());
  if (arguments.json) std::fputs(dump({{"tenant", name->str()}, {"suspend", suspended}}).c_str(), stdout);
  else std::printf("%s is %s\n", name->str().c_str(), suspended ? "suspended" : "no longer suspended");
  return 0;
}

int credit(Cluster& cluster, const Arguments& arguments) {
  if (arguments.reason.empty()) {
    std::fprintf(stderr, "error: say why with --reason: it is kept in the audit log\n");
    return 64;
  }
  const auto name = cluster.tenant_name(arguments.operands.at(0));
  if (!name) return failed(name.error());
  const auto api = api_path(cluster, arguments);
  if (!api) return failed(api.error());
  const auto token = service_token(cluster, arguments);
  if (!token) return failed(token.error());
  const auto user = whoami(cluster);
  if (!user) return failed(user.error());
  const std::string key = arguments.key.empty() ? random_key() : arguments.key;
  Json body{{"amount", arguments.operands.at(1)}, {"reason", arguments.reason}};
  if (!arguments.currency.empty()) body["currency"] = arguments.currency;
  const auto done = cluster.raw("POST", *api + "/v1/wallet/adjustments", body,
                                {{"X-Tallygate-Authorization", "Bearer " + *token},
                                 {"X-Tallygate-Actor", "kubectl:" + *user},
                                 {"Tallygate-Tenant", name->str()},
                                 {"Idempotency-Key", key}});
  if (!done) {
    std::fprintf(stderr, "If nobody knows whether it was done, repeat it with --key %s: it is done once.\n", key.c_str());
    return failed(done.error());
  }
  if (arguments.json) std::fputs(dump(*done).c_str(), stdout);
  else std::printf("%s: %s; the balance is now %s\n", name->str().c_str(), arguments.operands.at(1).c_str(),
                   text_at(*done, {"balance"}, text_at(*done, {"wallet", "balance"})).c_str());
  return 0;
}

// First the webhooks, so that nothing waits for an operator that is gone; then our finalizers.
int uninstall(Cluster& cluster, const Arguments& arguments) {
  if (!agreed(arguments, "Sidecars are injected and objects validated no more, and BillingTenants that are deleted from now on go without "
                         "their last usage being waited for. What is billed stays in the ledger. Go on?")) {
    std::fprintf(stderr, "nothing was done\n");
    return 1;
  }
  Json removed = Json::array(), freed = Json::array();
  for (const auto& type : {kValidating, kMutating}) {
    const auto objects = cluster.list(type, {}, "app.kubernetes.io/part-of=tallygate");
    if (!objects) return failed(objects.error());
    for (const Json& object : *objects) {
      const auto gone = cluster.client().remove(type, name_of(object));
      if (!gone && gone.error().errc != Errc::kNotFound) return failed(gone.error());
      removed.push_back(type.kind + " " + name_of(object).str());
    }
  }
  for (const auto& type : {kTenants, kPolicies, kPlans}) {
    const auto objects = cluster.list(type);
    if (!objects) {
      if (objects.error().errc == Errc::kNotFound) continue;  // its definition is gone
      return failed(objects.error());
    }
    for (const Json& object : *objects) {
      Json kept = Json::array();
      const Json& finalizers = at(object, {"metadata", "finalizers"});
      for (const Json& finalizer : finalizers) {
        if (!finalizer.get<std::string>().starts_with(kOurs)) kept.push_back(finalizer);
      }
      if (kept.size() == finalizers.size()) continue;
      // With the version that was looked at: what somebody else adds meanwhile is not lost.
      const Json patch{{"metadata", {{"finalizers", kept}, {"resourceVersion", text_at(object, {"metadata", "resourceVersion"})}}}};
      const auto done = cluster.client().merge_patch(type, name_of(object), patch.dump());
      if (!done && done.error().errc != Errc::kNotFound) return failed(done.error());
      freed.push_back(type.kind + " " + name_of(object).str());
    }
  }
  if (arguments.json) {
    std::fputs(dump({{"removed", removed}, {"freed", freed}}).c_str(), stdout);
    return 0;
  }
  for (const Json& name : removed) std::printf("removed %s\n", name.get<std::string>().c_str());
  std::printf("%zu objects are free to be deleted. Now: helm uninstall -n %s RELEASE\n", freed.size(),
              arguments.system_namespace.c_str());
  return 0;
}

}  // namespace tallygate::plugin
