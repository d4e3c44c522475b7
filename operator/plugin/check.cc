#include <cstdio>

#include "operator/plugin/commands.h"

namespace tallygate::plugin {
namespace {

constexpr int kMinorMin = 33;  // of Kubernetes 1.x
const kube::ResourceType kDefinitions{"apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false};

class Findings {
 public:
  void add(bool ok, const std::string& what, const std::string& hint = "") {
    rows_.push_back({ok ? "ok" : "WRONG", what, ok ? "" : hint});
    wrong_ |= !ok;
  }
  int tell(bool json) const {
    if (json) {
      Json out = Json::array();
      for (const auto& row : rows_) out.push_back({{"ok", row[0] == "ok"}, {"check", row[1]}, {"hint", row[2]}});
      std::fputs(dump({{"ok", !wrong_}, {"checks", out}}).c_str(), stdout);
    } else {
      std::fputs(table(rows_).c_str(), stdout);
      std::puts(wrong_ ? "\nSomething is wrong." : "\nAll is well.");
    }
    return wrong_ ? 1 : 0;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
  bool wrong_ = false;
};

bool may(Cluster& cluster, const std::string& verb, const std::string& group, const std::string& resource,
         const std::string& name_space = "") {
  const auto review = cluster.raw(
      "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
      {{"apiVersion", "authorization.k8s.io/v1"},
       {"kind", "SelfSubjectAccessReview"},
       {"spec",
        {{"resourceAttributes", {{"verb", verb}, {"group", group}, {"resource", resource}, {"namespace", name_space}}}}}});
  return review && at(*review, {"status", "allowed"}) == true;
}

void check_before(Cluster& cluster, const Arguments& arguments, Findings& findings) {
  for (const auto& [group, resource, name_space] :
       {std::tuple{"apiextensions.k8s.io", "customresourcedefinitions", std::string()},
        std::tuple{"rbac.authorization.k8s.io", "clusterroles", std::string()},
        std::tuple{"rbac.authorization.k8s.io", "clusterrolebindings", std::string()},
        std::tuple{"admissionregistration.k8s.io", "validatingwebhookconfigurations", std::string()},
        std::tuple{"admissionregistration.k8s.io", "mutatingwebhookconfigurations", std::string()},
        std::tuple{"apps", "deployments", arguments.system_namespace}}) {
    findings.add(may(cluster, "create", group, resource, name_space), std::string("you may create ") + resource,
                 "whoever installs the chart needs it: ask an administrator");
  }
  // What is left of an earlier one that the chart does not own would be in its way.
  const auto definitions = cluster.list(kDefinitions);
  if (!definitions) return findings.add(false, "custom resource definitions can be listed", definitions.error().message);
  for (const Json& definition : *definitions) {
    if (text_at(definition, {"spec", "group"}) != "billing.tallygate.dev") continue;
    findings.add(text_at(definition, {"metadata", "deletionTimestamp"}).empty(),
                 text_at(definition, {"metadata", "name"}) + " of an earlier installation is not being deleted",
                 "objects of it keep it: kubectl tallygate uninstall");
  }
}

void check_definitions(Cluster& cluster, Findings& findings) {
  for (const auto& type : {kPlans, kTenants, kPolicies}) {
    const std::string name = type.plural + "." + type.group;
    const auto definition = cluster.get(kDefinitions, {"", name});
    findings.add(definition && text_at(condition(*definition, "Established"), {"status"}) == "True", name + " is served",
                 definition ? "its condition Established is not True" : definition.error().message);
  }
}

void check_webhooks(Cluster& cluster, Findings& findings) {
  for (const char* plural : {"validatingwebhookconfigurations", "mutatingwebhookconfigurations"}) {
    const auto objects = cluster.list({"admissionregistration.k8s.io", "v1", plural, "", false}, {}, "app.kubernetes.io/part-of=tallygate");
    if (!objects) {
      findings.add(false, std::string(plural) + " can be listed", objects.error().message);
      continue;
    }
    for (const Json& object : *objects) {
      bool trusted = true;
      for (const Json& hook : at(object, {"webhooks"})) trusted &= !text_at(hook, {"clientConfig", "caBundle"}).empty();
      findings.add(trusted, std::string(plural) + "/" + text_at(object, {"metadata", "name"}) + " has its authority",
                   "the operator writes caBundle within seconds of its start: look at its log");
    }
  }
}

void check_operators(Cluster& cluster, const Arguments& arguments, Findings& findings) {
  const auto pods = ask_operators(cluster, arguments.system_namespace);
  if (!pods) return findings.add(false, "the operator's pods can be listed", pods.error().message);
  findings.add(!pods->empty(), "there is an operator in " + arguments.system_namespace,
               "install the chart, or say where with --system-namespace");
  int leaders = 0;
  for (const auto& pod : *pods) {
    leaders += pod.leads ? 1 : 0;
    findings.add(pod.ready, "pod " + pod.name + " is ready", "kubectl -n " + arguments.system_namespace + " describe pod " + pod.name);
    if (!pod.fault.empty()) {
      findings.add(false, "pod " + pod.name + " can be asked", pod.fault);
      continue;
    }
    for (const auto& [service, health] : at(pod.health, {"services"}).items()) {
      findings.add(text_at(health, {"status"}) == "ok", pod.name + ": " + service, text_at(health, {"detail"}, text_at(health, {"status"})));
    }
  }
  if (!pods->empty()) findings.add(leaders == 1, "one operator leads", std::to_string(leaders) + " say that they do");
}

}  // namespace

int check(Cluster& cluster, const Arguments& arguments) {
  Findings findings;
  const auto version = cluster.raw("GET", "/version");
  if (!version) return failed(version.error());
  const int minor = std::atoi(text_at(*version, {"minor"}).c_str());
  findings.add(text_at(*version, {"major"}) == "1" && minor >= kMinorMin,
               "Kubernetes " + text_at(*version, {"gitVersion"}) + " is 1." + std::to_string(kMinorMin) + " or newer",
               "upgrade the cluster");
  if (arguments.pre) {
    check_before(cluster, arguments, findings);
  } else {
    check_definitions(cluster, findings);
    check_webhooks(cluster, findings);
    check_operators(cluster, arguments, findings);
  }
  return findings.tell(arguments.json);
}

}  // namespace tallygate::plugin
