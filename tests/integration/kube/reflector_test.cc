#include <random>
#include <thread>

#include "tests/integration/kube/world.h"
#include "tests/integration/support/tcp_cutter.h"

namespace tallygate::kube {
namespace {

class RealReflector : public World {};

TEST_F(RealReflector, FollowsAThousandObjects) {
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([this, w] {
      for (int i = 0; i < 300; ++i) {
        client_->create_object(kConfigMap, name_space_, config_map("m" + std::to_string(w * 300 + i), R"({"v":"1"})"));
      }
    });
  }
  for (auto& writer : writers) writer.join();
  follow(kConfigMap, *client_);  // in three pages
  ASSERT_TRUE(in_step());
  EXPECT_EQ(reflector_->known()->size(), 1'200u);
  for (int i = 0; i < 50; ++i) put("m" + std::to_string(i), "2");
  ASSERT_TRUE(client_->remove(kConfigMap, name("m0")));
  ASSERT_TRUE(in_step());
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(changes_.size(), 1'251u);
  for (const auto& change : changes_) {
    EXPECT_TRUE(!change.now || change.now->json.find("managedFields") == std::string::npos);
  }
}

TEST_F(RealReflector, RidesOutARestartOfTheServer) {
  put("a", "1");
  follow(kConfigMap, *client_);
  ASSERT_TRUE(in_step());
  server_->kill_api_server();
  ASSERT_TRUE(eventually([&] { return !reflector_->health().connected; }));
  EXPECT_FALSE(reflector_->health().error.empty());
  EXPECT_EQ(reflector_->known()->size(), 1u);
  server_->start_api_server();
  put("b", "1");
  ASSERT_TRUE(in_step());
  ASSERT_TRUE(eventually([&] { return reflector_->health().connected; }));
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(changes_.size(), 2u) << "each change once";
}

TEST_F(RealReflector, ListsAgainBehindACompaction) {
  put("a", "1");
  put("gone", "1");
  follow(kConfigMap, *client_);
  ASSERT_TRUE(in_step());
  // An open watch does not mind.
  server_->compact();
  put("a", "2");
  ASSERT_TRUE(in_step());
  // One that is resumed from before does.
  server_->kill_api_server();
  ASSERT_TRUE(eventually([&] { return !reflector_->health().connected; }));
  reflector_->stop();
  server_->start_api_server();
  const auto old = reflector_->known()->begin()->second->resource_version;
  // A write on a connection from before fails, and may not be repeated by itself.
  ASSERT_TRUE(eventually([&] { return client_->remove(kConfigMap, name("gone")).has_value(); }));
  put("b", "1");
  server_->compact();
  server_->kill_api_server();
  server_->start_api_server();
  // Until its cache is there the server may take any version.
  Result<void> ended;
  ASSERT_TRUE(eventually([&] {
    ended = client_->watch({.type = kConfigMap, .name_space = name_space_, .resource_version = old, .timeout_s = 1},
                           [](const auto&) { return true; });
    return !ended;
  }));
  EXPECT_EQ(ended.error().errc, Errc::kConflict) << ended.error().message;
  reflector_->start();
  ASSERT_TRUE(in_step());
}

// Changes go on, at some 20 a second, while every connection is cut at random, and etcd forgets now and then.
TEST_F(RealReflector, EndsInStepAfterRandomCuts) {
  testing::TcpCutter cutter(server_->port());
  Config config = server_->admin();
  config.server = "https://127.0.0.1:" + std::to_string(cutter.port());
  other_ = open(config);
  follow(kConfigMap, *other_);
  std::mt19937 random(20260101);
  for (int i = 0; i < 200; ++i) {
    const std::string of = "m" + std::to_string(random() % 30);
    if (random() % 4 == 0) {
      client_->remove(kConfigMap, name(of));
    } else {
      put(of, std::to_string(i));
    }
    if (random() % 6 == 0) cutter.cut();
    if (random() % 50 == 0) server_->compact();
    system_env().sleep_ms(static_cast<int64_t>(random() % 80));
  }
  ASSERT_TRUE(in_step());
  reflector_->stop();
  // The changes that were told lead from one version to the next, and to the end.
  std::map<std::string, std::string> told;
  const std::lock_guard lock(mutex_);
  for (const auto& change : changes_) {
    EXPECT_EQ(change.before ? change.before->resource_version : "", told[change.name.str()]);
    if (change.now) {
      told[change.name.str()] = change.now->resource_version;
    } else {
      told.erase(change.name.str());
    }
  }
  EXPECT_EQ(told, known());
}

TEST_F(RealReflector, TrustsANewAuthorityFromItsFile) {
  put("a", "1");
  follow(kConfigMap, *client_);
  ASSERT_TRUE(in_step());
  server_->change_authority();
  put("b", "1");
  ASSERT_TRUE(in_step());
  ASSERT_TRUE(eventually([&] { return reflector_->health().connected; }));
}

TEST_F(RealReflector, KeepsTheObjectsOfATypeThatGoes) {
  make_crd();
  const auto thing = [](const std::string& name) {
    return R"({"apiVersion":"example.dev/v1","kind":"Thing","metadata":{"name":")" + name + "\"}}";
  };
  ASSERT_TRUE(client_->apply(kThing, name("a"), thing("a")));
  follow(kThing, *client_);
  ASSERT_TRUE(in_step(kThing));
  server_->call("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.dev");
  ASSERT_TRUE(eventually([&] { return reflector_->health().type_missing; })) << reflector_->health().error;
  // The server deletes the objects of a type before the type; a watch may have shown it.
  make_crd();
  ASSERT_TRUE(eventually([&] { return reflector_->health().connected; }));
  EXPECT_FALSE(reflector_->health().type_missing);
  ASSERT_TRUE(client_->apply(kThing, name("b"), thing("b")));
  ASSERT_TRUE(in_step(kThing));
  server_->call("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.dev");
}

TEST_F(RealReflector, TellsThatItMayNot) {
  server_->call("POST", "/api/v1/namespaces/" + name_space_ + "/serviceaccounts", R"({"metadata":{"name":"nobody"}})");
  const auto answer =
      server_->call("POST", "/api/v1/namespaces/" + name_space_ + "/serviceaccounts/nobody/token", R"({"spec":{}})");
  const size_t at = answer.find("\"token\":\"") + 9;
  Config config = server_->admin();
  config.certificate = config.key = {};
  config.token.text = answer.substr(at, answer.find('"', at) - at);
  other_ = open(config);
  put("a", "1");
  follow(kConfigMap, *other_);
  ASSERT_TRUE(eventually([&] { return reflector_->health().forbidden; }));
  EXPECT_NE(reflector_->health().error.find("configmaps is forbidden"), std::string::npos)
      << reflector_->health().error;
  EXPECT_FALSE(reflector_->health().synced);
  server_->call(
      "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/" + name_space_ + "/rolebindings",
      R"({"metadata":{"name":"nobody"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole",)"
      R"("name":"cluster-admin"},"subjects":[{"kind":"ServiceAccount","name":"nobody","namespace":")" +
          name_space_ + "\"}]}");
  ASSERT_TRUE(in_step());
  EXPECT_FALSE(reflector_->health().forbidden);
}

}  // namespace
}  // namespace tallygate::kube
