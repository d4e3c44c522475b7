#include "operator/manifest/read.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/unit/manifest/manifests.h"

namespace tallygate::manifest {
namespace {

std::string example() {
  std::ifstream in("tests/golden/manifests/resources.yaml");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(Read, TheDocumentedExampleIsAccepted) {
  const FileContent content = read_manifest("resources.yaml", example());
  EXPECT_EQ(all_of(content.faults), "");
  ASSERT_EQ(content.objects.size(), 3u);
  const auto& plan = std::get<BillingPlan>(content.objects[0]);
  EXPECT_EQ(plan.name.str(), "standard-v1");
  EXPECT_TRUE(plan.is_default);
  EXPECT_EQ(plan.pricing.base_price, 49'000'000);
  ASSERT_EQ(plan.pricing.meters.size(), 3u);
  EXPECT_EQ(plan.pricing.meters[0].tiers[1].price, 2'000'000);
  EXPECT_EQ(plan.limits[0].grace->duration_s, 86'400);
  const auto& tenant = std::get<BillingTenant>(content.objects[1]);
  EXPECT_EQ(tenant.id.str(), "shop/acme");
  EXPECT_EQ(tenant.billing.anchor_s, 1'768'435'200);
  EXPECT_EQ(tenant.identity.api_key_hashes[0].value.size(), 64u);
  EXPECT_EQ(tenant.wallet->debt_limit, 5'000'000);
  const auto& policy = std::get<BillingPolicy>(content.objects[2]);
  EXPECT_EQ(policy.identity.size(), 3u);
  EXPECT_EQ(policy.identity[2].header, "x-tenant-id");
  EXPECT_EQ(policy.paths, (tenant::PathRules{tenant::AmbiguousPath::kNormalise, true, true}));
  EXPECT_EQ(policy.identity[0].forward, tenant::Forward::kNever);
  EXPECT_EQ(policy.tenant_header, "X-Tallygate-Tenant");
  EXPECT_EQ(policy.cors, (tenant::Cors{{"https://app.example.com"}, true}));
  EXPECT_EQ(policy.routes.size(), 3u);
  EXPECT_EQ(policy.routes[0].charges[0].from->type, tenant::AmountFrom::kResponseJson);
  EXPECT_EQ(policy.routes[2].action, tenant::RouteAction::kExempt);
}

TEST(Read, ARoutesPathIsKeptInNormalForm) {
  const auto path_of = [](const std::string& value) {
    const FileContent content =
        read_manifest("a.yaml",
                      "apiVersion: billing.tallygate.dev/v1alpha1\nkind: BillingPolicy\nmetadata: {name: api, "
                      "namespace: shop}\nspec:\n"
                      "  identity: [{type: APIKey, apiKey: {header: X-Api-Key}}]\n"
                      "  routes: [{name: a, action: Exempt, matches: [{path: {type: Exact, value: \"" +
                          value + "\"}}]}]\n  defaultRoute: {action: Deny}\n");
    return content.objects.empty() ? all_of(content.faults)
                                   : std::get<BillingPolicy>(content.objects.at(0)).routes.at(0).matches.at(0).path;
  };
  EXPECT_EQ(path_of("/v1/%63hat"), "/v1/chat");
  EXPECT_EQ(path_of("/v1/chat%3acomplete"), "/v1/chat:complete");
  EXPECT_EQ(path_of("/caf%c3%a9"), "/caf%C3%A9");
  EXPECT_EQ(path_of("/.well-known/x/"), "/.well-known/x/");
}

TEST(Read, WhatIsNotInForceIsWarnedOfOnceAFeature) {
  const Accepted accepted = accept({}, {read_manifest("resources.yaml", example())});
  EXPECT_EQ(all_of(accepted.faults), "");
  std::string fields;
  for (const Fault& warning : accepted.warnings) {
    EXPECT_EQ(warning.reason, Reason::kNotInForceYet);
    EXPECT_GT(warning.line, 0);
    fields += warning.field + "\n";
  }
  for (const char* field : {"spec.planChange", "spec.billing.pastDue", "spec.identity.hosts",
                            "spec.identity.apiKeySecretRefs", "spec.wallet.alertThresholds", "spec.wallet.autoRecharge",
                            "spec.identity[1].jwt"}) {
    EXPECT_NE(fields.find(field), std::string::npos) << field;
  }
  EXPECT_EQ(accepted.warnings.size(), 7u);
}

TEST(Read, TheExampleOfAnLlmIsAcceptedAsAWhole) {
  std::ifstream in("examples/llm/llm.yaml");
  std::stringstream text;
  text << in.rdbuf();
  const Accepted accepted = accept({}, {read_manifest("llm.yaml", text.str())});
  EXPECT_EQ(all_of(accepted.faults), "");
  EXPECT_EQ(accepted.warnings.size(), 0u);
}

// It goes to the log, and to /health.
TEST(Read, AKeyInPlaceOfItsHashIsNotQuoted) {
  for (const std::string written :
       {"sk-live-4711", "\"sha256:sk-live-4711\"",
        "\"sk-live-4711 and much more than a hash has, so that it is too long: 0123456789\""}) {
    std::string text = tenant_yaml();
    const size_t at = text.find("{externalIDs");
    ASSERT_NE(at, std::string::npos);
    text.insert(at + 1, "apiKeyHashes: [" + written + "], ");
    const FileContent content = read_manifest("f.yaml", text);
    const std::string all = all_of(content.faults);
    EXPECT_NE(all.find("apiKeyHashes[0]"), std::string::npos) << all;
    EXPECT_EQ(all.find("4711"), std::string::npos) << all;
  }
}

TEST(Read, AllFaultsOfAllDocumentsAreGathered) {
  const FileContent content =
      read_manifest("f.yaml", plan_yaml("Bad_Name", "x") + "---\n" + tenant_yaml("acme", "org_1", "P!"));
  ASSERT_EQ(content.faults.size(), 3u) << all_of(content.faults);
  EXPECT_EQ(content.faults[0].field, "metadata.name");
  EXPECT_EQ(content.faults[1].field, "spec.pricing.meters[0].tiers[0].price");
  EXPECT_EQ(content.faults[1].line, 8);
  EXPECT_EQ(content.faults[2].field, "spec.planRef.name");
  EXPECT_EQ(content.faults[2].line, 16);
  EXPECT_TRUE(content.objects.empty());
}

TEST(Read, AnObjectWithoutFaultComesThroughBesideAFaultyOne) {
  const FileContent content = read_manifest("f.yaml", plan_yaml() + "---\n" + tenant_yaml("acme", "\" \""));
  EXPECT_EQ(content.faults.size(), 1u);
  ASSERT_EQ(content.objects.size(), 1u);
  EXPECT_EQ(object_key(content.objects[0]), "BillingPlan standard");
}

TEST(Read, AnchorsWorkAndBombsDoNot) {
  const std::string anchored =
      "apiVersion: billing.tallygate.dev/v1alpha1\nkind: BillingPolicy\nmetadata: {name: api, namespace: shop}\nspec:\n"
      "  identity: [{type: APIKey, apiKey: {header: X-Api-Key}}]\n"
      "  routes:\n  - {name: a, matches: [{path: {type: Exact, value: /a}}], charges: &c [{meter: api_calls, units: "
      "2}]}\n"
      "  defaultRoute: {charges: *c}\n";
  const FileContent good = read_manifest("f.yaml", anchored);
  EXPECT_EQ(all_of(good.faults), "");
  EXPECT_EQ(std::get<BillingPolicy>(good.objects.at(0)).default_route.charges[0].units, 2);

  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 9; ++i) bomb += std::string(i ? "," : "") + "*" + static_cast<char>(c - 1);
    bomb += "]\n";
  }
  const FileContent exploded = read_manifest("f.yaml", bomb);
  ASSERT_EQ(exploded.faults.size(), 1u) << all_of(exploded.faults);
  EXPECT_EQ(exploded.faults[0].reason, Reason::kSyntax);
  EXPECT_NE(exploded.faults[0].message.find("aliases"), std::string::npos);
}

TEST(Read, LimitsOfTheReaderHold) {
  const auto reason_of = [](const std::string& text) {
    const FileContent content = read_manifest("f.yaml", text);
    return content.faults.empty() ? "none" : std::string(to_string(content.faults[0].reason));
  };
  EXPECT_EQ(reason_of(std::string(kMaxFileBytes + 1, '#')), "Syntax");
  EXPECT_EQ(reason_of("a: " + std::string(40, '[')), "Syntax");
  EXPECT_EQ(reason_of("a: " + std::string(5'000, '[')), "Syntax");
  EXPECT_EQ(reason_of("a: " + std::string(5'000, '{')), "Syntax");
  EXPECT_EQ(reason_of(std::string(2'000, '-')), "InvalidValue");
  std::string deep;
  for (int i = 0; i < 40; ++i) deep += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_EQ(reason_of(deep), "Syntax");
}

TEST(Read, JsonObjectsPassThroughTheSameRules) {
  const std::string good =
      R"({"apiVersion":"billing.tallygate.dev/v1alpha1","kind":"BillingTenant","metadata":{"name":"acme","namespace":"shop",
      "uid":"1","resourceVersion":"2","managedFields":[]},"spec":{"planRef":{"name":"standard"},"suspend":true},"status":{"x":1}})";
  const FileContent content = read_manifest("", good, Syntax::kJson);
  EXPECT_EQ(all_of(content.faults), "");
  EXPECT_TRUE(std::get<BillingTenant>(content.objects.at(0)).suspend);
  const FileContent bad = read_manifest("", R"({"apiVersion":"billing.tallygate.dev/v1alpha1","kind":"BillingTenant",
      "metadata":{"name":"acme","namespace":"shop"},"spec":{"planRef":{"name":1}}})",
                                        Syntax::kJson);
  ASSERT_EQ(bad.faults.size(), 1u);
  EXPECT_EQ(
      to_string(bad.faults[0]),
      "BillingTenant shop/acme: spec.planRef.name: InvalidValue: is a number, not a string (fix: quote it: \"1\")");
  EXPECT_EQ(read_manifest("", "{", Syntax::kJson).faults.at(0).reason, Reason::kSyntax);
  EXPECT_EQ(read_manifest("", std::string(10'000, '['), Syntax::kJson).faults.at(0).reason, Reason::kSyntax);
}

TEST(Read, CommentsAndEmptyDocumentsAreNothing) {
  const FileContent content = read_manifest("f.yaml", "# nothing\n---\n---\n# here\n");
  EXPECT_EQ(all_of(content.faults), "");
  EXPECT_TRUE(content.objects.empty());
}

TEST(Read, TheNamespaceOfAFolderForKubectlIsNothing) {
  const FileContent content = read_manifest("f.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
  EXPECT_EQ(all_of(content.faults) + all_of(content.warnings), "");
  EXPECT_TRUE(content.objects.empty());
}

}  // namespace
}  // namespace tallygate::manifest
