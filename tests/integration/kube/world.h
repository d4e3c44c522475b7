// One real API server for all tests of the binary; each test has a namespace of its own.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/env.h"
#include "operator/kube/client.h"
#include "operator/kube/reflector.h"
#include "tests/integration/support/kube_server.h"

namespace tallygate::kube {

inline const ResourceType kConfigMap = {"", "v1", "configmaps", "ConfigMap", true};
inline const ResourceType kThing = {"example.dev", "v1", "things", "Thing", true};
inline const ResourceType kCrd = {"apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
                                  false};

// Whether it holds within a time that no working machine needs.
inline bool eventually(const std::function<bool()>& holds) {
  for (int i = 0; i < 6000; ++i) {
    if (holds()) return true;
    system_env().sleep_ms(10);
  }
  return false;
}

class World : public ::testing::Test {
 protected:
  static void TearDownTestSuite() { server_.reset(); }
  void SetUp() override {
    if (const std::string& why = testing::KubeServer::missing(); !why.empty()) GTEST_SKIP() << why;
    if (!server_) server_ = std::make_unique<testing::KubeServer>();
    name_space_ = "t-" + system_env().random_hex(4);
    server_->call("POST", "/api/v1/namespaces", R"({"metadata":{"name":")" + name_space_ + "\"}}");
    client_ = open(server_->admin(), "first");
  }

  std::unique_ptr<Client> open(const Config& config, const std::string& field_manager = "test") {
    auto client = Client::create(system_env(), config, field_manager, registry_);
    EXPECT_TRUE(client) << client.error().message;
    return client ? std::move(*client) : nullptr;
  }
  ObjectName name(const std::string& of) const { return {name_space_, of}; }
  static std::string config_map(const std::string& name, const std::string& data) {
    return R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name + R"("},"data":)" + data + "}";
  }
  void put(const std::string& of, const std::string& value) {
    const auto put = client_->apply(kConfigMap, name(of), config_map(of, R"({"v":")" + value + "\"}"));
    ASSERT_TRUE(put) << put.error().message;
  }
  void make_crd() {
    const std::string path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    server_->call("POST", path, R"({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
      "metadata":{"name":"things.example.dev"},"spec":{"group":"example.dev","scope":"Namespaced",
      "names":{"plural":"things","singular":"thing","kind":"Thing"},"versions":[{"name":"v1","served":true,"storage":true,
      "subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object",
      "properties":{"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
      "status":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}]}})");
    ASSERT_TRUE(eventually([&] { return client_->list({.type = kThing}).has_value(); }));
  }

  // Everything of one type in the test's namespace, as a reflector knows it and as the server has it.
  void follow(const ResourceType& type, Client& client) {
    reflector_ = std::make_unique<Reflector>(
        system_env(), client, ReflectorOptions{.type = type, .name_space = name_space_, .backoff_max_ms = 500},
        [this](const std::vector<Change>& changes, bool) {
          const std::lock_guard lock(mutex_);
          changes_.insert(changes_.end(), changes.begin(), changes.end());
        },
        registry_);
    reflector_->start();
  }
  std::map<std::string, std::string> known() const {
    std::map<std::string, std::string> all;
    for (const auto& [key, object] : *reflector_->known()) all[key.str()] = object->resource_version;
    return all;
  }
  bool in_step(const ResourceType& type = kConfigMap) {
    return eventually([&] {
      const auto page = client_->list({.type = type, .name_space = name_space_, .page_size = 100'000});
      if (!page || !reflector_->health().synced) return false;
      std::map<std::string, std::string> there;
      for (const Object& object : page->objects) there[object.name.str()] = object.resource_version;
      return there == known();
    });
  }

  static inline std::unique_ptr<testing::KubeServer> server_;
  metrics::Registry registry_;
  std::string name_space_;
  std::unique_ptr<Client> client_, other_;
  std::mutex mutex_;
  std::vector<Change> changes_;
  std::unique_ptr<Reflector> reflector_;
};

}  // namespace tallygate::kube
