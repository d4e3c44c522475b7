#include "core/ids.h"

#include <gtest/gtest.h>

#include <unordered_set>

namespace tallygate {
namespace {

TEST(Ids, TenantsAreNamespaceAndName) {
  EXPECT_EQ(TenantId::parse("shop/acme").value().str(), "shop/acme");
  EXPECT_TRUE(TenantId::parse("shop/acme.eu-1"));
  for (const char* bad : {"", "acme", "/", "shop/", "/acme", "shop/a/b", "Shop/acme", "shop/acme_1", "a.b/acme",
                          "shop/-a", "shop/a..b", "shop/a ", "shop/a\n"}) {
    EXPECT_FALSE(TenantId::parse(bad)) << bad;
    EXPECT_FALSE(PolicyId::parse(bad)) << bad;
  }
}

TEST(Ids, LengthsAreBounded) {
  EXPECT_TRUE(is_dns_label(std::string(63, 'a')));
  EXPECT_FALSE(is_dns_label(std::string(64, 'a')));
  const std::string label(63, 'a');
  EXPECT_TRUE(is_dns_subdomain(label + "." + label + "." + label + "." + std::string(61, 'a')));
  EXPECT_FALSE(is_dns_subdomain(label + "." + label + "." + label + "." + std::string(62, 'a')));
  EXPECT_TRUE(is_meter_name(std::string(63, 'a')));
  EXPECT_FALSE(is_meter_name(std::string(64, 'a')));
}

TEST(Ids, MetersPlansAndLimits) {
  EXPECT_TRUE(MeterName::parse("api_calls2"));
  for (const char* bad : {"", "2calls", "_a", "api-calls", "API", "a b"}) EXPECT_FALSE(MeterName::parse(bad)) << bad;
  EXPECT_TRUE(PlanName::parse("standard-v1.2"));
  EXPECT_FALSE(PlanName::parse("Standard"));
  EXPECT_TRUE(LimitName::parse("calls-month"));
  EXPECT_FALSE(LimitName::parse("calls.month"));
}

TEST(Ids, AnErrorShowsTheTextAndTheFormButNotAMegabyte) {
  const auto error = MeterName::parse(std::string(1'000'000, 'X')).error();
  EXPECT_EQ(error.errc, Errc::kInvalid);
  EXPECT_LT(error.message.size(), 300u);
  EXPECT_NE(error.message.find("meter name"), std::string::npos);
}

TEST(Ids, AreValuesForMapsAndSets) {
  std::unordered_set<TenantId> set{TenantId::parse("a/x").value(), TenantId::parse("a/y").value()};
  EXPECT_TRUE(set.contains(TenantId::parse("a/x").value()));
  EXPECT_LT(TenantId::parse("a/x").value(), TenantId::parse("a/y").value());
  EXPECT_TRUE(TenantId{}.empty());
  EXPECT_EQ(namespace_of("shop/acme"), "shop");
}

}  // namespace
}  // namespace tallygate
