#include "operator/source/secret_keys.h"

#include <gtest/gtest.h>

#include "operator/source/cluster_objects.h"

namespace tallygate::source {
namespace {

// printf %s demo-key-acme | sha256sum
constexpr char kHash[] = "sha256:8649cdebee753898fd50e01408a9e438aa5090249bc3e51b65f33dce973b0873";

kube::Object secret(const std::string& name, const std::string& base64) {
  kube::Object object;
  object.name = {"shop", name};
  object.json = R"({"kind":"Secret","metadata":{"name":")" + name + R"("},"data":{"key":")" + base64 + R"(","bad":"%%","empty":""}})";
  keep_hashes_only(object);
  return object;
}

kube::Object tenant() {
  kube::Object object;
  object.name = {"shop", "acme"};
  object.generation = 1;
  object.json = R"({"apiVersion":"billing.tallygate.dev/v1alpha1","kind":"BillingTenant","metadata":{"name":"acme","namespace":"shop"},)"
                R"("spec":{"planRef":{"name":"standard"},"identity":{"apiKeySecretRefs":[{"name":"keys"}]}}})";
  return object;
}

std::vector<std::string> hashes_in(ClusterObjects& objects) {
  std::vector<std::string> hashes;
  const auto files = objects.files(0);
  for (const auto& hash : std::get<manifest::BillingTenant>(files.at(0)->objects.at(0)).identity.api_key_hashes) hashes.push_back(hash.value);
  return hashes;
}

TEST(SecretKeys, OnlyHashesAreKeptOfASecret) {
  const auto object = secret("keys", "ZGVtby1rZXktYWNtZQ==");
  EXPECT_EQ(object.json, std::string("[\"") + kHash + "\"]");
  EXPECT_EQ(secret("keys", "ZGVtby1rZXktYWNtZQo=").json, object.json) << "echo adds a line end, and a header cannot have one";
}

TEST(SecretKeys, ATenantHasTheKeysOfItsSecretsInWhateverOrderTheyCome) {
  ClusterObjects objects;
  EXPECT_TRUE(objects.set("BillingTenant", tenant(), 0));
  EXPECT_EQ(objects.files(0).at(0)->warnings.size(), 1u) << "the Secret is not known";
  EXPECT_FALSE(objects.set_secret(secret("others", "eA==")));
  EXPECT_TRUE(objects.set_secret(secret("keys", "ZGVtby1rZXktYWNtZQ==")));
  EXPECT_EQ(hashes_in(objects), std::vector<std::string>{std::string(kHash).substr(7)});
  EXPECT_TRUE(objects.files(0).at(0)->warnings.empty());
  EXPECT_FALSE(objects.set_secret(secret("keys", "ZGVtby1rZXktYWNtZQ==")));
  EXPECT_TRUE(objects.set_secret(secret("keys", "eA=="))) << "rotated";
  EXPECT_NE(hashes_in(objects), std::vector<std::string>{std::string(kHash).substr(7)});
  EXPECT_TRUE(objects.remove_secret({"shop", "keys"}));
  EXPECT_TRUE(hashes_in(objects).empty());
}

}  // namespace
}  // namespace tallygate::source
