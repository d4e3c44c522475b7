#include "sidecar/meter/decoder.h"

#include "tests/unit/sidecar_meter/codings.h"
#include "tests/unit/sidecar_meter/splits.h"

namespace tallygate::meter {
namespace {

using Step = Decoder::Step;

constexpr const char* kSteps[] = {"", "", " malformed", " too large", " bomb", " trailing", " truncated"};

std::string decode(Coding coding, const Pieces& pieces, size_t room = 64, Decoder::Limits limits = {}) {
  Decoder decoder(coding, limits);
  std::string out(room, '\0'), decoded;
  Step step = Step::kMore;
  for (std::string_view piece : pieces) {
    for (;;) {
      size_t size = 0;
      step = decoder.next(piece, out, size);
      decoded.append(out, 0, size);
      if (step != Step::kData) break;
    }
    EXPECT_TRUE(piece.empty());
  }
  step = decoder.finish();
  return decoded + kSteps[static_cast<int>(step)];
}

std::string decoded(Coding coding, std::string_view coded) {
  return same_at_each_split(coded, [coding](const Pieces& pieces) { return decode(coding, pieces); });
}

std::string sample() {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "data: {\"n\":" + std::to_string(i * i) + "}\n\n";
  return text;
}

struct Case {
  const char* name;
  Coding coding;
  std::string coded;
};
std::vector<Case> cases(const std::string& text) {
  return {{"gzip", Coding::kGzip, deflated(text, 31)},
          {"zlib", Coding::kDeflate, deflated(text, 15)},
          {"raw deflate", Coding::kDeflate, deflated(text, -15)},
          {"br", Coding::kBrotli, brotli(text)},
          {"zstd", Coding::kZstd, zstd(text)},
          {"identity", Coding::kIdentity, text}};
}

TEST(Decoder, DecodesEachCodingWhereverItIsSplit) {
  for (const auto& [name, coding, coded] : cases(sample())) EXPECT_EQ(decoded(coding, coded), sample()) << name;
  for (const auto& [name, coding, coded] : cases("")) EXPECT_EQ(decoded(coding, coded), "") << name;
  for (const auto& [name, coding, coded] : cases("x")) EXPECT_EQ(decoded(coding, coded), "x") << name;
}

TEST(Decoder, AnEmptyBodyIsComplete) {
  for (const auto& [name, coding, coded] : cases("")) EXPECT_EQ(decode(coding, {}), "") << name;
}

TEST(Decoder, ReadsMembersThatFollowEachOther) {
  EXPECT_EQ(decoded(Coding::kGzip, deflated("one ", 31) + deflated("", 31) + deflated("two", 31)), "one two");
  EXPECT_EQ(decoded(Coding::kZstd, zstd("one ") + zstd("two")), "one two");
}

TEST(Decoder, TellsWhatFollowsTheEnd) {
  EXPECT_EQ(decoded(Coding::kGzip, deflated("one", 31) + "junk"), "one trailing");
  EXPECT_EQ(decoded(Coding::kGzip, deflated("one", 31) + std::string(3, '\0')), "one trailing");
  EXPECT_EQ(decoded(Coding::kDeflate, deflated("one", 15) + deflated("two", 15)), "one trailing");
  EXPECT_EQ(decoded(Coding::kBrotli, brotli("one") + "junk"), "one trailing");
  EXPECT_EQ(decoded(Coding::kZstd, zstd("one") + "junk"), "one trailing");
}

TEST(Decoder, TellsABodyThatBreaksOff) {
  for (const auto& [name, coding, coded] : cases(sample())) {
    if (coding == Coding::kIdentity) continue;
    for (size_t size = 1; size < coded.size(); ++size) {
      const std::string read = decode(coding, {std::string_view(coded).substr(0, size)});
      ASSERT_TRUE(read.ends_with(" truncated")) << name << " of " << size << ": " << read;
      ASSERT_TRUE(sample().starts_with(read.substr(0, read.size() - 10))) << name;
    }
  }
}

TEST(Decoder, TellsWhatIsNotOfTheCoding) {
  const std::string text = "this is plain text, and long enough for each of the formats to see that";
  for (const Coding coding : {Coding::kGzip, Coding::kZstd, Coding::kDeflate, Coding::kBrotli}) {
    EXPECT_TRUE(decoded(coding, text).ends_with(" malformed")) << static_cast<int>(coding);
  }
  std::string broken = deflated(sample(), 31);
  broken[broken.size() - 6] = static_cast<char>(broken[broken.size() - 6] ^ 1);  // of the CRC
  EXPECT_EQ(decoded(Coding::kGzip, broken), sample() + " malformed");
}

TEST(Decoder, BoundsWhatIsInflated) {
  const std::string zeros(8 * 1024 * 1024, '\0');
  for (const auto& [name, coding, coded] : cases(zeros)) {
    const std::string read = decode(coding, {coded}, 65536, {.bytes_max = 1 << 20, .ratio_max = 100'000'000});
    EXPECT_TRUE(read.ends_with(" too large")) << name;
    EXPECT_LE(read.size(), (1u << 20) + 10) << name;
    if (coding == Coding::kIdentity) continue;
    const std::string bomb = decode(coding, {coded}, 65536, {.bytes_max = uint64_t{1} << 40, .ratio_max = 100});
    EXPECT_TRUE(bomb.ends_with(" bomb")) << name;
    EXPECT_LE(bomb.size(), (1u << 20) + 65536 + 10) << name;
  }
}

TEST(Decoder, KnowsCodingsByName) {
  EXPECT_EQ(coding_of(""), Coding::kIdentity);
  EXPECT_EQ(coding_of(" identity "), Coding::kIdentity);
  EXPECT_EQ(coding_of("GZIP"), Coding::kGzip);
  EXPECT_EQ(coding_of("x-gzip"), Coding::kGzip);
  EXPECT_EQ(coding_of("deflate"), Coding::kDeflate);
  EXPECT_EQ(coding_of("br"), Coding::kBrotli);
  EXPECT_EQ(coding_of("zstd"), Coding::kZstd);
  EXPECT_EQ(coding_of("gzip, br"), Coding::kUnknown);
  EXPECT_EQ(coding_of("compress"), Coding::kUnknown);
}

}  // namespace
}  // namespace tallygate::meter
