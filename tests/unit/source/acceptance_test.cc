#include "operator/source/acceptance.h"

#include <gtest/gtest.h>

#include "tests/unit/manifest/manifests.h"

namespace tallygate::source {
namespace {

using manifest::plan_yaml;
using manifest::tenant_yaml;

// A source of any number of tenants, each in a file of its own, with their plan.
Look look_of(int tenants, const std::string& amount = "1000") {
  Look look;
  const auto add = [&](const std::string& name, const std::string& text) {
    look.files.push_back(std::make_shared<const manifest::FileContent>(manifest::read_manifest(name, text)));
  };
  add("plan", plan_yaml("standard", "0.40", amount));
  for (int i = 0; i < tenants; ++i) add("t" + std::to_string(i), tenant_yaml("t" + std::to_string(i), "org_" + std::to_string(i)));
  return look;
}

manifest::Resources resources_of(int tenants) { return manifest::accept({}, look_of(tenants).files).resources; }
int64_t amount_of(const Snapshot& snapshot) { return snapshot.accepted->resources.plans.begin()->second.limits[0].amount; }

TEST(Acceptance, HowMuchMayGoAtOnce) {
  struct Row {
    int before, after;
    bool lost;
  };
  for (const Row row : {Row{1, 0, false}, Row{3, 0, false}, Row{4, 2, false}, Row{4, 1, true}, Row{5, 3, false}, Row{5, 2, true},
                        Row{100, 50, false}, Row{100, 49, true}, Row{100, 0, true}, Row{4, 5, false}}) {
    Acceptance acceptance({resources_of(row.before), ""});
    const auto snapshot = acceptance.take(look_of(row.after, "7"));
    const std::string name = std::to_string(row.before) + " to " + std::to_string(row.after);
    EXPECT_EQ(!snapshot.lost.empty(), row.lost) << name << ": " << snapshot.lost;
    EXPECT_EQ(snapshot.accepted->resources.tenants.size(), static_cast<size_t>(row.lost ? row.before : row.after)) << name;
    EXPECT_EQ(amount_of(snapshot), row.lost ? 1000 : 7) << name << ": all or nothing";
  }
}

TEST(Acceptance, ASourceThatShowsNothingRemovesNothing) {
  Acceptance acceptance({resources_of(1), ""});
  const auto snapshot = acceptance.take({});
  EXPECT_TRUE(snapshot.lost.starts_with("SourceLost: ")) << snapshot.lost;
  EXPECT_FALSE(snapshot.resources_changed);
  EXPECT_EQ(snapshot.accepted->resources.tenants.size(), 1u);
  // It is back.
  const auto again = acceptance.take(look_of(1));
  EXPECT_EQ(again.lost, "");
  EXPECT_TRUE(again.news);
}

TEST(Acceptance, AnEmptySourceWhereNothingWasIsFine) {
  Acceptance acceptance({});
  EXPECT_EQ(acceptance.take({}).lost, "");
}

TEST(Acceptance, TheFirstLookIsBelievedWhereThatIsAskedForAndNoOther) {
  Acceptance acceptance({resources_of(9), ""}, {.accept_removals = true});
  EXPECT_EQ(acceptance.take(look_of(4)).accepted->resources.tenants.size(), 4u);
  EXPECT_EQ(acceptance.take(look_of(1)).accepted->resources.tenants.size(), 4u);
}

TEST(Acceptance, OneThatIsMissingInADoubtfulLookStays) {
  Acceptance acceptance({resources_of(9), ""});
  auto look = look_of(8);
  look.doubt = "a file has faults";
  EXPECT_EQ(acceptance.take(look).accepted->resources.tenants.size(), 9u);
  // Where nothing is missing, doubt is no matter.
  look = look_of(10, "5");
  look.doubt = "a file has faults";
  const auto snapshot = acceptance.take(look);
  EXPECT_EQ(snapshot.lost, "");
  EXPECT_EQ(amount_of(snapshot), 5);
}

// A CRD that goes takes its objects with it. That it is back says nothing of them.
TEST(Acceptance, WhatWentWithItsKindIsMissedUntilItIsBack) {
  Acceptance acceptance({resources_of(2), ""});
  auto look = look_of(0);
  look.doubt = "the kind is gone";
  look.wiped = true;
  EXPECT_NE(acceptance.take(look).lost, "");
  EXPECT_NE(acceptance.take(look_of(0)).lost, "") << "two of two may go at other times";
  EXPECT_NE(acceptance.take(look_of(1)).lost, "");
  EXPECT_EQ(acceptance.take(look_of(2)).lost, "");
  EXPECT_EQ(acceptance.take(look_of(1)).accepted->resources.tenants.size(), 1u);
}

TEST(Acceptance, ABlankLookChangesNothing) {
  Acceptance acceptance({resources_of(2), ""});
  Look look;
  look.blank = true;
  look.trouble = "the server is away";
  const auto away = acceptance.take(look);
  EXPECT_EQ(away.lost, "");
  EXPECT_EQ(away.trouble, "the server is away");
  EXPECT_EQ(away.accepted->resources.tenants.size(), 2u);
  look.doubt = "the kind is not there";
  EXPECT_NE(acceptance.take(look).lost, "");
}

TEST(Acceptance, AnotherClusterChangesNothingUntilItIsAdopted) {
  auto look = look_of(3, "5");
  look.cluster = "b";
  Acceptance refusing({resources_of(3), "a"});
  const auto refused = refusing.take(look);
  EXPECT_NE(refused.lost.find("--adopt-cluster"), std::string::npos) << refused.lost;
  EXPECT_EQ(amount_of(refused), 1000);
  EXPECT_EQ(refused.cluster, "a");
  Acceptance adopting({resources_of(3), "a"}, {.adopt_cluster = true});
  EXPECT_EQ(amount_of(adopting.take(look)), 5);
  EXPECT_EQ(adopting.now().cluster, "b");
  Acceptance first({resources_of(3), ""});
  EXPECT_EQ(first.take(look).cluster, "b");
}

TEST(Acceptance, ABrokenFileAfterARestartKeepsWhatTheLedgerKept) {
  Acceptance acceptance({resources_of(1), ""});
  auto look = look_of(0);
  look.files.push_back(std::make_shared<const manifest::FileContent>(manifest::read_manifest("t0", "kind: BilingTenant")));
  const auto snapshot = acceptance.take(look);
  EXPECT_EQ(snapshot.lost, "");
  EXPECT_EQ(snapshot.accepted->resources.tenants.size(), 1u);
  EXPECT_TRUE(snapshot.accepted->degraded());
}

// What the ledger keeps is read again as it was.
TEST(Acceptance, WhatIsKeptOfAnObjectReadsAsTheObject) {
  const auto before = resources_of(2);
  for (const auto& [id, tenant] : before.tenants) {
    ASSERT_NE(tenant.metadata.version.text, nullptr);
    const auto content = manifest::read_manifest("t", *tenant.metadata.version.text, manifest::Syntax::kJson);
    ASSERT_EQ(content.objects.size(), 1u) << *tenant.metadata.version.text << manifest::all_of(content.faults);
    EXPECT_EQ(std::get<manifest::BillingTenant>(content.objects[0]), tenant);
  }
  const auto& plan = before.plans.begin()->second;
  const auto content = manifest::read_manifest("p", *plan.metadata.version.text, manifest::Syntax::kJson);
  ASSERT_EQ(content.objects.size(), 1u);
  EXPECT_EQ(std::get<manifest::BillingPlan>(content.objects[0]), plan);
}

}  // namespace
}  // namespace tallygate::source
