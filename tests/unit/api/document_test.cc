// The router and openapi.yaml say the same: every route is in the document, and the other way round.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

#include "operator/api/front.h"

namespace tallygate::api {
namespace {

std::set<std::string> routes() {
  std::set<std::string> all = {"GET /openapi.yaml"};
  for (const auto& route : api_routes()) all.insert(std::string(route.method) + " " + route.pattern);
  return all;
}

template <class Use>
void each_operation(const YAML::Node& document, const Use& use) {
  static const std::set<std::string> kMethods = {"get", "post", "put", "patch", "delete"};
  for (const auto& path : document["paths"]) {
    for (const auto& entry : path.second) {
      std::string method = entry.first.as<std::string>();
      if (!kMethods.contains(method)) continue;
      std::transform(method.begin(), method.end(), method.begin(), [](char c) { return static_cast<char>(c - 32); });
      use(method + " " + path.first.as<std::string>(), entry.second);
    }
  }
}

TEST(ApiDocument, HasEveryRouteAndNoOther) {
  std::set<std::string> documented;
  each_operation(YAML::Load(std::string(openapi_document())),
                 [&](const std::string& name, const YAML::Node&) { documented.insert(name); });
  EXPECT_EQ(documented, routes());
}

TEST(ApiDocument, SaysOfEachRouteItsScopeAndWhetherItWantsAKey) {
  std::map<std::string, YAML::Node> operations;
  each_operation(YAML::Load(std::string(openapi_document())),
                 [&](const std::string& name, const YAML::Node& node) { operations[name] = node; });
  for (const auto& route : api_routes()) {
    const std::string name = std::string(route.method) + " " + route.pattern;
    ASSERT_TRUE(operations.contains(name));
    const auto summary = operations[name]["summary"].as<std::string>();
    const std::string access =
        route.scope ? "Scope " + std::string(to_string(*route.scope)) + "." : "Authenticated as the provider does.";
    EXPECT_TRUE(summary.ends_with(access)) << name << ": " << summary;
    EXPECT_EQ(operations[name]["security"].IsDefined(), !route.scope) << name << ": bearer tokens";
    bool wants_key = false;
    for (const auto& parameter : operations[name]["parameters"]) {
      wants_key = wants_key || (parameter["$ref"] && parameter["$ref"].as<std::string>().ends_with("/IdempotencyKey"));
    }
    EXPECT_EQ(wants_key, route.wants_key) << name;
  }
}

}  // namespace
}  // namespace tallygate::api
