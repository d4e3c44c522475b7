#include "operator/source/cluster_objects.h"

#include <gtest/gtest.h>

#include "operator/source/acceptance.h"

namespace tallygate::source {
namespace {

kube::Object tenant(const std::string& name, int64_t generation = 1, const std::string& plan = "standard",
                    const std::string& status = "{}") {
  kube::Object object;
  object.name = {"shop", name};
  object.uid = "uid-" + name;
  object.generation = generation;
  object.json = R"({"apiVersion":"billing.tallygate.dev/v1alpha1","kind":"BillingTenant","metadata":{"name":")" + name +
                R"(","namespace":"shop","uid":"uid-)" + name + R"(","generation":)" + std::to_string(generation) +
                R"(,"resourceVersion":"7","managedFields":[{"manager":"x"}],"annotations":{)"
                R"("kubectl.kubernetes.io/last-applied-configuration":"{}"}},"spec":{"planRef":{"name":")" +
                plan + R"("}},"status":)" + status + "}";
  return object;
}

bool set(ClusterObjects& objects, const kube::Object& object, int64_t now_ms = 0) {
  return objects.set("BillingTenant", object, now_ms);
}

TEST(ClusterObjects, AnObjectIsAFileWithItsVersion) {
  ClusterObjects objects;
  EXPECT_TRUE(set(objects, tenant("acme", 3)));
  const auto files = objects.files(0);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0]->file, "BillingTenant shop/acme");
  ASSERT_EQ(files[0]->objects.size(), 1u) << manifest::to_string(files[0]->faults.at(0));
  const auto& metadata = manifest::metadata_of(files[0]->objects[0]);
  EXPECT_EQ(metadata.version.uid, "uid-acme");
  EXPECT_EQ(metadata.version.generation, 3);
  EXPECT_TRUE(metadata.annotations.empty()) << "kubectl's copy is nobody's";
  EXPECT_EQ(*metadata.version.text,
            R"({"apiVersion":"billing.tallygate.dev/v1alpha1","kind":"BillingTenant","metadata":{"name":"acme",)"
            R"("namespace":"shop","annotations":{}},"spec":{"planRef":{"name":"standard"}}})");
}

TEST(ClusterObjects, OurOwnStatusIsNoChange) {
  ClusterObjects objects;
  EXPECT_TRUE(set(objects, tenant("acme")));
  EXPECT_FALSE(set(objects, tenant("acme", 1, "standard", R"({"state":"ok"})")));
  EXPECT_TRUE(set(objects, tenant("acme", 2))) << "another generation is told in the status";
  EXPECT_TRUE(set(objects, tenant("acme", 3, "other")));
}

TEST(ClusterObjects, AFaultIsOfItsObject) {
  ClusterObjects objects;
  EXPECT_TRUE(set(objects, tenant("acme", 1, "Not a name")));
  const auto files = objects.files(0);
  EXPECT_TRUE(files[0]->objects.empty());
  EXPECT_EQ(files[0]->faults.at(0).object, "BillingTenant shop/acme");
  EXPECT_FALSE(set(objects, tenant("acme", 1, "Not a name")));
}

TEST(ClusterObjects, WhatGoesGoesTogetherOnceItHasSettled) {
  ClusterObjects objects;
  for (const char* name : {"a", "b", "c"}) set(objects, tenant(name));
  EXPECT_TRUE(objects.remove("BillingTenant", {"shop", "a"}, 1'000));
  EXPECT_EQ(objects.files(1'500).size(), 3u);
  EXPECT_EQ(objects.settles_at_ms(), 2'000);
  auto deleting = tenant("b");
  deleting.deleting = true;
  EXPECT_TRUE(set(objects, deleting, 1'900));
  EXPECT_FALSE(set(objects, deleting, 1'950)) << "being deleted is as good as gone";
  EXPECT_EQ(objects.files(2'500).size(), 3u);
  EXPECT_EQ(objects.files(2'900).size(), 1u);
  EXPECT_EQ(objects.settles_at_ms(), 0);
  EXPECT_FALSE(objects.remove("BillingTenant", {"shop", "b"}, 3'000)) << "it was gone";
}

TEST(ClusterObjects, AnUnendingStreamOfGoingsIsJudgedInTheEnd) {
  ClusterObjects objects;
  for (int i = 0; i < 100; ++i) set(objects, tenant("t" + std::to_string(i)));
  for (int i = 0; i < 50; ++i) objects.remove("BillingTenant", {"shop", "t" + std::to_string(i)}, 100 + i * 500);
  EXPECT_EQ(objects.settles_at_ms(), 10'100);
}

TEST(ClusterObjects, WhatIsBackAtOnceWasNeverGone) {
  ClusterObjects objects;
  set(objects, tenant("a"));
  objects.remove("BillingTenant", {"shop", "a"}, 0);
  auto again = tenant("a");
  again.uid = "another";
  EXPECT_TRUE(set(objects, again, 500));
  EXPECT_EQ(objects.settles_at_ms(), 0);
  EXPECT_EQ(objects.files(9'999).size(), 1u);
}

}  // namespace
}  // namespace tallygate::source
