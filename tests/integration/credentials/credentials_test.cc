// The Secrets of namespaces and the users of a real Redis, side by side. The API server is a map of Secrets here; the
// real one is asked by the end-to-end tests.
#include "operator/credentials/credentials.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base64.h"
#include "operator/credentials/acl.h"
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

using credentials::acl_user;
using credentials::Credentials;
using credentials::CredentialsOptions;
using Json = nlohmann::json;

class SecretStore final : public kube::Client {
 public:
  Result<kube::Object> get(const kube::ResourceType&, const kube::ObjectName& name) override {
    ++reads;
    if (away) return fail(Errc::kUnavailable, "the API server is away");
    const auto found = secrets.find(name.str());
    if (found == secrets.end()) return fail(Errc::kNotFound, "secrets \"" + name.name + "\" not found");
    return kube::Object{name, "uid", "1", 0, false, found->second};
  }
  Result<kube::Object> apply(const kube::ResourceType& type, const kube::ObjectName& name, std::string_view json,
                             const kube::ApplyOptions&) override {
    if (away) return fail(Errc::kUnavailable, "the API server is away");
    EXPECT_EQ(type.plural, "secrets");
    secrets[name.str()] = std::string(json);
    ++writes;
    return kube::Object{name, "uid", "2", 0, false, std::string(json)};
  }
  Result<kube::Page> list(const kube::ListRequest&, std::stop_token) override { return unused(); }
  Result<void> watch(const kube::WatchRequest&, const TakeEvents&, std::stop_token) override { return unused(); }
  Result<kube::Object> create_object(const kube::ResourceType&, const std::string&, std::string_view) override {
    return unused();
  }
  Result<kube::Object> replace(const kube::ResourceType&, const kube::ObjectName&, std::string_view,
                               std::string_view) override {
    return unused();
  }
  Result<kube::Object> merge_patch(const kube::ResourceType&, const kube::ObjectName&, std::string_view,
                                   std::string_view) override {
    return unused();
  }
  Result<void> remove(const kube::ResourceType&, const kube::ObjectName&, const std::string&, const std::string&) override {
    return unused();
  }
  Result<std::string> raw(const std::string&, const std::string&, std::string_view, const HttpHeaders&) override { return unused(); }
  const kube::Config& config() const override { return config_; }

  std::string url(const std::string& name_space) const {
    const auto found = secrets.find(name_space + "/tallygate-sidecar");
    if (found == secrets.end()) return "";
    return base64_decode(Json::parse(found->second)["data"]["redis-url"].get<std::string>()).value_or("");
  }

  std::map<std::string, std::string> secrets;
  bool away = false;
  int reads = 0, writes = 0;

 private:
  static tl::unexpected<Error> unused() { return fail(Errc::kInternal, "not used"); }
  kube::Config config_;
};

class SidecarCredentials : public ::testing::Test {
 protected:
  std::unique_ptr<Credentials> make(std::vector<std::string> namespaces = {"shop", "web"}, Env& env = system_env()) {
    registries_.push_back(std::make_unique<metrics::Registry>());
    CredentialsOptions options;
    options.namespaces = std::move(namespaces);
    options.redis = server_.endpoint();
    options.look_ms = 0;
    options.retry_ms = 0;
    if (!keys_.empty()) {
      options.publication_keys = [this]() -> Result<std::string> {
        if (keys_ == "away") return fail(Errc::kUnavailable, "the ledger is away");
        return keys_;
      };
    }
    options.keys_interval_ms = 0;
    return std::make_unique<Credentials>(env, store_, std::move(options), *registries_.back());
  }
  bool works(const std::string& url) {
    const auto endpoint = redis::parse_url(url);
    return endpoint && redis::Client::check(redis::Client(system_env(), *endpoint).call({"PING"})).has_value();
  }
  std::vector<std::unique_ptr<metrics::Registry>> registries_;
  ScratchRedis server_;
  redis::Client admin_{system_env(), server_.endpoint()};
  SecretStore store_;
  std::string keys_;  // of what is published; empty: none go into the Secrets
};

TEST_F(SidecarCredentials, EachNamespaceGetsItsOwnAndKeepsIt) {
  auto credentials = make();
  ASSERT_TRUE(credentials->run_once());
  const std::string shop = store_.url("shop"), web = store_.url("web");
  EXPECT_NE(shop, web);
  EXPECT_TRUE(works(shop));
  EXPECT_TRUE(works(web));
  EXPECT_EQ(redis::parse_url(shop)->user, acl_user("shop"));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(credentials->run_once());
  EXPECT_EQ(store_.writes, 2) << "nothing is written where nothing has changed";
  EXPECT_TRUE(credentials->health().detail.empty());
  // Another operator takes over.
  auto next = make();
  ASSERT_TRUE(next->run_once());
  EXPECT_EQ(store_.url("shop"), shop);
  EXPECT_TRUE(works(shop));
}

TEST_F(SidecarCredentials, ARestartedRedisGetsItsUsersAgain) {
  auto credentials = make();
  ASSERT_TRUE(credentials->run_once());
  server_.kill();
  EXPECT_FALSE(credentials->run_once());
  server_.start();
  EXPECT_FALSE(works(store_.url("shop")));
  ASSERT_TRUE(credentials->run_once());
  EXPECT_TRUE(works(store_.url("shop")));
}

// At its start an operator knows no password yet: those in use are not touched for that.
TEST_F(SidecarCredentials, WhatIsInUseStaysWhileTheApiServerIsAway) {
  ASSERT_TRUE(make()->run_once());
  const auto endpoint = redis::parse_url(store_.url("shop"));
  redis::Client connected(system_env(), *endpoint);
  ASSERT_TRUE(redis::Client::check(connected.call({"PING"})));
  store_.away = true;
  auto next = make();
  EXPECT_FALSE(next->run_once());
  EXPECT_NE(next->health().detail, "");
  EXPECT_TRUE(redis::Client::check(connected.call({"PING"}))) << "no connection was ended";
  EXPECT_TRUE(works(store_.url("shop")));
  store_.away = false;
  ASSERT_TRUE(next->run_once());
  EXPECT_EQ(next->health().detail, "");
}

TEST_F(SidecarCredentials, ADeletedSecretIsMadeAnewAndTheOldPasswordOverlaps) {
  ManualEnv env;
  auto credentials = make({"shop"}, env);
  ASSERT_TRUE(credentials->run_once());
  const std::string old = store_.url("shop");
  store_.secrets.clear();
  ASSERT_TRUE(credentials->run_once());
  EXPECT_NE(store_.url("shop"), old);
  EXPECT_TRUE(works(store_.url("shop")));
  EXPECT_TRUE(works(old)) << "of pods that run";
  env.advance_ms(600'001);
  ASSERT_TRUE(credentials->run_once());
  EXPECT_FALSE(works(old));
  EXPECT_TRUE(works(store_.url("shop")));
}

// Who takes over finds in Redis what its predecessor let overlap.
TEST_F(SidecarCredentials, TheOldPasswordOverlapsAChangeOfLeader) {
  ManualEnv env;
  auto first = make({"shop"}, env);
  ASSERT_TRUE(first->run_once());
  const std::string old = store_.url("shop");
  store_.secrets.clear();
  ASSERT_TRUE(first->run_once());
  const std::string now = store_.url("shop");
  auto second = make({"shop"}, env);
  ASSERT_TRUE(second->run_once());
  EXPECT_TRUE(works(old)) << "of pods that run";
  EXPECT_TRUE(works(now));
  // Deleted while nobody led.
  store_.secrets.clear();
  auto third = make({"shop"}, env);
  ASSERT_TRUE(third->run_once());
  for (const std::string& url : {old, now, store_.url("shop")}) EXPECT_TRUE(works(url));
  // And once more by one that has led before: nothing gets a longer life by that.
  env.advance_ms(300'000);
  third->begin();
  ASSERT_TRUE(third->run_once());
  env.advance_ms(300'001);
  ASSERT_TRUE(third->run_once());
  EXPECT_FALSE(works(old));
  EXPECT_FALSE(works(now));
  EXPECT_TRUE(works(store_.url("shop")));
}

TEST_F(SidecarCredentials, ThePublicationsKeysAreInTheSecretAndFollow) {
  const auto key_in = [this](const std::string& name_space) {
    const Json secret = Json::parse(store_.secrets[name_space + "/tallygate-sidecar"]);
    return base64_decode(secret["data"].value("publication-key", "")).value_or("?");
  };
  keys_ = "first";
  auto credentials = make();
  ASSERT_TRUE(credentials->run_once());
  EXPECT_EQ(key_in("shop"), "first");
  EXPECT_EQ(key_in("web"), "first");
  const std::string url = store_.url("shop");
  keys_ = "first, second";
  ASSERT_TRUE(credentials->run_once());
  EXPECT_EQ(key_in("shop"), "first, second");
  EXPECT_EQ(store_.url("shop"), url) << "the password stays";
  EXPECT_EQ(store_.writes, 4);
  keys_ = "away";
  EXPECT_FALSE(credentials->run_once());
  EXPECT_NE(credentials->health().detail.find("the ledger is away"), std::string::npos);
  EXPECT_EQ(key_in("shop"), "first, second");
  // One that has just started knows none: a Secret that has them is not written without.
  auto next = make();
  EXPECT_FALSE(next->run_once());
  EXPECT_EQ(key_in("shop"), "first, second");
  EXPECT_EQ(store_.writes, 4);
}

TEST_F(SidecarCredentials, OneThatSomebodyElseMadeIsLeftAlone) {
  const std::string theirs =
      R"({"metadata":{"name":"tallygate-sidecar"},"data":{"redis-url":")" + base64_encode("redis://me:mine@elsewhere:6379") + "\"}}";
  store_.secrets["shop/tallygate-sidecar"] = theirs;
  auto credentials = make();
  ASSERT_TRUE(credentials->run_once());
  EXPECT_EQ(store_.secrets["shop/tallygate-sidecar"], theirs);
  EXPECT_EQ(store_.writes, 1) << "web's";
  EXPECT_EQ(admin_.call({"ACL", "USERS"})->elements.size(), 2u) << "default and web's";
}

TEST_F(SidecarCredentials, ATenantThatIsLentIsReached) {
  auto credentials = make({"shop"});
  ASSERT_TRUE(credentials->run_once());
  redis::Client shop(system_env(), *redis::parse_url(store_.url("shop")));
  const redis::Command read = {"GET", redis_contract::tenant_key("partner/lent")};
  EXPECT_FALSE(redis::Client::check(shop.call(read)));
  credentials->lend({"partner/lent"});
  ASSERT_TRUE(credentials->run_once());
  EXPECT_TRUE(redis::Client::check(shop.call(read)));
  credentials->lend({});
  ASSERT_TRUE(credentials->run_once());
  EXPECT_FALSE(redis::Client::check(shop.call(read))) << "and no more";
}

TEST_F(SidecarCredentials, ANamespaceThatIsNamedNoMoreLosesItsUser) {
  ASSERT_TRUE(make()->run_once());
  ASSERT_TRUE(make({"web"})->run_once());
  EXPECT_FALSE(works(store_.url("shop")));
  EXPECT_TRUE(works(store_.url("web")));
}

// Managed services bar ACL.
TEST_F(SidecarCredentials, WhereRedisMakesNoUsersAllShareOneAndItIsSaid) {
  ScratchRedis barred({"--rename-command", "ACL", "\"\""});
  CredentialsOptions options;
  options.namespaces = {"shop"};
  options.redis = barred.endpoint();
  options.look_ms = options.retry_ms = 0;
  metrics::Registry registry;
  Credentials credentials(system_env(), store_, std::move(options), registry);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(credentials.run_once());
  EXPECT_EQ(store_.url("shop"), "redis://127.0.0.1:" + std::to_string(barred.port()));
  EXPECT_EQ(store_.writes, 1);
  EXPECT_NE(credentials.health().detail.find("share the operator's user"), std::string::npos);
  EXPECT_NE(registry.text().find("tallygate_operator_sidecar_credentials_shared 1"), std::string::npos);
}

}  // namespace
}  // namespace tallygate::testing
