// Loss of Redis in its forms, deaths in the middle, and readers that watch all the while.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/integration/publish/world.h"

namespace tallygate::testing {
namespace {

using publish::add_tenant;

plan::Compiled one_tenant(const std::string& id = "shop/acme") {
  plan::Compiled compiled;
  add_tenant(compiled, id, 100, "aa");
  return compiled;
}

TEST(PublisherFaults, AWipeHealsUnderANewGeneration) {
  PublishWorld world;
  const int64_t first = world.publish(one_tenant());
  const std::string generation = world.generation();
  world.call({"FLUSHALL"});
  world.step();
  EXPECT_GT(world.version(), first);
  EXPECT_NE(world.generation(), generation);
  EXPECT_EQ(world.tenant_version("shop/acme"), world.version());
  EXPECT_EQ(world.identity("apikey", "aa"), "shop/acme");
}

TEST(PublisherFaults, AWipeAndARestartTogether) {
  PublishWorld world;
  const int64_t first = world.publish(one_tenant());
  world.call({"FLUSHALL"});
  world.restart();
  EXPECT_GT(world.publish(one_tenant()), first);
  EXPECT_EQ(world.identity("apikey", "aa"), "shop/acme");
}

TEST(PublisherFaults, ALostIndexHeals) {
  PublishWorld world;
  const int64_t first = world.publish(one_tenant());
  world.call({"DEL", redis_contract::changes_key()});
  world.step();
  EXPECT_GT(world.version(), first);
  EXPECT_EQ(world.score("Tshop/acme"), world.version());
}

TEST(PublisherFaults, ALostMetaHeals) {
  PublishWorld world;
  const int64_t first = world.publish(one_tenant());
  world.call({"DEL", redis_contract::meta_key()});
  world.step();
  EXPECT_GT(world.version(), first);
}

TEST(PublisherFaults, AForeignPublicationIsReplaced) {
  PublishWorld world;
  world.publish(one_tenant());
  world.call({"HSET", redis_contract::meta_key(), "generation", "foreign", "version", "900"});
  world.call({"SET", redis_contract::tenant_key("shop/old"), "{}"});
  world.call({"ZADD", redis_contract::changes_key(), "900", "Tshop/old"});
  world.step();
  EXPECT_GT(world.version(), 900);
  EXPECT_NE(world.generation(), "foreign");
  EXPECT_EQ(world.tenant_version("shop/old"), -1);
  EXPECT_EQ(world.tenant_version("shop/acme"), world.version());
}

TEST(PublisherFaults, AStrangerInTheIndexDoesNoHarm) {
  PublishWorld world;
  world.publish(one_tenant());
  world.call({"ZADD", redis_contract::changes_key(), "1", "", "1", "X?"});
  world.step();
  const int64_t version = world.version();
  world.step();
  EXPECT_EQ(world.version(), version);
  EXPECT_EQ(world.tenant_version("shop/acme"), version);
}

// A publisher that died after it wrote a document and before it told the index.
TEST(PublisherFaults, AHalfPublicationIsDoneAgain) {
  PublishWorld world;
  const int64_t first = world.publish(one_tenant());
  plan::Compiled changed = one_tenant();
  changed.tenants[0].limits[0].amount = 7;
  world.number("select begin_publication(0, generation, now()) from publication");
  changed.tenants[0].version = first + 1;
  world.call({"SET", redis_contract::tenant_key("shop/acme"), tenant::to_json(changed.tenants[0])});
  world.restart();
  const std::string generation = world.generation();
  EXPECT_GT(world.publish(changed), first + 1);
  EXPECT_EQ(world.score("Tshop/acme"), world.version());
  EXPECT_EQ(world.generation(), generation);
}

TEST(PublisherFaults, RedisAwayThenBackNewestWins) {
  PublishWorld world;
  world.publish(one_tenant());
  world.server.kill();
  plan::Compiled older = one_tenant(), newer = one_tenant();
  older.tenants[0].limits[0].amount = 1;
  newer.tenants[0].limits[0].amount = 2;
  EXPECT_FALSE(world.offer(older));
  EXPECT_FALSE(world.offer(newer));
  EXPECT_FALSE(world.publisher->status().error.empty());
  world.server.start();
  for (int i = 0; i < 100 && !world.publisher->run_once(); ++i) system_env().sleep_ms(20);
  const auto document = tenant::tenant_from_json(world.call({"GET", redis_contract::tenant_key("shop/acme")}).text);
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ(document->limits[0].amount, 2);
  EXPECT_TRUE(world.publisher->status().error.empty());
}

TEST(PublisherFaults, TheThreadHealsByItself) {
  PublishWorld world;
  world.publisher->offer(std::make_shared<const plan::Compiled>(one_tenant()), system_env().mono_ns());
  world.publisher->start();
  const auto published = [&] { return world.identity("apikey", "aa") == "shop/acme" && world.version() > 0; };
  for (int i = 0; i < 200 && !published(); ++i) system_env().sleep_ms(10);
  EXPECT_TRUE(published());
  world.call({"FLUSHALL"});
  const int64_t begin_ms = system_env().mono_ms();
  for (int i = 0; i < 500 && !published(); ++i) system_env().sleep_ms(10);
  EXPECT_TRUE(published());
  std::printf("healed %ld ms after FLUSHALL\n", system_env().mono_ms() - begin_ms);
  world.publisher->stop();
}

// The API key moves between two tenants of which only one exists at a time. Whoever follows it must find a document.
TEST(PublisherFaults, AReaderNeverSeesAnIdentityWithoutItsDocument) {
  PublishWorld world;
  world.publish(one_tenant("shop/one"));
  std::atomic<bool> done = false;
  int64_t looked = 0, missing = 0;
  std::thread reader([&] {
    redis::Client client(system_env(), world.server.endpoint());
    const std::string key = redis_contract::identity_key("apikey", "aa");
    while (!done) {
      const auto before = client.call({"GET", key});
      const auto document = client.call({"GET", redis_contract::tenant_key(before->text)});
      const auto after = client.call({"GET", key});
      // Had it moved on in between, the reader would look again.
      if (before->text == after->text && document->is_nil()) ++missing;
      ++looked;
    }
  });
  for (int i = 0; i < 100; ++i) world.publish(one_tenant(i % 2 == 0 ? "shop/two" : "shop/one"));
  done = true;
  reader.join();
  EXPECT_EQ(missing, 0);
  EXPECT_GT(looked, 100);
}

// Whoever hears of a version finds its changes in the index, and never an older document than that: each publication
// here adds or removes the one tenant.
TEST(PublisherFaults, AReaderOfTheIndexMissesNothing) {
  PublishWorld world;
  world.publish({});
  std::atomic<bool> done = false;
  int64_t missed = 0, stale = 0, seen = 0;
  std::thread reader([&] {
    redis::Client client(system_env(), world.server.endpoint());
    int64_t last = 0;
    while (!done) {
      const int64_t version = client.call({"HGET", redis_contract::meta_key(), "version"})->to_integer();
      if (version == last || version < 2) continue;
      last = version;
      ++seen;
      const auto score = client.call({"ZSCORE", redis_contract::changes_key(), "Tshop/acme"});
      if (score->to_integer() < version) ++missed;
      const auto document = client.call({"GET", redis_contract::tenant_key("shop/acme")});
      if (!document->is_nil() && tenant::tenant_from_json(document->text)->version < version) ++stale;
    }
  });
  for (int i = 0; i < 50; ++i) world.publish(i % 2 == 0 ? one_tenant() : plan::Compiled{});
  done = true;
  reader.join();
  EXPECT_EQ(missed, 0);
  EXPECT_EQ(stale, 0);
  EXPECT_GT(seen, 0);
}

plan::Compiled with_amount(int64_t amount) {
  plan::Compiled compiled;
  add_tenant(compiled, "shop/acme", amount, "aa");
  return compiled;
}

TEST(PublisherFaults, WhoSleptThroughItsSuccessorsWorkOverwritesNothing) {
  PublishWorld world;  // its publisher believes all the time that it leads
  world.publish(with_amount(100));
  metrics::Registry registry;
  publish::PublisherOptions options;
  options.database_url = world.url;
  options.redis = world.server.endpoint();
  publish::Publisher successor(system_env(), options, registry);
  successor.offer(std::make_shared<const plan::Compiled>(with_amount(200)), 0);
  ASSERT_TRUE(successor.run_once());
  const auto amount = [&] { return world.number("select amount from tenant_limits where tenant = 'shop/acme'"); };
  const auto document = [&] { return world.call({"GET", redis_contract::tenant_key("shop/acme")}).text; };
  const std::string published = document();
  ASSERT_EQ(amount(), 200);

  const auto late = world.offer(with_amount(150));
  ASSERT_FALSE(late) << "it published over its successor";
  EXPECT_EQ(late.error().errc, Errc::kConflict);
  EXPECT_EQ(amount(), 200);
  EXPECT_EQ(document(), published);
  ASSERT_TRUE(successor.run_once());
  EXPECT_EQ(document(), published);

  world.step();  // should it lead after all, it begins anew
  EXPECT_EQ(amount(), 150);
  EXPECT_FALSE(successor.run_once() && amount() == 200) << "and its predecessor is the late one";
}

}  // namespace
}  // namespace tallygate::testing
