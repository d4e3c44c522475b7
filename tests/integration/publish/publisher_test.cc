#include <gtest/gtest.h>

#include <cstdio>

#include "tests/integration/publish/world.h"

namespace tallygate::testing {
namespace {

using publish::add_policy;
using publish::add_tenant;

plan::Compiled two_tenants() {
  plan::Compiled compiled;
  add_tenant(compiled, "shop/acme", 100, "aa");
  add_tenant(compiled, "shop/globex", 200, "bb");
  add_policy(compiled, "shop/api");
  return compiled;
}

TEST(Publisher, PublishesEverythingAndTheLedgersTerms) {
  PublishWorld world;
  const int64_t version = world.publish(two_tenants());
  EXPECT_GT(version, 0);
  EXPECT_EQ(world.generation().size(), 16u);
  EXPECT_EQ(world.tenant_version("shop/acme"), version);
  EXPECT_EQ(world.tenant_version("shop/globex"), version);
  EXPECT_EQ(world.identity("apikey", "bb"), "shop/globex");
  EXPECT_EQ(world.call({"ZCARD", redis_contract::changes_key()}).to_integer(), 5);
  EXPECT_EQ(world.number("select count(*) from tenants where deleted_at is null"), 2);
  EXPECT_EQ(world.number("select amount from tenant_limits where tenant = 'shop/globex'"), 200);
  EXPECT_EQ(world.number("select count(*) from tenant_meters where stripe_customer_id = 'cus_acme'"), 1);
  EXPECT_EQ(world.kicked, (std::vector<std::string>{"shop/acme", "shop/globex"}));
  EXPECT_TRUE(world.publisher->status().in_sync);
}

TEST(Publisher, AnEqualSnapshotWritesNothing) {
  PublishWorld world;
  const int64_t version = world.publish(two_tenants());
  EXPECT_EQ(world.publish(two_tenants()), version);
  EXPECT_TRUE(world.kicked.empty());
  EXPECT_EQ(world.number("select version from publication"), version);
}

TEST(Publisher, ARestartWritesNothingToRedis) {
  PublishWorld world;
  const int64_t version = world.publish(two_tenants());
  const std::string generation = world.generation();
  world.restart();
  EXPECT_EQ(world.publish(two_tenants()), version);
  EXPECT_EQ(world.generation(), generation);
  EXPECT_EQ(world.tenant_version("shop/acme"), version);
}

TEST(Publisher, OneChangeTouchesOneDocument) {
  PublishWorld world;
  const int64_t first = world.publish(two_tenants());
  plan::Compiled compiled = two_tenants();
  compiled.tenants[0].limits[0].amount = compiled.tenants[0].limits[0].capacity = 7000;
  const int64_t second = world.publish(compiled);
  EXPECT_GT(second, first);
  EXPECT_EQ(world.tenant_version("shop/acme"), second);
  EXPECT_EQ(world.tenant_version("shop/globex"), first);
  EXPECT_EQ(world.score("Tshop/acme"), second);
  EXPECT_EQ(world.score("Tshop/globex"), first);
  EXPECT_EQ(world.number("select amount from tenant_limits where tenant = 'shop/acme'"), 7000);
  EXPECT_EQ(world.kicked, std::vector<std::string>{"shop/acme"});
}

TEST(Publisher, ATermThatSidecarsDoNotSeeReachesTheLedgerOnly) {
  PublishWorld world;
  const int64_t first = world.publish(two_tenants());
  plan::Compiled compiled = two_tenants();
  compiled.billing[0].stripe_customer_id = "cus_new";
  EXPECT_EQ(world.publish(compiled), first);
  EXPECT_EQ(world.number("select count(*) from tenant_meters where stripe_customer_id = 'cus_new'"), 1);
  EXPECT_EQ(world.number("select version from tenants where id = 'shop/acme'"), first);
}

// What the published document says: "" where the tenant is not suspended.
std::string suspension(PublishWorld& world, const std::string& id) {
  const auto reply = world.call({"GET", redis_contract::tenant_key(id)});
  const auto tenant = tenant::tenant_from_json(reply.text);
  if (!tenant) return "no document";
  EXPECT_EQ(tenant->suspended, !tenant->suspend_reason.empty());
  return tenant->suspend_reason;
}

TEST(Publisher, ASuspensionByTheLedgerIsPublishedAndLifted) {
  constexpr const char* kWhy = "its wallet is suspended because of a disputed payment";
  PublishWorld world;
  const int64_t first = world.publish(two_tenants());
  world.number("select 1 from add_wallet_credits('shop/acme', 'k', null, 'GBP', 100, '', now())");
  world.number("select 1 from post_dispute('shop/acme', 'd1', 'GBP', 100, true, '', now())");
  world.kicked.clear();
  world.step();
  EXPECT_EQ(suspension(world, "shop/acme"), kWhy);
  EXPECT_EQ(world.tenant_version("shop/globex"), first);
  EXPECT_EQ(world.kicked, std::vector<std::string>{"shop/acme"});
  EXPECT_EQ(world.number("select count(*) from tenants where suspended"), 0) << "the ledger's terms are the manifest's";
  const int64_t second = world.version();
  world.step();
  EXPECT_EQ(world.version(), second);

  // Another snapshot, another process and another Redis change nothing about it.
  plan::Compiled changed = two_tenants();
  changed.tenants[0].limits[0].amount = changed.tenants[0].limits[0].capacity = 7000;
  world.publish(changed);
  EXPECT_EQ(suspension(world, "shop/acme"), kWhy);
  const int64_t third = world.version();
  world.restart();
  EXPECT_EQ(world.publish(changed), third);
  EXPECT_EQ(suspension(world, "shop/acme"), kWhy);
  world.call({"FLUSHALL"});
  world.step();
  EXPECT_EQ(suspension(world, "shop/acme"), kWhy);

  world.number("select 1 from close_dispute('shop/acme', 'd1', true, now())");
  world.kicked.clear();
  world.step();
  EXPECT_EQ(suspension(world, "shop/acme"), "");
  EXPECT_EQ(world.kicked, std::vector<std::string>{"shop/acme"});

  // Beside a manifest's, whose reason it keeps.
  world.number("select 1 from post_dispute('shop/acme', 'd2', 'GBP', 100, true, '', now())");
  changed.tenants[0].suspended = true;
  changed.tenants[0].suspend_reason = "suspended by its BillingTenant";
  world.publish(changed);
  EXPECT_EQ(suspension(world, "shop/acme"), "suspended by its BillingTenant");
  world.publish(two_tenants());
  EXPECT_EQ(suspension(world, "shop/acme"), kWhy);
  world.number("select 1 from resume_wallet('shop/acme', 'GBP', 'paid', 'ops', now())");
  world.step();
  EXPECT_EQ(suspension(world, "shop/acme"), "");
}

TEST(Publisher, WhatIsRemovedGoesAndTheIndexTellsIt) {
  PublishWorld world;
  world.publish(two_tenants());
  plan::Compiled left;
  add_tenant(left, "shop/acme", 100, "aa");
  const int64_t second = world.publish(left);
  EXPECT_EQ(world.tenant_version("shop/globex"), -1);
  EXPECT_EQ(world.identity("apikey", "bb"), "");
  for (const char* name : {"Tshop/globex", "Iapikey:bb", "Pshop/api"}) EXPECT_EQ(world.score(name), second) << name;
  EXPECT_EQ(world.number("select count(*) from tenants where deleted_at is null"), 1);
  EXPECT_EQ(world.number("select count(*) from tenant_limits where tenant = 'shop/globex'"), 0);
  EXPECT_EQ(world.kicked, std::vector<std::string>{"shop/globex"});
  // And stays gone, also for a successor.
  world.restart();
  EXPECT_EQ(world.publish(left), second);
  // And may come back.
  EXPECT_GT(world.publish(two_tenants()), second);
  EXPECT_EQ(world.identity("apikey", "bb"), "shop/globex");
}

TEST(Publisher, AnEmptySnapshotIsAPublicationToo) {
  PublishWorld world;
  EXPECT_GT(world.publish({}), 0);
  EXPECT_FALSE(world.generation().empty());
}

TEST(Publisher, TenThousandTenantsAreQuick) {
  PublishWorld world;
  plan::Compiled compiled;
  for (int i = 0; i < 10'000; ++i) {
    char digits[8];
    std::snprintf(digits, sizeof digits, "%05d", i);
    add_tenant(compiled, std::string("shop/tenant-") + digits, 1000, std::string("key") + digits);
  }
  const int64_t begin_ms = system_env().mono_ms();
  const int64_t first = world.publish(compiled);
  const int64_t cold_ms = system_env().mono_ms() - begin_ms;
  compiled.tenants[5000].limits[0].amount = 1;
  const int64_t change_begin_ms = system_env().mono_ms();
  const int64_t second = world.publish(compiled);
  const int64_t change_ms = system_env().mono_ms() - change_begin_ms;
  EXPECT_GT(second, first);
  world.restart();
  const int64_t restart_begin_ms = system_env().mono_ms();
  EXPECT_EQ(world.publish(compiled), second);
  const int64_t restart_ms = system_env().mono_ms() - restart_begin_ms;
  world.call({"FLUSHALL"});
  const int64_t heal_begin_ms = system_env().mono_ms();
  world.step();
  const int64_t heal_ms = system_env().mono_ms() - heal_begin_ms;
  EXPECT_EQ(world.call({"ZCARD", redis_contract::changes_key()}).to_integer(), 20'000);
  std::printf("10,000 tenants: cold %ld ms, one change %ld ms, restart %ld ms, after a wipe %ld ms\n", cold_ms,
              change_ms, restart_ms, heal_ms);
}

}  // namespace
}  // namespace tallygate::testing
