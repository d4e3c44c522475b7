#include "operator/manifest/accept.h"

#include <gtest/gtest.h>

#include "tests/unit/manifest/manifests.h"

namespace tallygate::manifest {
namespace {

// A folder in memory, accepted again and again.
class Source {
 public:
  std::map<std::string, std::string> files;
  const Accepted& accept_now() {
    std::vector<FileContent> contents;
    for (const auto& [name, text] : files) contents.push_back(read_manifest(name, text));
    accepted_ = accept(accepted_.resources, contents);
    return accepted_;
  }
  int64_t amount() const {
    const auto& plans = accepted_.resources.plans;
    return plans.empty() ? -1 : plans.begin()->second.limits[0].amount;
  }

 private:
  Accepted accepted_;
};

bool has(const Accepted& accepted, Reason reason, const std::string& field) {
  for (const Fault& fault : accepted.faults) {
    if (fault.reason == reason && fault.field == field) return true;
  }
  return false;
}

TEST(Accept, GoodFilesAreAcceptedWhole) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"t.yaml", tenant_yaml()}, {"p.yaml", policy_yaml()}};
  const Accepted& accepted = source.accept_now();
  EXPECT_EQ(all_of(accepted.faults), "");
  EXPECT_EQ(accepted.resources.plans.size(), 1u);
  EXPECT_EQ(accepted.resources.tenants.size(), 1u);
  EXPECT_EQ(accepted.resources.policies.size(), 1u);
}

TEST(Accept, ABadFileKeepsItsLastGoodObjectsAndHoldsUpNoOther) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()},
                  {"t.yaml", tenant_yaml("acme", "a") + "---\n" + tenant_yaml("beta", "b")}};
  source.accept_now();
  source.files["t.yaml"] = tenant_yaml("acme", "changed") + "---\n" + tenant_yaml("beta", "\"\"");
  source.files["plan.yaml"] = plan_yaml("standard", "0.40", "2000");
  const Accepted& accepted = source.accept_now();
  ASSERT_EQ(accepted.faults.size(), 1u) << all_of(accepted.faults);
  EXPECT_EQ(source.amount(), 2000);
  EXPECT_EQ(accepted.resources.tenants.at(tenant_id("shop/acme")).identity.external_ids[0].value, "a");
  EXPECT_EQ(accepted.resources.tenants.at(tenant_id("shop/beta")).identity.external_ids[0].value, "b");
  source.files["t.yaml"] = "{";
  EXPECT_EQ(source.accept_now().resources.tenants.size(), 2u);
  source.files["t.yaml"] = tenant_yaml("acme", "c");
  EXPECT_EQ(source.accept_now().resources.tenants.size(), 1u);
  EXPECT_FALSE(source.accept_now().degraded());
}

TEST(Accept, AtStartTheGoodObjectsOfABadFileAreAccepted) {
  Source source;
  source.files = {
      {"all.yaml", plan_yaml() + "---\n" + tenant_yaml("acme", "a") + "---\n" + tenant_yaml("beta", "\"\"")}};
  const Accepted& accepted = source.accept_now();
  EXPECT_TRUE(accepted.degraded());
  EXPECT_EQ(accepted.resources.plans.size(), 1u);
  EXPECT_EQ(accepted.resources.tenants.size(), 1u);
}

TEST(Accept, PricesOfAnAcceptedPlanNeverChange) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"t.yaml", tenant_yaml()}};
  source.accept_now();
  source.files["plan.yaml"] = plan_yaml("standard", "0.50", "5");
  const Accepted& accepted = source.accept_now();
  ASSERT_TRUE(has(accepted, Reason::kImmutable, "spec.pricing.meters[0]")) << all_of(accepted.faults);
  EXPECT_EQ(accepted.faults[0].line, 5);
  EXPECT_EQ(accepted.resources.plans.at(plan_name("standard")).pricing.meters[0].tiers[0].price, 400'000);
  EXPECT_EQ(source.amount(), 1000);                               // the file stays as it was
  source.files["plan.yaml"] = plan_yaml("standard", "0.4", "5");  // the same price in other words
  EXPECT_EQ(all_of(source.accept_now().faults), "");
  EXPECT_EQ(source.amount(), 5);
}

TEST(Accept, MovingAPlanToAnotherFileDoesNotChangeItsPrices) {
  Source source;
  source.files = {{"a.yaml", plan_yaml()}};
  source.accept_now();
  source.files = {{"b.yaml", plan_yaml("standard", "9.99")}};
  for (int i = 0; i < 2; ++i) {
    const Accepted& accepted = source.accept_now();
    EXPECT_TRUE(has(accepted, Reason::kImmutable, "spec.pricing.meters[0]")) << all_of(accepted.faults);
    EXPECT_EQ(accepted.resources.plans.at(plan_name("standard")).pricing.meters[0].tiers[0].price, 400'000);
  }
  source.files = {{"b.yaml", plan_yaml("standard", "0.40", "7")}};
  EXPECT_EQ(all_of(source.accept_now().faults), "");
  EXPECT_EQ(source.amount(), 7);
}

TEST(Accept, APlanInUseOutlivesItsFile) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"t.yaml", tenant_yaml()}};
  source.accept_now();
  source.files.erase("plan.yaml");
  for (int i = 0; i < 2; ++i) {
    const Accepted& accepted = source.accept_now();
    EXPECT_TRUE(has(accepted, Reason::kNotFound, "spec.planRef.name"));
    EXPECT_EQ(accepted.resources.plans.size(), 1u);
    EXPECT_EQ(accepted.resources.tenants.size(), 1u);
  }
  source.files.erase("t.yaml");
  const Accepted& accepted = source.accept_now();
  EXPECT_EQ(all_of(accepted.faults), "");
  EXPECT_TRUE(accepted.resources.plans.empty());
}

TEST(Accept, AnUnknownPlanIsSuggested) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"t.yaml", tenant_yaml("acme", "a", "standrad")}};
  const Accepted& accepted = source.accept_now();
  ASSERT_TRUE(has(accepted, Reason::kNotFound, "spec.planRef.name"));
  EXPECT_NE(accepted.faults[0].fix.find("did you mean standard?"), std::string::npos);
  EXPECT_EQ(accepted.faults[0].line, 5);
  EXPECT_TRUE(accepted.resources.tenants.empty());
}

TEST(Accept, AnIdentityClaimedTwiceNamesBothAndTheHolderKeepsIt) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"z.yaml", tenant_yaml("zeta", "org_1")}};
  source.accept_now();
  source.files["a.yaml"] = tenant_yaml("alpha", "org_1");
  const Accepted& accepted = source.accept_now();
  ASSERT_TRUE(has(accepted, Reason::kConflict, "spec.identity.externalIDs[0]")) << all_of(accepted.faults);
  EXPECT_NE(accepted.faults[0].message.find("shop/zeta"), std::string::npos);
  EXPECT_NE(accepted.faults[0].message.find("shop/alpha"), std::string::npos);
  EXPECT_EQ(accepted.faults[0].file, "a.yaml");
  EXPECT_EQ(accepted.resources.tenants.count(tenant_id("shop/zeta")), 1u);
  EXPECT_EQ(accepted.resources.tenants.count(tenant_id("shop/alpha")), 0u);
}

TEST(Accept, IdentitiesMayBeSwappedInOneChange) {
  Source source;
  source.files = {
      {"plan.yaml", plan_yaml()}, {"a.yaml", tenant_yaml("alpha", "x")}, {"b.yaml", tenant_yaml("beta", "w")}};
  source.accept_now();
  source.files["a.yaml"] = tenant_yaml("alpha", "w");
  source.files["b.yaml"] = tenant_yaml("beta", "x");
  const Accepted& accepted = source.accept_now();
  EXPECT_EQ(all_of(accepted.faults), "");
  EXPECT_EQ(accepted.resources.tenants.at(tenant_id("shop/alpha")).identity.external_ids[0].value, "w");
}

TEST(Accept, ANameGivenTwiceStaysWithWhoHadIt) {
  Source source;
  source.files = {{"m.yaml", plan_yaml("standard", "0.40", "10")}};
  source.accept_now();
  source.files["a.yaml"] = plan_yaml("standard", "0.40", "20");
  const Accepted& accepted = source.accept_now();
  ASSERT_TRUE(has(accepted, Reason::kDuplicate, "metadata.name")) << all_of(accepted.faults);
  EXPECT_EQ(accepted.faults[0].file, "a.yaml");
  EXPECT_NE(accepted.faults[0].message.find("m.yaml:1"), std::string::npos);
  EXPECT_EQ(source.amount(), 10);
}

TEST(Accept, AnObjectMayMoveFromFileToFile) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"a.yaml", tenant_yaml("acme", "x")}};
  source.accept_now();
  source.files.erase("a.yaml");
  source.files["b.yaml"] = tenant_yaml("acme", "w");
  const Accepted& accepted = source.accept_now();
  EXPECT_EQ(all_of(accepted.faults), "");
  EXPECT_EQ(accepted.resources.tenants.at(tenant_id("shop/acme")).identity.external_ids[0].value, "w");
}

TEST(Accept, ALimitThatGoesDoesNotTakeTheTenantThatOverridesIt) {
  Source source;
  const std::string tenant = tenant_yaml() + "  limitOverrides: [{name: calls-month, amount: 7}]\n";
  source.files = {{"plan.yaml", plan_yaml()}, {"t.yaml", tenant}};
  EXPECT_EQ(all_of(source.accept_now().faults), "");
  std::string renamed = plan_yaml();
  renamed.replace(renamed.find("calls-month"), 11, "calls-day");
  source.files["plan.yaml"] = renamed;
  const Accepted& accepted = source.accept_now();
  EXPECT_TRUE(has(accepted, Reason::kNotFound, "spec.limitOverrides[0].name")) << all_of(accepted.faults);
  EXPECT_EQ(accepted.resources.tenants.size(), 1u);
  EXPECT_EQ(accepted.resources.plans.begin()->second.limits[0].name.str(), "calls-day");
}

TEST(Accept, AHardLimitIsNotOverriddenWithABurst) {
  Source source;
  std::string plan = plan_yaml();
  source.files = {{"plan.yaml", plan},
                  {"t.yaml", tenant_yaml() + "  limitOverrides: [{name: calls-month, amount: 7, burst: 9}]\n"}};
  const Accepted& accepted = source.accept_now();
  EXPECT_TRUE(has(accepted, Reason::kConflict, "spec.limitOverrides[0].burst")) << all_of(accepted.faults);
}

TEST(Accept, OneDefaultPlan) {
  Source source;
  const auto default_plan = [](const std::string& name) {
    std::string yaml = plan_yaml(name);
    const std::string metadata = "metadata: {name: " + name;
    yaml.insert(yaml.find(metadata) + metadata.size(),
                ", annotations: {billing.tallygate.dev/is-default-plan: \"true\"}");
    return yaml;
  };
  source.files = {{"b.yaml", default_plan("b")}};
  EXPECT_EQ(all_of(source.accept_now().faults), "");
  source.files["a.yaml"] = default_plan("a");
  const Accepted& accepted = source.accept_now();
  ASSERT_TRUE(has(accepted, Reason::kConflict, "metadata.annotations")) << all_of(accepted.faults);
  EXPECT_EQ(accepted.faults[0].object, "BillingPlan a");
  EXPECT_EQ(accepted.resources.plans.size(), 1u);
}

TEST(Accept, WalletAndPlanAgreeOnTheCurrency) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"t.yaml", tenant_yaml() + "  wallet: {currency: EUR}\n"}};
  const Accepted& accepted = source.accept_now();
  ASSERT_TRUE(has(accepted, Reason::kConflict, "spec.wallet.currency")) << all_of(accepted.faults);
  EXPECT_EQ(accepted.faults[0].line, 7);
}

TEST(Accept, APolicyChargesMetersThatExist) {
  Source source;
  source.files = {{"plan.yaml", plan_yaml()}, {"p.yaml", policy_yaml("api_cals")}};
  const Accepted& accepted = source.accept_now();
  ASSERT_TRUE(has(accepted, Reason::kNotFound, "spec.defaultRoute.charges[0].meter")) << all_of(accepted.faults);
  EXPECT_NE(accepted.faults[0].fix.find("api_calls"), std::string::npos);
}

TEST(Accept, IsDeterministicAndSettlesWhateverIsThrownAtIt) {
  // Files that fight over names, identities and plans, in every order of change.
  const std::vector<std::string> texts = {plan_yaml(),
                                          plan_yaml("standard", "0.50"),
                                          plan_yaml("other"),
                                          tenant_yaml("a", "x"),
                                          tenant_yaml("a", "y"),
                                          tenant_yaml("b", "x"),
                                          tenant_yaml("b", "x", "other"),
                                          policy_yaml(),
                                          policy_yaml("nothing"),
                                          "{",
                                          ""};
  Source source, twin;
  uint64_t state = 42;
  for (int step = 0; step < 500; ++step) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const std::string file = "f" + std::to_string((state >> 33) % 4) + ".yaml";
    const std::string text = texts[(state >> 40) % texts.size()] + "---\n" + texts[(state >> 50) % texts.size()];
    source.files[file] = twin.files[file] = text;
    const Accepted& accepted = source.accept_now();
    EXPECT_EQ(all_of(accepted.faults), all_of(twin.accept_now().faults));
    std::map<std::string, std::string> owners;
    for (const auto& [id, tenant] : accepted.resources.tenants) {
      EXPECT_EQ(accepted.resources.plans.count(tenant.plan.value), 1u) << step;
      for (const auto& external : tenant.identity.external_ids) {
        EXPECT_TRUE(owners.emplace(external.value, id.str()).second) << step << ": two tenants hold " << external.value;
      }
    }
  }
}

}  // namespace
}  // namespace tallygate::manifest
