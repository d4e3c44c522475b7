// What can be done in a real Redis with the credential of one namespace: its sidecars' work, and what somebody who stole
// it would try.
#include <gtest/gtest.h>

#include "operator/credentials/acl.h"
#include "operator/credentials/redis_users.h"
#include "tests/integration/redis/scratch_redis.h"

namespace tallygate::testing {
namespace {

namespace rc = redis_contract;
using credentials::acl_rules;
using credentials::acl_user;
using credentials::RedisUsers;

const std::string kDay = "day@" + std::to_string(system_env().wall_s() - 3600) + "+86400";
const std::string kMinute = "minute@" + std::to_string(system_env().wall_s() / 60 * 60) + "+60";

// A name whose shard is that of `like`: what two tenants share is shared by these.
std::string neighbour_of(const std::string& like, const std::string& name_space) {
  for (int i = 0;; ++i) {
    std::string name = name_space + "/t" + std::to_string(i);
    if (rc::shard_of(name) == rc::shard_of(like)) return name;
  }
}

class Acl : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(RedisUsers(system_env(), server_.endpoint())
                    .ensure({{acl_user("shop"), acl_rules("shop", {lent_}, {"secret"})}}));
    for (Scripts* each : {&ours_, &lent_scripts_}) {
      ASSERT_EQ(each->open(1), 1);
      each->enrol(1, {"a"});
    }
    for (Scripts* each : {&ours_, &theirs_, &lent_scripts_}) {
      each->fund(1, kDay, {0, 1000, 500, 7, "", 100});
    }
  }
  redis::Endpoint as_shop(const std::string& password = "secret") {
    redis::Endpoint endpoint = server_.endpoint();
    endpoint.user = acl_user("shop");
    endpoint.password = password;
    return endpoint;
  }
  // Whether Redis forbids it, and not for another reason.
  ::testing::AssertionResult forbidden(const redis::Command& command) {
    const auto reply = shop_.call(command);
    if (!reply) return ::testing::AssertionFailure() << reply.error().message;
    for (const char* said : {"NOPERM", "The user executing the script can't", "can't access at least one of the keys",
                             "command not allowed"}) {
      if (reply->is_error() && reply->text.find(said) != std::string::npos) return ::testing::AssertionSuccess();
    }
    return ::testing::AssertionFailure() << command[0] << " was answered: " << reply->text << " " << reply->integer;
  }

  const std::string lent_ = "partner/lent";
  ScratchRedis server_;
  redis::Client admin_{system_env(), server_.endpoint()};
  redis::Client shop_{system_env(), as_shop()};
  // The first two in one shard.
  Scripts ours_{admin_, "shop/acme"}, theirs_{admin_, neighbour_of("shop/acme", "other")}, lent_scripts_{admin_, lent_};
};

TEST_F(Acl, ASidecarDoesItsWork) {
  Scripts own(shop_, "shop/acme");
  EXPECT_EQ(own.lease(1, "a", {{kDay, 1, 100}}).status, "GRANT");
  EXPECT_EQ(own.lease(1, "a", {{kDay, 0, 0, 40, 0, 60}}).status, "GRANT");
  EXPECT_EQ(own.lease(1, "a", {{kMinute, 1, 5, 0, 10}}).status, "GRANT") << "a window that lives in Redis alone";
  EXPECT_EQ(own.lease(1, "a", {}).status, "GRANT") << "the heartbeat";
  EXPECT_EQ(own.lease(1, "a", {{kDay, 5000, 5000}}).status, "WAIT") << "asks for funding, on the channel";
  EXPECT_TRUE(redis::Client::check(shop_.call({"XADD", rc::usage_key(own.shard()), "*", "r", "record"})));
  EXPECT_TRUE(redis::Client::check(shop_.call({"HGET", rc::watermark_key(own.shard()), "a"})));
  for (const redis::Command& command :
       {redis::Command{"HMGET", rc::meta_key(), "generation", "version"},
        {"ZRANGEBYSCORE", rc::changes_key(), "(0", "+inf"},
        {"GET", rc::policy_key("shop/api")},
        {"GET", rc::identity_key("key", "hash")},
        {"GET", rc::tenant_key("shop/acme")},
        {"MGET", rc::policy_key("shop/api"), rc::signature_key(rc::policy_key("shop/api"))},
        {"MGET", rc::identity_key("key", "hash"), rc::signature_key(rc::identity_key("key", "hash"))},
        {"MGET", rc::tenant_key("shop/acme"), rc::signature_key(rc::tenant_key("shop/acme"))},
        {"HGET", rc::ledger_key(own.shard()), "gen"},
        {"HSET", rc::claims_key(own.shard()), "l:a", "1"},
        {"EXPIRE", rc::claims_key(own.shard()), "3600"}}) {
    EXPECT_TRUE(redis::Client::check(shop_.call(command))) << command[0];
  }
  own.close(1, "a");
  EXPECT_EQ(own.give_back(1, "a", {{kDay, 10}}).type, redis::Reply::Type::kInteger);
}

TEST_F(Acl, ATenantOfAnotherNamespaceIsReachedWhereItIsLent) {
  Scripts lent(shop_, lent_);
  EXPECT_EQ(lent.lease(1, "a", {{kDay, 1, 100}}).status, "GRANT");
  EXPECT_TRUE(redis::Client::check(shop_.call({"GET", rc::tenant_key(lent_)})));
  EXPECT_TRUE(redis::Client::check(shop_.call({"GET", rc::signature_key(rc::tenant_key(lent_))})));
  EXPECT_TRUE(forbidden({"GET", rc::tenant_key("partner/lent2")})) << "not one whose name begins alike";
  EXPECT_TRUE(forbidden({"HGET", rc::bucket_key(rc::shard_of(lent_), 1, "partner/lent2", kDay), "free"}));
}

TEST_F(Acl, WhoStoleItGetsNoFurther) {
  const std::string bucket = theirs_.key(kDay, 1);
  const int shard = theirs_.shard();
  const std::string before = admin_.call({"HGET", bucket, "free"})->text;
  const redis::Command attempts[] = {
      {"HGET", bucket, "free"},
      {"HSET", bucket, "free", "0"},
      {"HGETALL", bucket},
      {"DEL", bucket},
      {"DEL", ours_.key(kDay, 1)},
      {"GET", rc::tenant_key("other/t")},
      {"GET", rc::policy_key("other/api")},
      {"GET", rc::signature_key(rc::tenant_key("other/t"))},
      {"SET", rc::policy_key("shop/api"), "{}"},
      {"SET", rc::signature_key(rc::policy_key("shop/api")), "1"},
      {"SET", rc::identity_key("key", "mine"), "shop/acme"},
      {"HSET", rc::meta_key(), "version", "99"},
      {"ZADD", rc::changes_key(), "99", "Tother/t"},
      {"HSET", rc::epoch_key(shard), "n", "99"},
      {"HSET", rc::watermark_key(shard), "a", "99"},
      {"SADD", rc::registered_key(shard, 1), "forged"},
      {"XRANGE", rc::usage_key(shard), "-", "+"},
      {"XREAD", "STREAMS", rc::usage_key(shard), "0"},
      {"XDEL", rc::usage_key(shard), "1-1"},
      {"XTRIM", rc::usage_key(shard), "MAXLEN", "0"},
      {"DEL", rc::usage_key(shard)},
      {"KEYS", "*"},
      {"SCAN", "0"},
      {"FLUSHALL"},
      {"CONFIG", "GET", "*"},
      {"ACL", "LIST"},
      {"ACL", "SETUSER", acl_user("shop"), "allkeys"},
      {"CLIENT", "LIST"},
      {"CLIENT", "KILL", "TYPE", "normal"},
      {"MONITOR"},
      {"SCRIPT", "FLUSH"},
      {"FUNCTION", "LIST"},
      {"SUBSCRIBE", "tg:secret"},
      {"PSUBSCRIBE", "*"},
      {"PUBLISH", "elsewhere", "x"},
      {"REPLICAOF", "127.0.0.1", "1"},
      {"DEBUG", "SLEEP", "1"},
      {"SHUTDOWN", "NOSAVE"},
      {"EVAL", "return redis.call('HSET', KEYS[1], 'free', 0)", "1", bucket},
      {"EVAL", "return redis.call('HGET', KEYS[1], 'free')", "1", bucket},
      {"EVAL", "return redis.call('SADD', KEYS[1], 'forged')", "1", rc::registered_key(shard, 1)},
      {"EVAL", "return redis.call('HSET', KEYS[1], 'n', 9)", "1", rc::epoch_key(shard)},
      {"EVAL", "return redis.call('GET', 'tg:{pub}:policy:other/api')", "0"},
      {"EVAL", "return redis.call('FLUSHALL')", "0"},
  };
  for (const auto& command : attempts) {
    EXPECT_TRUE(forbidden(command)) << command[0] << " " << (command.size() > 1 ? command[1] : "");
  }
  // The script as it is, against another namespace's bucket in the same shard.
  const auto lease = Scripts(shop_, neighbour_of("shop/acme", "other")).try_lease(1, "a", {{kDay, 1, 100}});
  EXPECT_TRUE(!lease || lease->is_error());
  EXPECT_EQ(admin_.call({"HGET", bucket, "free"})->text, before);
  EXPECT_EQ(theirs_.lease(1, "a", {{kDay, 1, 100}}).status, "GRANT") << "who may still can";
}

TEST_F(Acl, WithoutThePasswordNothingIsAnswered) {
  redis::Client guess(system_env(), as_shop("guess"));
  EXPECT_FALSE(redis::Client::check(guess.call({"PING"})));
}

TEST_F(Acl, UsersAreMadeAgainAfterARestartAndKeptOnReplicas) {
  ScratchRedis replica({"--replicaof", "127.0.0.1 " + std::to_string(server_.port())});
  redis::Client there(system_env(), replica.endpoint());
  for (int i = 0; i < 500 && there.call({"ROLE"})->elements.at(3).text != "connected"; ++i) system_env().sleep_ms(20);
  RedisUsers users(system_env(), server_.endpoint());
  const std::map<std::string, RedisUsers::Rules> wanted = {{acl_user("shop"), acl_rules("shop", {}, {"secret"})},
                                                           {acl_user("web"), acl_rules("web", {}, {"other"})}};
  ASSERT_TRUE(users.ensure(wanted));
  const auto names = [](redis::Client& client) { return client.call({"ACL", "USERS"})->elements.size(); };
  EXPECT_EQ(names(there), 3u);
  redis::Endpoint on_replica = replica.endpoint();
  on_replica.user = acl_user("web");
  on_replica.password = "other";
  EXPECT_TRUE(redis::Client::check(redis::Client(system_env(), on_replica).call({"PING"})));
  replica.kill();
  replica.start();
  for (int i = 0; i < 500 && there.call({"ROLE"})->elements.at(3).text != "connected"; ++i) system_env().sleep_ms(20);
  ASSERT_TRUE(users.ensure(wanted));
  EXPECT_EQ(names(there), 3u);
  server_.kill();
  server_.start();
  ASSERT_TRUE(users.ensure(wanted));
  EXPECT_EQ(names(admin_), 3u);
  ASSERT_TRUE(admin_.call({"ACL", "DELUSER", acl_user("web")}));
  ASSERT_TRUE(users.ensure(wanted));
  EXPECT_EQ(names(admin_), 3u) << "somebody removed one";
  ASSERT_TRUE(admin_.call({"ACL", "SETUSER", "operator-of-somebody-else", "on"}));
  ASSERT_TRUE(users.ensure({}, {acl_user("web")}));
  EXPECT_EQ(names(admin_), 3u) << "shop's is gone; another's, and one that is to be left alone, stay";
}

}  // namespace
}  // namespace tallygate::testing
