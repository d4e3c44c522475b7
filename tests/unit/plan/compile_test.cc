#include "operator/plan/compile.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/tenant/wire.h"
#include "operator/manifest/accept.h"
#include "operator/manifest/formats.h"
#include "operator/manifest/read.h"

namespace tallygate::plan {
namespace {

constexpr char kManifest[] = "tests/golden/manifests/resources.yaml";
constexpr char kGolden[] = "tests/golden/manifests/resources.compiled.json";

int64_t utc(const char* text) { return manifest::parse_rfc3339(text).value(); }
const int64_t kNow = utc("2026-03-29T11:22:33Z");

std::string read(const char* path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

manifest::Resources resources_of(const std::string& yaml) {
  const auto accepted = manifest::accept({}, {manifest::read_manifest("test.yaml", yaml)});
  for (const auto& fault : accepted.faults) ADD_FAILURE() << manifest::to_string(fault);
  return accepted.resources;
}

std::string replaced(std::string text, const std::string& piece, const std::string& by) {
  const size_t at = text.find(piece);
  EXPECT_NE(at, std::string::npos) << piece;
  return text.replace(at, piece.size(), by);
}

Compiled compiled(const std::string& yaml, int64_t now_s = kNow) { return compile(resources_of(yaml), now_s).value(); }

TEST(Compile, TheDocumentedExampleIsAsTheGoldenFileSays) {
  const std::string actual = to_json(compiled(read(kManifest)));
  if (actual != read(kGolden)) {
    const std::string path = ::testing::TempDir() + "resources.compiled.json";
    std::ofstream(path) << actual;
    FAIL() << "differs from " << kGolden << "; the result is in " << path;
  }
}

TEST(Compile, DependsOnTheDayOnly) {
  const auto resources = resources_of(read(kManifest));
  const Compiled at_noon = compile(resources, kNow).value();
  EXPECT_EQ(compile(resources, utc("2026-03-29T00:00:00Z")).value(), at_noon);
  EXPECT_EQ(compile(resources, utc("2026-03-29T23:59:59Z")).value(), at_noon);
}

TEST(Compile, WindowsStayKnownUntilTheNextCompile) {
  const std::string yaml = replaced(read(kManifest), "window: Month", "window: Hour");
  int64_t now_s = kNow;
  for (int round = 0; round < 20; ++round) {
    const Compiled result = compiled(yaml, now_s);
    EXPECT_GT(result.recompile_at_s, now_s);
    for (const auto& limit : result.tenants.at(0).limits) {
      if (tenant::is_redis_only(limit.window)) {
        EXPECT_TRUE(limit.boundaries_s.empty());
        continue;
      }
      EXPECT_LE(limit.boundaries_s[1], now_s);
      EXPECT_GE(limit.boundaries_s.back(), result.recompile_at_s + 2 * 86'400);
      EXPECT_GE(limit.boundaries_s[limit.boundaries_s.size() - 3], result.recompile_at_s);
    }
    now_s = result.recompile_at_s;
  }
}

TEST(Compile, GraceMakesTheCapacityOfASoftCap) {
  struct Case {
    const char* cap;
    int64_t capacity;
    int64_t duration_s;
  };
  for (const Case& c : {Case{"cap: Hard", 100'005, 0}, Case{"cap: Soft", tenant::kUnbounded, 0},
                        Case{"cap: Soft, grace: {percent: 10}", 110'005, 0},
                        Case{"cap: Soft, grace: {percent: 15, duration: 1h}", 115'005, 3'600},
                        Case{"cap: Soft, grace: {duration: 24h}", tenant::kUnbounded, 86'400}}) {
    std::string yaml = replaced(read(kManifest), "amount: 100000, window: Month, cap: Hard",
                                std::string("amount: 100005, window: Month, ") + c.cap);
    yaml = replaced(yaml, "limitOverrides: [{name: calls-month, amount: 7000}]", "limitOverrides: []");
    const Compiled result = compiled(yaml);
    const auto& limit = result.tenants.at(0).limits.at(2);
    EXPECT_EQ(limit.name.str(), "calls-month");
    EXPECT_EQ(limit.amount, 100'005);
    EXPECT_EQ(limit.capacity, c.capacity) << c.cap;
    EXPECT_EQ(limit.grace_duration_s, c.duration_s) << c.cap;
  }
}

TEST(Compile, OverridesReplaceTheAmountOfTheNamedLimit) {
  const Compiled result = compiled(read(kManifest));
  EXPECT_EQ(result.tenants.at(0).limits.at(2).amount, 7'000);
  EXPECT_EQ(result.tenants.at(0).limits.at(2).capacity, 7'000);
  EXPECT_EQ(result.tenants.at(0).limits.at(0).amount, 1'000'000);
}

TEST(Compile, AnAmountHasItsSourceAndItsEstimate) {
  const Compiled result = compiled(read(kManifest));
  const auto& charge = result.policies.at(0).routes.at(0).charges.at(0);
  EXPECT_EQ(charge.unsupported_source, "");
  EXPECT_EQ(charge.from, tenant::AmountFrom::kResponseJson);
  EXPECT_EQ(charge.pointer, "/usage/total_tokens");
  EXPECT_EQ(charge.estimate, (tenant::Estimate{"/max_tokens", 1024, 16384, 0}));
  EXPECT_EQ(result.policies.at(0).streaming.on_exhausted, tenant::OnExhausted::kErrorEvent);
}

TEST(Compile, AnAmountThatCannotBeMeasuredIsNeverCharged) {
  const Compiled last = compiled(replaced(read(kManifest), "name: sms, unit: message, aggregation: Sum",
                                          "name: sms, unit: message, aggregation: Last"));
  EXPECT_EQ(last.policies.at(0).routes.at(1).charges.at(0).unsupported_source, "aggregation Last");
}

TEST(Compile, JwtStaysAsASourceSoThatABearerIsRefused) {
  const Compiled result = compiled(read(kManifest));
  const auto& identity = result.policies.at(0).identity;
  ASSERT_EQ(identity.size(), 3u);
  EXPECT_EQ(identity[1].type, tenant::IdentityType::kJwt);
  EXPECT_EQ(identity[1].header, "authorization");
}

TEST(Compile, AllowedNamespacesAreNamed) {
  const std::string yaml = read(kManifest);
  EXPECT_EQ(compiled(yaml).tenants.at(0).allowed_namespaces, std::vector<std::string>{"shop"});
  EXPECT_EQ(compiled(replaced(yaml, "{from: Same}", "{from: All}")).tenants.at(0).allowed_namespaces,
            std::vector<std::string>{"*"});
}

TEST(Compile, ADanglingOverrideAndAMissingPlanAreSkipped) {
  auto resources = resources_of(read(kManifest));
  resources.plans.begin()->second.limits.pop_back();
  const Compiled result = compile(resources, kNow).value();
  EXPECT_EQ(result.tenants.at(0).limits.size(), 2u);
  resources.plans.clear();
  EXPECT_TRUE(compile(resources, kNow).value().tenants.empty());
}

TEST(Compile, EveryDocumentIsReadableOnTheWire) {
  const Compiled result = compiled(read(kManifest));
  for (const auto& t : result.tenants) EXPECT_EQ(tenant::tenant_from_json(tenant::to_json(t)).value(), t);
  for (const auto& p : result.policies) EXPECT_EQ(tenant::policy_from_json(tenant::to_json(p)).value(), p);
}

TEST(Compile, NothingIsNothing) {
  const Compiled result = compile({}, kNow).value();
  EXPECT_TRUE(result.tenants.empty());
  EXPECT_GT(result.recompile_at_s, kNow);
}

}  // namespace
}  // namespace tallygate::plan
