// The cluster as the commands see it: objects as JSON, by kubectl's own configuration.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/env.h"
#include "operator/kube/client.h"
#include "operator/plugin/arguments.h"

namespace tallygate::plugin {

using Json = nlohmann::json;

inline const kube::ResourceType kPlans{"billing.tallygate.dev", "v1alpha1", "billingplans", "BillingPlan", false};
inline const kube::ResourceType kTenants{"billing.tallygate.dev", "v1alpha1", "billingtenants", "BillingTenant", true};
inline const kube::ResourceType kPolicies{"billing.tallygate.dev", "v1alpha1", "billingpolicies", "BillingPolicy", true};
inline const kube::ResourceType kPods{"", "v1", "pods", "Pod", true};
inline const kube::ResourceType kSecrets{"", "v1", "secrets", "Secret", true};

inline constexpr char kOperatorLabels[] = "app.kubernetes.io/part-of=tallygate,app.kubernetes.io/component=operator";

class Cluster {
 public:
  static Result<Cluster> open(const Arguments& arguments);

  kube::Client& client() { return *client_; }
  // All of them, page by page.
  Result<std::vector<Json>> list(const kube::ResourceType& type, const std::string& name_space = {},
                                 const std::string& labels = {});
  Result<Json> get(const kube::ResourceType& type, const kube::ObjectName& name);
  // What is behind a path, as JSON.
  Result<Json> raw(const std::string& method, const std::string& path, const Json& body = {},
                   const HttpHeaders& headers = {});
  // NAMESPACE/NAME or NAME.
  Result<kube::ObjectName> tenant_name(const std::string& text) const;

 private:
  std::unique_ptr<metrics::Registry> registry_;
  std::unique_ptr<kube::Client> client_;
  std::string name_space_;
};

// The member at a path, or null.
const Json& at(const Json& object, std::initializer_list<const char*> path);
std::string text_at(const Json& object, std::initializer_list<const char*> path, const std::string& otherwise = "");
// Of status.conditions; null: there is none of this type.
const Json& condition(const Json& object, const std::string& type);

// Columns that line up; the first row is the head.
std::string table(const std::vector<std::vector<std::string>>& rows);
std::string dump(const Json& document);

}  // namespace tallygate::plugin
