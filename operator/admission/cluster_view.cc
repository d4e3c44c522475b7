#include "operator/admission/cluster_view.h"

#include "operator/admission/pod.h"

namespace tallygate::admission {
namespace {

const kube::ResourceType kNamespaces{"", "v1", "namespaces", "Namespace", false};
const kube::ResourceType kSecrets{"", "v1", "secrets", "Secret", true};
const kube::ResourceType kPolicies{"billing.tallygate.dev", "v1alpha1", "billingpolicies", "BillingPolicy", true};

void add_metadata(const std::string& json, NamespaceView* view) {
  const Json object = parse_object(json);
  view->labels = strings_at(object, "/metadata/labels");
  view->annotations = strings_at(object, "/metadata/annotations");
}

kube::ReflectorOptions only_metadata(const kube::ResourceType& type) {
  kube::ReflectorOptions options;
  options.type = type;
  options.metadata_only = true;
  return options;
}

// Routes and identities are nothing to us.
kube::ReflectorOptions slim_policies() {
  kube::ReflectorOptions options;
  options.type = kPolicies;
  options.transform = [](kube::Object& object) {
    const Json whole = parse_object(object.json);
    Json slim = {{"metadata", at(whole, "/metadata")}, {"spec", Json::object()}};
    slim["metadata"].erase("managedFields");
    for (const char* part : {"selector", "ports", "injection"}) {
      const Json& spec = at(whole, "/spec");
      if (spec.contains(part)) slim["spec"][part] = spec[part];
    }
    object.json = slim.dump();
  };
  return options;
}

}  // namespace

PolicyView policy_view(const Json& object) {
  PolicyView view;
  view.name = text_at(object, "/metadata/name");
  view.created = text_at(object, "/metadata/creationTimestamp");
  view.match_labels = strings_at(object, "/spec/selector/matchLabels");
  for (const Json& port : at(object, "/spec/ports")) {
    if (at(port, "/port").is_number_integer()) view.ports.push_back(port["port"].get<int64_t>());
  }
  view.may_opt_out = text_at(object, "/spec/injection/optOut") == "Permit";
  view.may_choose = text_at(object, "/spec/injection/policyAnnotation") == "Permit";
  return view;
}

ClusterView::ClusterView(Env& env, kube::Client& client, metrics::Registry& registry)
    : client_(client),
      namespaces_(
          env, client, only_metadata(kNamespaces), [](const auto&, bool) {}, registry),
      policies_(
          env, client, slim_policies(), [](const auto&, bool) {}, registry) {}

void ClusterView::start() {
  namespaces_.start();
  policies_.start();
}

void ClusterView::stop() {
  namespaces_.stop();
  policies_.stop();
}

NamespaceView ClusterView::known(const std::string& name_space) const {
  NamespaceView view;
  const auto namespaces = namespaces_.known();
  if (const auto found = namespaces->find({"", name_space}); found != namespaces->end()) {
    add_metadata(found->second->json, &view);
  }
  const auto policies = policies_.known();
  for (auto each = policies->lower_bound({name_space, ""}); each != policies->end(); ++each) {
    if (each->first.name_space != name_space) break;
    view.policies.push_back(policy_view(parse_object(each->second->json)));
  }
  return view;
}

Result<NamespaceView> ClusterView::fresh(const std::string& name_space) {
  NamespaceView view;
  const auto found = client_.get(kNamespaces, {"", name_space});
  if (!found) return tl::unexpected(found.error());
  add_metadata(found->json, &view);
  kube::ListRequest request;
  request.type = kPolicies;
  request.name_space = name_space;
  do {
    const auto page = client_.list(request);
    if (!page) return tl::unexpected(page.error());
    for (const kube::Object& object : page->objects) view.policies.push_back(policy_view(parse_object(object.json)));
    request.continue_from = page->continue_from;
  } while (!request.continue_from.empty());
  return view;
}

bool ClusterView::has_foreign_secret(const std::string& name_space, const std::string& secret) {
  const auto found = client_.get(kSecrets, {name_space, secret});
  if (!found) return false;
  const Json object = parse_object(found->json);
  return text_at(object, credentials::kManagedByPath) != credentials::kOurs &&
         !at(object, "/data").contains(kPublicationKey);
}

}  // namespace tallygate::admission
