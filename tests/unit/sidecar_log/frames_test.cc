#include "sidecar/log/frames.h"

#include "tests/unit/sidecar_log/log_world.h"

namespace tallygate::sidecar::log_tests {
namespace {

TEST(Frames, RoundTripAndStopAtTheFirstUnsoundByte) {
  std::string bytes;
  append_frame(&bytes, FrameKind::kDefinition, 0, "one");
  append_record_frame(&bytes, 17, 63, "two\twith tab");
  append_frame(&bytes, FrameKind::kSnapshot, 0, "");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    std::string_view rest = std::string_view(bytes).substr(0, cut);
    Frame frame;
    size_t frames = 0;
    while (next_frame(&rest, &frame)) ++frames;
    EXPECT_EQ(frames, (cut >= 19 ? 1u : 0u) + (cut >= 50 ? 1u : 0u) + (cut >= 66 ? 1u : 0u)) << cut;
  }
  std::string_view rest = bytes;
  Frame frame;
  ASSERT_TRUE(next_frame(&rest, &frame));
  EXPECT_EQ(frame.payload, "one");
  ASSERT_TRUE(next_frame(&rest, &frame));
  EXPECT_EQ(frame.batch, 17u);
  const auto record = decode_record_frame(frame.payload);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->first, 63);
  EXPECT_EQ(record->second, "two\twith tab");
}

TEST(Frames, ZeroesAreNoFrame) {
  // What a file system may leave after a power cut: the length is there, the bytes are not.
  const std::string zeroes(4096, '\0');
  std::string_view rest = zeroes;
  Frame frame;
  EXPECT_FALSE(next_frame(&rest, &frame));
}

TEST(Frames, RecordFramesOfNoShardAreRefused) {
  for (const char* text : {"", "\t", "x\ty", "-1\tr", "64\tr", "5", "99999999999\tr", "07\tr"}) {
    EXPECT_FALSE(decode_record_frame(text).has_value()) << text;
  }
}

TEST(Definitions, RoundTrip) {
  for (size_t charges = 0; charges <= kMaxCharges; ++charges) {
    auto d = definition("shop/acme", charges, 42, "search");
    if (charges > 2) d.charges[2].buckets.clear();
    const auto back = decode_definition(encode_definition(9, d));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->first, 9u);
    EXPECT_EQ(back->second, d);
  }
}

TEST(Definitions, MalformedTextIsRefused) {
  for (const char* text : {"", "1", "1\t2\tt", "x\t2\tt\tr", "1\tx\tt\tr", "1\t2\tt\tr\tmeter", "4294967296\t2\tt\tr",
                           "-1\t2\tt\tr", "1\t2\tt\tr\ta=b\tc=d\te=f\tg=h\ti=j\tk=l\tm=n\to=p\tq=r"}) {
    EXPECT_FALSE(decode_definition(text).has_value()) << text;
  }
}

TEST(Snapshots, RoundTripAndRefusal) {
  Snapshot snapshot;
  snapshot.spent[{3, "shop/acme|limit@0+60"}] = INT64_MAX;
  snapshot.spent[{4, "shop/acme|units$"}] = 0;
  snapshot.last_seq = {{0, 1}, {63, INT64_MAX}};
  snapshot.forgotten_until_s = 60;
  for (const size_t max_bytes : {size_t{1}, size_t{40}, size_t{1} << 20}) {
    Snapshot back;
    for (const auto& part : encode_snapshot(snapshot.spent, snapshot.last_seq, snapshot.forgotten_until_s, max_bytes)) {
      EXPECT_TRUE(part.size() <= max_bytes || part.find('\n') + 1 == part.size());
      ASSERT_TRUE(decode_snapshot(part, &back).has_value());
    }
    EXPECT_EQ(back, snapshot);
  }
  EXPECT_EQ(encode_snapshot({}, {}, 0).size(), 1u) << "a file begins with one, even if it says nothing";
  for (const char* text : {"s\t1\t2", "n\t1", "n\t64\t1", "n\t-1\t1", "x\t1\t2\t3", "s\tx\t2\tm", "n\t1\t2\t3",
                           "n\t1\t-2", "f\t0\t-1", "f\t1\t1"}) {
    Snapshot back;
    EXPECT_FALSE(decode_snapshot(text, &back).has_value()) << text;
  }
}

}  // namespace
}  // namespace tallygate::sidecar::log_tests
