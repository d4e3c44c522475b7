#include "operator/pump/batch.h"

#include <gtest/gtest.h>

#include "core/money.h"
#include "core/redis_contract/keys.h"

namespace tallygate::pump {
namespace {

using redis::Reply;

Reply text(std::string value) { return {Reply::Type::kString, 0, std::move(value), {}}; }
Reply array(std::vector<Reply> elements) { return {Reply::Type::kArray, 0, "", std::move(elements)}; }
Reply entry(std::string id, std::string record) {
  return array({text(std::move(id)), array({text("r"), text(std::move(record))})});
}

redis_contract::Record usage() {
  redis_contract::Record record;
  record.incarnation = "pod.1";
  record.seq = 2;
  record.tenant = "shop/acme";
  record.meter = "api_calls";
  record.units = 3;
  record.requests = 1;
  record.second = 1'795'000'000;
  record.buckets = {"calls-day@1794960000+86400"};
  return record;
}

TEST(ReadBatch, TakesNilAndEmptyStreamsForNothing) {
  EXPECT_TRUE(read_batch({}).empty());
  EXPECT_TRUE(read_batch(array({array({text(redis_contract::usage_key(3)), array({})})})).empty());
}

TEST(ReadBatch, SortsEntriesIntoRecordsAndPoison) {
  const std::string good = redis_contract::encode(usage());
  Reply reply = array(
      {array({text(redis_contract::usage_key(3)), array({entry("200-0", good), entry("100-1", "junk")})}),
       array({text(redis_contract::usage_key(7)), array({array({text("300-0"), Reply{}}),  // deleted while pending
                                                         array({text("300-1"), array({text("x"), text("y")})})})})});
  const Batch batch = read_batch(std::move(reply));
  EXPECT_EQ(batch.entries, 4u);
  EXPECT_EQ(batch.longest, 2u);
  EXPECT_EQ(batch.oldest_ms, 100);
  ASSERT_EQ(batch.records.size(), 1u);
  EXPECT_EQ(batch.records[0].shard, 3);
  EXPECT_EQ(batch.records[0].record, usage());
  ASSERT_EQ(batch.poison.size(), 2u);
  EXPECT_EQ(batch.poison[0].raw, "junk");
  EXPECT_EQ(batch.poison[0].seq, 0);
  EXPECT_EQ(batch.poison[1].shard, 7);
  // Whatever an entry is, it is acknowledged.
  EXPECT_EQ(batch.entry_ids.at(3), (std::vector<std::string>{"200-0", "100-1"}));
  EXPECT_EQ(batch.entry_ids.at(7), (std::vector<std::string>{"300-0", "300-1"}));
}

// What follows it must not wait for it.
TEST(ReadBatch, ARefusedRecordKeepsItsPlace) {
  redis_contract::Record huge = usage();
  huge.units = kMaxInteger + 1;
  const auto identity_of = [](const std::string& raw) {
    const Batch batch = read_batch(array({array({text(redis_contract::usage_key(3)), array({entry("1-0", raw)})})}));
    EXPECT_EQ(batch.poison.size(), 1u) << raw;
    return batch.poison.empty() ? "" : batch.poison[0].incarnation + " " + std::to_string(batch.poison[0].seq);
  };
  EXPECT_EQ(identity_of(redis_contract::encode(huge)), "pod.1 2");
  EXPECT_EQ(identity_of("1\tU\tpod.1\t7\t1\tno tenant"), "pod.1 7");
  EXPECT_EQ(identity_of("1\tU\tpod.1\t7"), "pod.1 7");
  EXPECT_EQ(identity_of("1\tU\tpod.1\t0\t1\t"), " 0");
  // A later version's, or a later version's kind: it may yet be read.
  EXPECT_EQ(identity_of("2\tU\tpod.1\t7\t1\t"), " 0");
  EXPECT_EQ(identity_of("1\tZ\tpod.1\t7\t1\t"), " 0");
}

TEST(Refusal, NamesWhatIsOutOfBounds) {
  EXPECT_EQ(refusal(usage()), "");
  const auto with = [](auto change) {
    redis_contract::Record record = usage();
    change(record);
    return refusal(record);
  };
  EXPECT_NE(with([](auto& r) { r.units = kMaxInteger + 1; }), "");
  EXPECT_NE(with([](auto& r) { r.requests = INT64_MAX; }), "");
  EXPECT_NE(with([](auto& r) { r.seq = INT64_MAX; }), "");
  EXPECT_NE(with([](auto& r) { r.second = INT64_MAX; }), "");
  EXPECT_NE(with([](auto& r) { r.buckets = {"calls-day@9223372036854775807+86400"}; }), "");
  EXPECT_NE(with([](auto& r) { r.buckets = {"calls-day@0+9223372036854775807"}; }), "");
  EXPECT_NE(with([](auto& r) { r.buckets.assign(65, "sms$"); }), "");
}

}  // namespace
}  // namespace tallygate::pump
