#include "core/redis_contract/bucket_id.h"

#include "core/redis_contract/keys.h"

namespace tallygate::redis_contract {
namespace {

TEST(BucketId, RoundTrip) {
  for (const BucketId& id :
       {BucketId{"requests-day", false, 1'700'000'000, 86'400}, BucketId{"a", false, 0, 1},
        BucketId{std::string(63, 'x'), false, 253'402'300'799, 253'402'300'799}, BucketId{"gpu_seconds", true, 0, 0}}) {
    const auto back = BucketId::parse(id.str());
    ASSERT_TRUE(back.has_value()) << id.str();
    EXPECT_EQ(*back, id);
  }
}

// One account, one spelling: two would be two buckets in Redis for one account of the ledger.
TEST(BucketId, RefusesWhatStrWouldNotWrite) {
  for (const char* text : {"",
                           "$",
                           "@",
                           "@+",
                           "limit",
                           "limit@",
                           "limit@1",
                           "limit@1+",
                           "limit@+60",
                           "@1+60",
                           "limit@1+0",
                           "limit@-1+60",
                           "limit@1+-60",
                           "limit@01+60",
                           "limit@1+060",
                           "limit@-0+60",
                           "limit@ 1+60",
                           "limit@1+60 ",
                           "limit@1+60+60",
                           "limit@1@1+60",
                           "limit@1.5+60",
                           "limit@0x1+60",
                           "Limit@1+60",
                           "-limit@1+60",
                           "limit-@1+60",
                           "lim_it@1+60",
                           "limit@9223372036854775808+1",
                           "limit@9223372036854775807+1",
                           "limit@1+9223372036854775807",
                           "Units$",
                           "un-its$",
                           "9units$",
                           "units$$",
                           "units$ ",
                           "limit@1+60,limit@1+60",
                           "limit@1+60=5",
                           "limit@1+60\t",
                           "ns/t|limit@1+60"}) {
    EXPECT_FALSE(BucketId::parse(text).has_value()) << text;
  }
}

TEST(BucketId, WindowsShorterThanAnHourLiveInRedisAlone) {
  EXPECT_TRUE(BucketId::parse("l@0+3599")->redis_only());
  EXPECT_FALSE(BucketId::parse("l@0+3600")->redis_only());
  EXPECT_FALSE(BucketId::parse("units$")->redis_only());
}

TEST(Keys, AllOfATenantShareOneHashTag) {
  for (const char* tenant : {"shop/acme", "a/b", "ns/a-very-long-name"}) {
    const int shard = shard_of(tenant);
    ASSERT_GE(shard, 0);
    ASSERT_LT(shard, kShards);
    const auto tag = [](const std::string& key) {
      return key.substr(key.find('{'), key.find('}') - key.find('{') + 1);
    };
    const std::string wanted = tag(shard_prefix(shard));
    for (const std::string& key :
         {epoch_key(shard), usage_key(shard), watermark_key(shard), heard_key(shard), tenant_key(tenant),
          registered_key(shard, 7), closed_key(shard, 7), want_key(shard, 7), held_key(shard, 7, "inc"),
          bucket_key(shard, 7, tenant, "l@0+60")}) {
      EXPECT_EQ(tag(key), wanted) << key;
    }
  }
  // FNV-1a, written down: a change would part the sidecars of one version from those of the next.
  EXPECT_EQ(shard_of("shop/acme"), 4);
  EXPECT_EQ(shard_prefix(7), "tg:{s07}:");
  EXPECT_EQ(shard_prefix(63), "tg:{s63}:");
}

}  // namespace
}  // namespace tallygate::redis_contract
