#include "core/redis_contract/record.h"

#include <random>

namespace tallygate::redis_contract {
namespace {

class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed) {}

  uint64_t below(uint64_t n) { return random_() % n; }
  int64_t count() {
    switch (below(4)) {
      case 0:
        return 0;
      case 1:
        return INT64_MAX;
      case 2:
        return (int64_t{1} << 53) - 1;
      default:
        return static_cast<int64_t>(below(1'000'000));
    }
  }
  std::string from(std::string_view alphabet, size_t most) {
    std::string text;
    for (size_t n = 1 + below(most); n > 0; --n) text += alphabet[below(alphabet.size())];
    return text;
  }
  std::string bucket() {
    return below(4) == 0 ? "units_" + from("abc012", 8) + "$"
                         : from("abcxyz", 12) + "@" + std::to_string(below(2'000'000'000)) + "+" +
                               std::to_string(1 + below(90'000));
  }
  std::string member() { return from("abc", 6) + "/" + from("abc019", 8) + "|" + bucket(); }

  Record record() {
    Record r;
    r.incarnation = from("abcxyz0189.-", 80);
    r.seq = 1 + static_cast<int64_t>(below(1'000'000));
    r.epoch = count();
    switch (below(4)) {
      case 0:
        r.kind = RecordKind::kHello;
        r.seq = 1;
        r.boot_id = from("0123456789abcdef-", 36);
        r.pod = from("shop/ api;=,|\"'\\{}\xc3\xa4", 40);
        r.software = from("0123456789.+-rc", 12);
        break;
      case 1:
        r.kind = RecordKind::kUsage;
        r.tenant = from("abc", 10) + "/" + from("abc019", 20);
        r.meter = "m" + from("abc_019", 20);
        r.units = count();
        r.requests = count();
        r.second = count();
        for (size_t n = below(4); n > 0; --n)
          r.dims.emplace_back(from("abc", 8), below(3) ? from("abc /,.-\xc3\xa4", 20) : "");
        for (size_t n = below(6); n > 0; --n) r.buckets.push_back(bucket());
        break;
      case 2:
        r.kind = RecordKind::kFinal;
        for (size_t n = below(6); n > 0; --n) r.ceilings.emplace_back(below(2) ? member() : bucket(), count());
        break;
      default:
        r.kind = RecordKind::kTorn;
        r.epoch = 0;
        r.torn_incarnation = from("abcxyz0189.-", 80);
    }
    return r;
  }

 private:
  std::mt19937_64 random_;
};

TEST(Record, RoundTripOfAnything) {
  Maker maker(1);
  for (int i = 0; i < 20'000; ++i) {
    const Record record = maker.record();
    const std::string text = encode(record);
    const auto back = decode(text);
    ASSERT_TRUE(back.has_value()) << back.error().message << ": " << text;
    ASSERT_EQ(*back, record) << text;
  }
}

TEST(Record, SeparatorsInFreeTextAreReplaced) {
  Record record;
  record.kind = RecordKind::kHello;
  record.incarnation = "pod-1.a";
  record.seq = 1;
  record.boot_id = "b\too\nt";
  record.pod = std::string("p\0d\x7f", 4);
  auto back = decode(encode(record));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->boot_id, "b_oo_t");
  EXPECT_EQ(back->pod, "p_d_");
  EXPECT_EQ(back->software, "-") << "nothing is a dash";
  Record usage;
  usage.incarnation = "pod-1.a";
  usage.seq = 2;
  usage.tenant = "shop/acme";
  usage.meter = "requests";
  usage.dims = {{"a;b=c", "d\te;f=g"}};
  back = decode(encode(usage));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->dims[0], (std::pair<std::string, std::string>("a_b_c", "d_e_f_g")));
}

TEST(Record, RefusesWhatEncodeWouldNotWrite) {
  const std::string usage = "1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1700000000\troute=all\tlimit@0+60";
  ASSERT_TRUE(decode(usage).has_value());
  struct Row {
    const char* text;
    const char* field;  // named by the message
  };
  const Row rows[] = {
      {"", "version"},
      {"2\tU", "version"},
      {"01\tU", "version"},
      {"1", "kind"},
      {"1\tX\tpod-1.a\t2\t3", "kind"},
      {"1\tUU\tpod-1.a\t2\t3", "kind"},
      {"1\t\tpod-1.a\t2\t3", "kind"},
      {"1\tU", "incarnation"},
      {"1\tU\t\t2\t3", "incarnation"},
      {"1\tU\tPod\t2\t3", "incarnation"},
      {"1\tU\tpod_1\t2\t3", "incarnation"},
      {"1\tU\tpod-1.a", "seq"},
      {"1\tU\tpod-1.a\t0\t3", "seq"},
      {"1\tU\tpod-1.a\t-2\t3", "seq"},
      {"1\tU\tpod-1.a\t02\t3", "seq"},
      {"1\tU\tpod-1.a\t+2\t3", "seq"},
      {"1\tU\tpod-1.a\t2 \t3", "seq"},
      {"1\tU\tpod-1.a\t9223372036854775808\t3", "seq"},
      {"1\tU\tpod-1.a\t2", "epoch"},
      {"1\tU\tpod-1.a\t2\t-0", "epoch"},
      {"1\tU\tpod-1.a\t2\t00", "epoch"},
      {"1\tU\tpod-1.a\t2\tx", "epoch"},
      {"1\tU\tpod-1.a\t2\t3", "tenant"},
      {"1\tU\tpod-1.a\t2\t3\tacme", "tenant"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme/x", "tenant"},
      {"1\tU\tpod-1.a\t2\t3\tShop/acme", "tenant"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\tRequests", "meter"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t-5", "units"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5.0", "units"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t1e3", "units"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t", "requests"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t0x10", "second"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t\t-", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\troute\t-", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t=all\t-", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\ta=b;\t-", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\ta=b=c\t-", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\ta=b\nc\t-", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\ta=\x7f\t-", "dims"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t-", "buckets"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t-\t", "buckets"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t-\tlimit", "buckets"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t-\tlimit@0+60,", "buckets"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t-\tlimit@00+60", "buckets"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t-\t-\t", "end"},
      {"1\tU\tpod-1.a\t2\t3\tshop/acme\trequests\t5\t5\t1\t-\t-\tmore", "end"},
      {"1\tH\tpod-1.a\t2\t0\tboot\tpod\t1.0", "seq"},
      {"1\tH\tpod-1.a\t1\t0", "boot id"},
      {"1\tH\tpod-1.a\t1\t0\tboot", "pod"},
      {"1\tH\tpod-1.a\t1\t0\tboot\tpod", "software"},
      {"1\tH\tpod-1.a\t1\t0\tboot\tp\x01\t1.0", "pod"},
      {"1\tH\tpod-1.a\t1\t0\tboot\tpod\t1.0\tx", "end"},
      {"1\tF\tpod-1.a\t2\t3", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\t", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\tlimit@0+60", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\tlimit@0+60=-1", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\tlimit@0+60=05", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\t=5", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\tlimit=5", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\tacme|limit@0+60=5", "ceilings"},
      {"1\tF\tpod-1.a\t2\t3\tlimit@0+60=5,", "ceilings"},
      {"1\tT\tpod-1.a\t2\t0", "torn"},
      {"1\tT\tpod-1.a\t2\t0\tPod", "torn"},
      {"1\tT\tpod-1.a\t2\t7\tpod-0.a", "epoch"},
      {"1\tT\tpod-1.a\t2\t0\tpod-0.a\t", "end"},
  };
  for (const Row& row : rows) {
    const auto record = decode(row.text);
    ASSERT_FALSE(record.has_value()) << row.text;
    EXPECT_EQ(record.error().errc, Errc::kInvalid);
    EXPECT_NE(record.error().message.find(row.field), std::string::npos) << row.text << ": " << record.error().message;
  }
  EXPECT_FALSE(decode(usage + std::string(70'000, 'x')).has_value());
}

// Whatever is accepted is exactly what encode() writes: one content, one text.
TEST(Record, MutationsAreRefusedOrCanonical) {
  Maker maker(2);
  for (int i = 0; i < 100'000; ++i) {
    std::string text = encode(maker.record());
    for (uint64_t edits = 1 + maker.below(3); edits > 0; --edits) {
      const size_t at = maker.below(text.size());
      const char letter = "\t\n,;=-+@$|/0159aZ.\x7f\xff"[maker.below(21)];
      switch (maker.below(4)) {
        case 0:
          text[at] = letter;
          break;
        case 1:
          text.insert(at, 1, letter);
          break;
        case 2:
          text.erase(at, 1 + maker.below(4));
          break;
        default:
          text.insert(at, text.substr(maker.below(text.size()), 6));
          break;
      }
      if (text.empty()) break;
    }
    const auto record = decode(text);
    if (record) {
      ASSERT_EQ(encode(*record), text);
    }
  }
}

}  // namespace
}  // namespace tallygate::redis_contract
