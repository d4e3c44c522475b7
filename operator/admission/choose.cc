#include "operator/admission/choose.h"

#include <algorithm>
#include <set>

#include "core/ids.h"
#include "operator/admission/pod.h"

namespace tallygate::admission {
namespace {

constexpr int64_t kUsualPort = 8080;  // of a pod that waits for a policy and says nothing itself

bool matches(const StringMap& wanted, const StringMap& labels) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& each) {
    const auto found = labels.find(each.first);
    return found != labels.end() && found->second == each.second;
  });
}

std::string value_of(const StringMap& map, const char* key) {
  const auto found = map.find(key);
  return found == map.end() ? std::string() : found->second;
}

std::vector<const PolicyView*> matching(const PodReview& review, const StringMap& labels) {
  std::vector<const PolicyView*> found;
  for (const PolicyView& policy : review.policies) {
    if (matches(policy.match_labels, labels)) found.push_back(&policy);
  }
  std::sort(found.begin(), found.end(),
            [](const auto* a, const auto* b) { return std::tie(a->created, a->name) < std::tie(b->created, b->name); });
  return found;
}

const PolicyView* named(const PodReview& review, const std::string& name) {
  for (const PolicyView& policy : review.policies) {
    if (policy.name == name) return &policy;
  }
  return nullptr;
}

std::string join(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

std::string join(const std::vector<int64_t>& numbers) {
  std::vector<std::string> words;
  for (const int64_t number : numbers) words.push_back(std::to_string(number));
  return join(words);
}

// By annotation: a policy that lets itself be chosen, in place of none or of one that lets go.
void choose_by_name(const PodReview& review, const std::string& name, Choice* choice) {
  if (!is_dns_subdomain(name)) {
    choice->refusal = std::string("the annotation ") + kPolicyAnnotation +
                      " is no name of a BillingPolicy: write the " + "name of one of this namespace";
    return;
  }
  const PolicyView* by_selector = choice->known;
  if (by_selector != nullptr && by_selector->name == name) return;
  const PolicyView* wanted = named(review, name);
  const auto forbid = [&](const PolicyView& policy) {
    choice->refusal = "BillingPolicy " + policy.name + " does not let pods choose by annotation: remove " +
                      kPolicyAnnotation + ", or set the policy's spec.injection.policyAnnotation to Permit";
  };
  if (by_selector != nullptr && !by_selector->may_choose) return forbid(*by_selector);
  if (wanted != nullptr && !wanted->may_choose) return forbid(*wanted);
  choice->policy = name;
  choice->known = wanted;
}

}  // namespace

Choice choose_policy(const PodReview& review) {
  Choice choice;
  const StringMap labels = strings_at(review.pod, "/metadata/labels");
  const std::string on_pod = value_of(labels, kInjectLabel);
  const std::string on_namespace = value_of(review.namespace_labels, kInjectLabel);
  if (on_pod.empty() && on_namespace != kEnabled) return choice;
  const auto found = matching(review, labels);
  if (on_pod == kDisabled) {
    if (found.empty() || found.front()->may_opt_out || on_namespace != kEnabled) return choice;
    choice.wanted = true;
    choice.refusal = "BillingPolicy " + found.front()->name +
                     " is for this pod and does not let pods opt out: remove " + "the label " + kInjectLabel +
                     ", or set the policy's spec.injection.optOut to Permit";
    return choice;
  }
  choice.wanted = true;
  if (!on_pod.empty() && on_pod != kEnabled) {
    choice.refusal = std::string("the label ") + kInjectLabel + " is \"" + on_pod + "\": write enabled or disabled";
    return choice;
  }
  if (!found.empty()) {
    choice.policy = found.front()->name;
    choice.known = found.front();
  }
  const std::string name = value_of(strings_at(review.pod, "/metadata/annotations"), kPolicyAnnotation);
  if (!name.empty()) choose_by_name(review, name, &choice);
  if (choice.policy.empty()) choice.policy = kDefaultPolicy;
  if (!choice.refusal.empty()) return choice;
  if (name.empty() && found.size() > 1) {
    std::vector<std::string> names;
    for (const PolicyView* policy : found) names.push_back(policy->name);
    choice.warnings.push_back("several BillingPolicies select this pod: " + join(names) + "; the oldest, " +
                              names.front() + ", is in force");
  }
  if (choice.known == nullptr) {
    choice.warnings.push_back((name.empty() ? "no BillingPolicy selects this pod: it"
                                            : "BillingPolicy " + name + " is not known yet: the pod") +
                              " waits, not ready, for one named " + choice.policy +
                              "; apply it, or restart the pod once another one is there");
  }
  return choice;
}

std::optional<int64_t> choose_port(const Json& pod, const Choice& choice, std::string* refusal) {
  std::vector<int64_t> declared;  // in their order
  for_each_server(pod, [&](const Json& container) {
    for (const Json& entry : at(container, "/ports")) {
      const int64_t port = entry.value("containerPort", int64_t{0});
      if (find_port(container, port) != nullptr && std::count(declared.begin(), declared.end(), port) == 0) {
        declared.push_back(port);
      }
    }
  });
  if (choice.known == nullptr) return declared.empty() ? kUsualPort : declared.front();
  const std::vector<int64_t>& ports = choice.known->ports;
  std::vector<int64_t> both;
  std::copy_if(declared.begin(), declared.end(), std::back_inserter(both),
               [&](int64_t port) { return std::count(ports.begin(), ports.end(), port) != 0; });
  const std::vector<int64_t>& candidates = ports.empty() ? declared : both.empty() ? ports : both;
  if (candidates.size() == 1) return candidates.front();
  const std::string policy = "BillingPolicy " + choice.policy;
  if (!ports.empty()) {
    *refusal = policy + " is for the ports " + join(candidates) +
               ", and a sidecar serves one port in this version: leave one of them in its spec.ports";
  } else if (declared.empty()) {
    *refusal = "neither the pod nor " + policy + " says where the app listens: name it in the policy's spec.ports";
  } else {
    *refusal = "the pod has the ports " + join(declared) + ", and " + policy +
               " does not say which: name one in its spec.ports";
  }
  return std::nullopt;
}

bool choose_redirect(const PodReview& review, const Choice& choice, Capture capture, std::string* refusal) {
  const std::string profile = value_of(review.namespace_labels, kPodSecurityLabel);
  const bool admitted = profile != "baseline" && profile != "restricted";
  const bool by_default = capture == Capture::kRedirect || (capture == Capture::kAuto && admitted);
  const std::string mode = value_of(strings_at(review.pod, "/metadata/annotations"), kCaptureAnnotation);
  if (mode.empty()) return by_default;
  if (mode != "Redirect" && mode != "Unprivileged") {
    *refusal =
        std::string("the annotation ") + kCaptureAnnotation + " is \"" + mode + "\": write Redirect or Unprivileged";
  } else if (mode == "Redirect" && !admitted) {
    *refusal = "the namespace's Pod Security profile, " + profile +
               ", admits no NET_ADMIN, which redirection needs: " + "remove the annotation " + kCaptureAnnotation +
               ", or write Unprivileged";
  } else if (mode == "Unprivileged" && by_default && choice.known != nullptr && !choice.known->may_opt_out) {
    *refusal = "BillingPolicy " + choice.policy + " does not let pods do without redirection: remove the annotation " +
               kCaptureAnnotation + ", or set the policy's spec.injection.optOut to Permit";
  }
  return mode == "Redirect";
}

Mesh find_mesh(const PodReview& review) {
  struct Rule {
    const char *mesh, *container, *pod_key, *on, *off, *namespace_key, *namespace_on;  // on "": any value
  };
  static constexpr Rule kRules[] = {
      {"Istio", "istio-proxy", "sidecar.istio.io/inject", "true", "false", "istio-injection", "enabled"},
      {"Istio", "istio-proxy", "sidecar.istio.io/inject", "true", "false", "istio.io/rev", ""},
      {"Istio ambient", "", "istio.io/dataplane-mode", "ambient", "none", "istio.io/dataplane-mode", "ambient"},
      {"Linkerd", "linkerd-proxy", "linkerd.io/inject", "enabled", "disabled", "linkerd.io/inject", "enabled"},
      {"Kuma", "kuma-sidecar", "kuma.io/sidecar-injection", "enabled", "disabled", "kuma.io/sidecar-injection",
       "enabled"},
      {"Consul", "consul-dataplane", "consul.hashicorp.com/connect-inject", "true", "false",
       "consul.hashicorp.com/connect-inject", "true"},
  };
  std::set<std::string> containers;
  for_each_container(review.pod, [&](const Json& each) { containers.insert(text_at(each, "/name")); });
  StringMap of_pod = strings_at(review.pod, "/metadata/labels");
  of_pod.merge(strings_at(review.pod, "/metadata/annotations"));
  StringMap of_namespace = review.namespace_labels;
  of_namespace.insert(review.namespace_annotations.begin(), review.namespace_annotations.end());
  for (const Rule& rule : kRules) {
    const std::string on_pod = value_of(of_pod, rule.pod_key);
    const std::string on_namespace = value_of(of_namespace, rule.namespace_key);
    const bool by_namespace = *rule.namespace_on == 0 ? !on_namespace.empty() : on_namespace == rule.namespace_on;
    if (containers.count(rule.container) != 0 || on_pod == rule.on || (by_namespace && on_pod != rule.off)) {
      return {rule.mesh, std::string(rule.pod_key) + ": \"" + rule.off + "\""};
    }
  }
  return {};
}

}  // namespace tallygate::admission
