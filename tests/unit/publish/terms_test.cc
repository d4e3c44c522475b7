#include <gtest/gtest.h>

#include <functional>

#include "operator/publish/ledger_publication.h"
#include "tests/unit/publish/sample.h"

namespace tallygate::publish {
namespace {

plan::Compiled one_tenant() {
  plan::Compiled compiled;
  add_tenant(compiled, "shop/acme");
  return compiled;
}

TEST(Terms, RecordHasPricesCustomerAndWallet) {
  plan::Compiled compiled = one_tenant();
  compiled.billing[0].wallet = plan::WalletTerms{"GBP", 5'000'000};
  const ledger::TenantRecord record = record_of(compiled.tenants[0], compiled.billing[0], 7);
  EXPECT_EQ(record.tenant.version, 7);
  ASSERT_EQ(record.meters.size(), 1u);
  EXPECT_EQ(record.meters[0].stripe_customer_id, "cus_acme");
  EXPECT_EQ(record.meters[0].per_units, 1000);
  ASSERT_EQ(record.meters[0].tiers.size(), 2u);
  EXPECT_EQ(record.meters[0].tiers[0].up_to, 1000);
  EXPECT_EQ(record.meters[0].tiers[1].up_to, tenant::kUnbounded);
  EXPECT_EQ(record.meters[0].tiers[1].price_micros, 400'000);
  ASSERT_TRUE(record.wallet.has_value());
  EXPECT_EQ(record.wallet->debt_limit_micros, 5'000'000);
}

TEST(Terms, EveryTermIsPartOfTheFingerprint) {
  using Change = std::function<void(plan::Compiled&)>;
  const std::vector<std::pair<const char*, Change>> changes{
      {"limit", [](auto& c) { c.tenants[0].limits[0].amount++; }},
      {"capacity", [](auto& c) { c.tenants[0].limits[0].capacity++; }},
      {"suspended", [](auto& c) { c.tenants[0].suspended = true; }},
      {"customer", [](auto& c) { c.billing[0].stripe_customer_id = "cus_other"; }},
      {"currency", [](auto& c) { c.billing[0].currency = "USD"; }},
      {"settlement", [](auto& c) { c.billing[0].meters[0].settlement = tenant::Settlement::kWallet; }},
      {"per units", [](auto& c) { c.billing[0].meters[0].prices.per_units = 1; }},
      {"price", [](auto& c) { c.billing[0].meters[0].prices.tiers[1].price++; }},
      {"tier", [](auto& c) { c.billing[0].meters[0].prices.tiers[0].up_to = 1001; }},
      {"meter", [](auto& c) { c.billing[0].meters.clear(); }},
      {"wallet", [](auto& c) { c.billing[0].wallet = plan::WalletTerms{"GBP", 0}; }},
  };
  const plan::Compiled before = one_tenant();
  const Fingerprint old = terms_fingerprint(before.tenants[0], before.billing[0]);
  for (const auto& [name, change] : changes) {
    plan::Compiled after = before;
    change(after);
    EXPECT_NE(terms_fingerprint(after.tenants[0], after.billing[0]), old) << name;
  }
  plan::Compiled versioned = before;
  versioned.tenants[0].version = 12;
  EXPECT_EQ(terms_fingerprint(versioned.tenants[0], versioned.billing[0]), old);
}

}  // namespace
}  // namespace tallygate::publish
