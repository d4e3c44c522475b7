#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "operator/kube/events.h"
#include "tests/integration/kube/world.h"

namespace tallygate::kube {
namespace {

class RealClient : public World {
 protected:
  static std::string value(const Result<Object>& object) {
    return object ? nlohmann::json::parse(object->json)["data"]["v"].get<std::string>() : object.error().message;
  }
};

TEST_F(RealClient, KnowsWhatTheServerIs) {
  const auto version = client_->raw("GET", "/version");
  ASSERT_TRUE(version) << version.error().message;
  EXPECT_EQ(nlohmann::json::parse(*version)["major"], "1");
  const auto may = client_->raw("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                                R"({"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}})");
  ASSERT_TRUE(may) << may.error().message;
  EXPECT_EQ(nlohmann::json::parse(*may)["status"]["allowed"], true);
}

TEST_F(RealClient, TellsWhatIsMissingFromWhatHasMovedOn) {
  EXPECT_EQ(client_->get(kConfigMap, name("a")).error().errc, Errc::kNotFound);
  EXPECT_EQ(client_->get({"nothing.dev", "v1", "things", "Thing"}, name("a")).error().errc, Errc::kInvalid);
  EXPECT_EQ(client_->list({.type = {"nothing.dev", "v1", "things", "Thing"}}).error().errc, Errc::kNotFound);
  EXPECT_EQ(client_->apply(kConfigMap, {"no-such", "a"}, config_map("a", "{}")).error().errc, Errc::kNotFound);
  const auto made = client_->create_object(kConfigMap, name_space_, config_map("a", R"({"v":"1"})"));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->name.str(), name_space_ + "/a");
  EXPECT_FALSE(made->uid.empty());
  EXPECT_EQ(client_->create_object(kConfigMap, name_space_, config_map("a", "{}")).error().errc, Errc::kConflict);
  auto json = nlohmann::json::parse(made->json);
  json["data"]["v"] = "2";
  ASSERT_EQ(value(client_->replace(kConfigMap, name("a"), json.dump())), "2");
  EXPECT_EQ(client_->replace(kConfigMap, name("a"), json.dump()).error().errc, Errc::kConflict);
  EXPECT_EQ(value(client_->merge_patch(kConfigMap, name("a"), R"({"data":{"v":"3"}})")), "3");
  EXPECT_EQ(
      client_
          ->merge_patch(kConfigMap, name("a"),
                        R"({"metadata":{"resourceVersion":")" + made->resource_version + R"("},"data":{"v":"4"}})")
          .error()
          .errc,
      Errc::kConflict);
  EXPECT_EQ(client_->merge_patch(kConfigMap, name("a"), R"({"data":{"v":3}})").error().errc, Errc::kInvalid);
  EXPECT_EQ(client_->remove(kConfigMap, name("a"), "another-uid").error().errc, Errc::kConflict);
  EXPECT_EQ(client_->remove(kConfigMap, name("a"), made->uid, made->resource_version).error().errc, Errc::kConflict);
  EXPECT_TRUE(client_->remove(kConfigMap, name("a"), made->uid));
  EXPECT_EQ(client_->remove(kConfigMap, name("a")).error().errc, Errc::kNotFound);
}

TEST_F(RealClient, TwoManagersApplyWithoutAFight) {
  const auto second = open(server_->admin(), "second");
  const auto apply = [&](Client& client, const std::string& data, bool force = false) {
    return client.apply(kConfigMap, name("a"), config_map("a", data), {.force = force});
  };
  const auto first = apply(*client_, R"({"v":"1"})");
  ASSERT_TRUE(first) << first.error().message;
  const auto both = apply(*second, R"({"other":"x"})");
  ASSERT_TRUE(both) << both.error().message;
  EXPECT_EQ(value(both), "1") << "what another owns stays";
  const auto conflict = apply(*second, R"({"v":"2","other":"x"})");
  ASSERT_FALSE(conflict);
  EXPECT_EQ(conflict.error().errc, Errc::kConflict);
  EXPECT_NE(conflict.error().message.find("first"), std::string::npos) << conflict.error().message;
  EXPECT_EQ(value(apply(*second, R"({"v":"2","other":"x"})", true)), "2");
  const auto again = apply(*second, R"({"v":"2","other":"x"})", true);
  EXPECT_EQ(again->resource_version, apply(*second, R"({"v":"2","other":"x"})", true)->resource_version)
      << "applying the same changes nothing";
  ASSERT_TRUE(client_->apply(kConfigMap, name("b"), config_map("b", "{}"), {.dry_run = true}));
  EXPECT_FALSE(client_->get(kConfigMap, name("b")));
}

TEST_F(RealClient, WritesAStatusBesideTheSpec) {
  make_crd();
  const auto thing = [&](const std::string& part) {
    return R"({"apiVersion":"example.dev/v1","kind":"Thing","metadata":{"name":"a"},)" + part + "}";
  };
  const auto made = client_->apply(kThing, name("a"), thing(R"("spec":{"x":1},"status":{"y":1})"));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->generation, 1);
  EXPECT_FALSE(nlohmann::json::parse(made->json).contains("status"));
  const auto status =
      client_->apply(kThing, name("a"), thing(R"("spec":{"x":2},"status":{"y":2})"), {.subresource = "status"});
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(status->generation, 1);
  const auto json = nlohmann::json::parse(status->json);
  EXPECT_EQ(json["spec"]["x"], 1);
  EXPECT_EQ(json["status"]["y"], 2);
  server_->call("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.dev");
}

TEST_F(RealClient, SeesMetadataAlone) {
  for (int i = 0; i < 5; ++i) put("m" + std::to_string(i), std::string(10'000, 'x'));
  const auto page = client_->list({.type = kConfigMap, .name_space = name_space_, .metadata_only = true});
  ASSERT_TRUE(page) << page.error().message;
  ASSERT_EQ(page->objects.size(), 5u);
  for (Object object : page->objects) {
    drop_managed_fields(object);
    EXPECT_LT(object.json.size(), 1'000u) << object.json;
    EXPECT_EQ(nlohmann::json::parse(object.json)["metadata"]["name"], object.name.name);
  }
}

TEST_F(RealClient, GoesOnWithATokenThatRotates) {
  const auto account = [&](const std::string& of) {
    server_->call("POST", "/api/v1/namespaces/" + name_space_ + "/serviceaccounts",
                  R"({"metadata":{"name":")" + of + "\"}}");
    server_->call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                  R"({"metadata":{"name":")" + name_space_ + of +
                      R"("},"roleRef":{"apiGroup":"rbac.authorization.k8s.io",)" +
                      R"("kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"ServiceAccount","name":")" +
                      of + R"(","namespace":")" + name_space_ + "\"}]}");
    const auto token = server_->call("POST", "/api/v1/namespaces/" + name_space_ + "/serviceaccounts/" + of + "/token",
                                     R"({"spec":{}})");
    return nlohmann::json::parse(token)["status"]["token"].get<std::string>();
  };
  const std::string file = server_->folder() + "/token";
  std::ofstream(file) << account("old");
  Config config = server_->admin();
  config.certificate = config.key = {};
  config.token = {file, ""};
  other_ = open(config);
  ASSERT_TRUE(eventually([&] { return other_->list({.type = kConfigMap}).has_value(); }))
      << "RBAC knows it in a moment";
  follow(kConfigMap, *other_);
  ASSERT_TRUE(in_step());
  server_->call("DELETE", "/api/v1/namespaces/" + name_space_ + "/serviceaccounts/old");
  ASSERT_TRUE(eventually([&] { return !other_->list({.type = kConfigMap}); })) << "the old one is good no more";
  std::ofstream(file + ".new") << account("new");
  std::filesystem::rename(file + ".new", file);
  ASSERT_TRUE(eventually([&] { return other_->list({.type = kConfigMap}).has_value(); }));
  put("a", "1");
  ASSERT_TRUE(in_step());
}

TEST_F(RealClient, EventsAreReadableAndCounted) {
  EventRecorder recorder(system_env(), *client_, "example.dev/controller", "pod-1", registry_);
  recorder.start();
  put("a", "1");
  const auto about = client_->get(kConfigMap, name("a"));
  for (int i = 0; i < 6; ++i) {
    recorder.record(kConfigMap, *about, {EventText::Type::kWarning, "CapReached", "Reconcile", "api-calls: all used"});
  }
  Object node;
  node.name.name = "cluster-wide";
  recorder.record({"", "v1", "nodes", "Node", false}, node, {.reason = "Seen", .action = "Look", .note = "there"});
  recorder.stop();
  const ResourceType events = {"events.k8s.io", "v1", "events", "Event"};
  const auto page = client_->list({.type = events, .name_space = name_space_});
  ASSERT_TRUE(page) << page.error().message;
  ASSERT_EQ(page->objects.size(), 1u);
  const auto json = nlohmann::json::parse(page->objects[0].json);
  EXPECT_EQ(json["note"], "api-calls: all used");
  EXPECT_EQ(json["series"]["count"], 6);
  EXPECT_EQ(json["regarding"]["uid"], about->uid);
  EXPECT_TRUE(eventually([&] {
    const auto of_cluster = client_->list({.type = events, .name_space = "default"});
    return of_cluster && !of_cluster->objects.empty();
  }));
}

}  // namespace
}  // namespace tallygate::kube
