#include "operator/publish/documents.h"

#include <gtest/gtest.h>

#include "core/redis_contract/keys.h"
#include "core/tenant/wire.h"
#include "core/api_key.h"
#include "tests/unit/publish/sample.h"

namespace tallygate::publish {
namespace {

using Names = std::vector<std::string>;

Holding holding_of(const Desired& desired) {
  Holding held;
  for (const auto& [name, entry] : desired) held[name] = {Held::State::kPresent, entry.content, 1};
  return held;
}

plan::Compiled two_tenants() {
  plan::Compiled compiled;
  add_tenant(compiled, "shop/acme", 100, "aa");
  add_tenant(compiled, "shop/globex", 200, "bb");
  add_policy(compiled, "shop/api");
  return compiled;
}

TEST(Documents, NamesAndKeys) {
  const Desired desired = desired_of(two_tenants());
  EXPECT_EQ(desired.size(), 5u);
  EXPECT_TRUE(desired.contains("Tshop/acme"));
  EXPECT_TRUE(desired.contains("Pshop/api"));
  EXPECT_TRUE(desired.contains("Iapikey:aa"));
  EXPECT_EQ(key_of("Tshop/acme"), redis_contract::tenant_key("shop/acme"));
  EXPECT_EQ(key_of("Pshop/api"), redis_contract::policy_key("shop/api"));
  EXPECT_EQ(key_of("Iapikey:aa"), redis_contract::identity_key("apikey", "aa"));
  EXPECT_EQ(key_of("Iexternal:a:b:c"), redis_contract::identity_key("external", "a:b:c"));
}

TEST(Documents, ValuesCarryTheVersionAndComeBackTheSame) {
  const plan::Compiled compiled = two_tenants();
  for (const auto& [name, entry] : desired_of(compiled)) {
    const std::string value = value_of(compiled, entry, 42);
    const Held held = held_of_value(name, value);
    EXPECT_EQ(held.state, Held::State::kPresent) << name;
    EXPECT_EQ(held.content, entry.content) << name;
    EXPECT_EQ(held.version, name[0] == 'I' ? 0 : 42) << name;
  }
  EXPECT_EQ(tenant::tenant_from_json(value_of(compiled, {Entry::Kind::kTenant, 0, {}}, 42))->version, 42);
  EXPECT_EQ(value_of(compiled, {Entry::Kind::kIdentity, 1, {}}, 42), "shop/globex");
}

TEST(Documents, AKeysNameTellsNothingWithoutThePepper) {
  auto compiled = std::make_shared<plan::Compiled>();
  add_tenant(*compiled, "shop/acme", 100, std::string(64, 'a'));
  compiled->identities.push_back({"external", "ext-acme", compiled->tenants[0].id});
  EXPECT_EQ(with_pepper(compiled, "", true), compiled);
  const std::string pepper(32, 'p'), hash = peppered_hash(pepper, std::string(64, 'a'));
  EXPECT_EQ(hash.size(), 64u);
  EXPECT_NE(hash, peppered_hash(std::string(32, 'q'), std::string(64, 'a')));
  const auto names = [&](bool keep_plain) {
    std::vector<std::string> out;
    for (const auto& [name, entry] : desired_of(*with_pepper(compiled, pepper, keep_plain))) out.push_back(name);
    return out;
  };
  EXPECT_EQ(names(true), (std::vector<std::string>{"Iapikey:" + std::string(64, 'a'), "Iexternal:ext-acme",
                                                   "Ipepperedkey:" + hash, "Tshop/acme"}));
  EXPECT_EQ(names(false), (std::vector<std::string>{"Iexternal:ext-acme", "Ipepperedkey:" + hash, "Tshop/acme"}));
}

TEST(Documents, WhatCannotBeReadIsUnknown) {
  EXPECT_EQ(held_of_value("Tshop/acme", "not json").state, Held::State::kUnknown);
  EXPECT_EQ(held_of_value("Pshop/api", "{}").state, Held::State::kUnknown);
}

TEST(Difference, NothingWhereNothingChanged) {
  const Desired desired = desired_of(two_tenants());
  EXPECT_TRUE(difference(holding_of(desired), desired).empty());
}

TEST(Difference, EverythingIntoAnEmptyRedisDocumentsFirst) {
  const Changes changes = difference({}, desired_of(two_tenants()));
  EXPECT_EQ(changes.written, (Names{"Pshop/api", "Tshop/acme", "Tshop/globex", "Iapikey:aa", "Iapikey:bb"}));
  EXPECT_TRUE(changes.removed.empty());
}

TEST(Difference, OnlyTheTenantThatChanged) {
  plan::Compiled compiled = two_tenants();
  const Holding held = holding_of(desired_of(compiled));
  compiled.tenants[1].limits[0].amount = 201;
  EXPECT_EQ(difference(held, desired_of(compiled)).written, Names{"Tshop/globex"});
}

TEST(Difference, AVersionAloneIsNoChange) {
  plan::Compiled compiled = two_tenants();
  const Holding held = holding_of(desired_of(compiled));
  compiled.tenants[0].version = 9;
  compiled.policies[0].version = 9;
  EXPECT_TRUE(difference(held, desired_of(compiled)).empty());
}

TEST(Difference, RemovalsComeIdentitiesFirst) {
  const Holding held = holding_of(desired_of(two_tenants()));
  plan::Compiled left;
  add_tenant(left, "shop/acme", 100, "aa");
  const Changes changes = difference(held, desired_of(left));
  EXPECT_TRUE(changes.written.empty());
  EXPECT_EQ(changes.removed, (Names{"Iapikey:bb", "Pshop/api", "Tshop/globex"}));
}

TEST(Difference, AnIdentityThatMovesIsWrittenNotRemoved) {
  plan::Compiled compiled = two_tenants();
  const Holding held = holding_of(desired_of(compiled));
  compiled.identities[0].tenant = compiled.tenants[1].id;
  const Changes changes = difference(held, desired_of(compiled));
  EXPECT_EQ(changes.written, Names{"Iapikey:aa"});
  EXPECT_TRUE(changes.removed.empty());
}

TEST(Difference, RemovedStaysRemovedAndComesBack) {
  const Desired all = desired_of(two_tenants());
  Holding held = holding_of(all);
  held["Tshop/globex"].state = Held::State::kRemoved;
  EXPECT_EQ(difference(held, all).written, Names{"Tshop/globex"});
  plan::Compiled left = two_tenants();
  left.tenants.pop_back();
  EXPECT_TRUE(difference(held, desired_of(left)).empty());
}

TEST(Difference, TheUnknownIsWrittenOrRemovedAnew) {
  const Desired all = desired_of(two_tenants());
  Holding held = holding_of(all);
  held["Tshop/acme"].state = Held::State::kUnknown;
  held["Tshop/old"].state = Held::State::kUnknown;
  const Changes changes = difference(held, all);
  EXPECT_EQ(changes.written, Names{"Tshop/acme"});
  EXPECT_EQ(changes.removed, Names{"Tshop/old"});
}

}  // namespace
}  // namespace tallygate::publish
