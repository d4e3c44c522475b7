// What is published is signed, by a key that the ledger keeps or a file has, and signed anew where it must be.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/integration/publish/world.h"

namespace tallygate::testing {
namespace {

using publish::add_policy;
using publish::add_tenant;

const std::vector<std::string> kNames = {"Tshop/acme", "Tshop/globex", "Pshop/api", "Iapikey:aa", "Iapikey:bb"};

plan::Compiled two_tenants() {
  plan::Compiled compiled;
  add_tenant(compiled, "shop/acme", 100, "aa");
  add_tenant(compiled, "shop/globex", 200, "bb");
  add_policy(compiled, "shop/api");
  return compiled;
}

std::string current_key(PublishWorld& world) {
  const auto rows = world.session.exec("select id from publication_keys where state = 'current'");
  return std::string(rows.value().text(0, 0));
}

void expect_all_signed_by(PublishWorld& world, const std::string& key) {
  for (const std::string& name : kNames) EXPECT_EQ(world.signed_by(name), key) << name;
  EXPECT_TRUE(world.head_is_signed_by(key));
}

TEST(SignedPublishing, EverythingIsSignedByTheLedgersKey) {
  PublishWorld world;
  world.publish(two_tenants());
  const std::string key = current_key(world);
  expect_all_signed_by(world, key);
  const int64_t version = world.version();
  world.restart();
  EXPECT_EQ(world.publish(two_tenants()), version) << "a restart finds it as it must be";
  EXPECT_EQ(current_key(world), key);
  EXPECT_EQ(world.number("select count(*) from publication_keys"), 1);
  // What is removed leaves no signature.
  plan::Compiled one;
  add_tenant(one, "shop/acme", 100, "aa");
  world.publish(one);
  const std::string gone = redis_contract::signature_key(redis_contract::identity_key("apikey", "bb"));
  EXPECT_EQ(world.call({"EXISTS", gone}).to_integer(), 0);
}

// An operator of before wrote it, or somebody else did.
TEST(SignedPublishing, WhatIsNotSignedIsPublishedAnew) {
  PublishWorld world;
  const int64_t first = world.publish(two_tenants());
  const auto beside = [](const std::string& name) { return redis_contract::signature_key(publish::key_of(name)); };
  for (const std::string& name : kNames) world.call({"DEL", beside(name)});
  world.call({"HDEL", redis_contract::meta_key(), "sig"});
  world.restart();
  EXPECT_GT(world.publish(two_tenants()), first);
  expect_all_signed_by(world, current_key(world));
  // One of them alone.
  world.call({"SET", publish::key_of("Iapikey:bb"), "shop/acme"});
  world.restart();
  const int64_t second = world.version();
  EXPECT_GT(world.publish(two_tenants()), second);
  EXPECT_EQ(world.identity("apikey", "bb"), "shop/globex");
  expect_all_signed_by(world, current_key(world));
  // The head, while the publisher runs.
  world.call({"HSET", redis_contract::meta_key(), "sig", "1"});
  world.step();
  expect_all_signed_by(world, current_key(world));
}

TEST(SignedPublishing, NobodysVersionIsNotCountedOnFrom) {
  PublishWorld world;
  const int64_t first = world.publish(two_tenants());
  world.call({"HSET", redis_contract::meta_key(), "version", "9000000000000000"});
  world.step();
  EXPECT_GT(world.version(), first);
  EXPECT_LT(world.version(), 1'000'000);
  expect_all_signed_by(world, current_key(world));
}

TEST(SignedPublishing, AKeyTakesAnothersPlace) {
  PublishWorld world;
  world.publish(two_tenants());
  const std::string old = current_key(world);
  EXPECT_EQ(publish::rotate_key(world.session, "ops").value(), "") << "nothing is prepared";
  const std::string next = publish::prepare_key(system_env(), world.session, "ops").value();
  EXPECT_EQ(publish::prepare_key(system_env(), world.session, "ops").value(), "") << "one at a time";
  publish::PublicationKeys keys(system_env(), world.url, "");
  EXPECT_EQ(redis_contract::TrustedKeys::from_pem(keys.load()->public_pem())->ids().size(), 2 * 16 + 2u);
  world.step();
  expect_all_signed_by(world, old);
  EXPECT_EQ(publish::rotate_key(world.session, "ops").value(), next);
  world.step();
  expect_all_signed_by(world, next);
  EXPECT_EQ(world.number("select count(*) from publication_keys where seed is null and id = '" + old + "'"), 1)
      << "what has signed can sign no more";
  EXPECT_EQ(publish::retire_keys(world.session, "ops").value(), 1);
  EXPECT_EQ(redis_contract::TrustedKeys::from_pem(keys.load()->public_pem())->ids(), next);
  EXPECT_EQ(world.number("select count(*) from audit_log where action like 'publication.key%' and actor = 'ops'"), 3);
}

TEST(SignedPublishing, AFilesKey) {
  PublishWorld world;
  world.key_file = (std::filesystem::temp_directory_path() / ("tg-key-" + system_env().random_hex(8))).string();
  std::ofstream(world.key_file) << "-----BEGIN PRIVATE KEY-----\n"
                                   "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                                   "-----END PRIVATE KEY-----\n";
  world.restart();
  world.publish(two_tenants());
  expect_all_signed_by(world, publish::keys_of_file(world.key_file)->signer.public_key().id());
  EXPECT_EQ(world.number("select count(*) from publication_keys"), 0);
  std::filesystem::remove(world.key_file);  // for a moment, while it is replaced
  plan::Compiled compiled = two_tenants();
  compiled.tenants[0].limits[0].amount = 7;
  EXPECT_TRUE(world.offer(compiled)) << "the key that is known goes on";
}

// No role but the loops' own reads the private half.
TEST(SignedPublishing, ThePrivateHalfIsTheOwnersAlone) {
  PublishWorld world;
  world.publish(two_tenants());
  for (const std::string role : {"tallygate_api", "tallygate_admin"}) {
    const auto done = world.session.transact([&](ledger::Transaction& t) -> Result<void> {
      auto set = t.exec("set local role " + role);
      if (!set) return tl::unexpected(set.error());
      auto read = t.exec("select seed from publication_keys");
      if (!read) return tl::unexpected(read.error());
      return {};
    });
    ASSERT_FALSE(done) << role;
    EXPECT_NE(done.error().message.find("permission denied"), std::string::npos) << done.error().message;
  }
}

}  // namespace
}  // namespace tallygate::testing
