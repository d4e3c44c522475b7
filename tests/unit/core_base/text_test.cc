#include <gtest/gtest.h>

#include "core/time_text.h"
#include "core/utf8.h"

namespace tallygate {
namespace {

TEST(Utf8, LengthOfWhatIsValid) {
  EXPECT_EQ(utf8_length("a"), 1U);
  EXPECT_EQ(utf8_length("é…"), 2U);
  EXPECT_EQ(utf8_length("…"), 3U);
  EXPECT_EQ(utf8_length("\xf4\x8f\xbf\xbf"), 4U);
  EXPECT_EQ(utf8_length("\xed\x9f\xbf"), 3U);
  for (const std::string_view bad : {"", "\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                                     "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x80", "\xc3", "\xc3z"}) {
    EXPECT_EQ(utf8_length(bad), 0U);
  }
}

TEST(Utf8, CutsBetweenCharacters) {
  EXPECT_EQ(cut_utf8("abc", 3), "abc");
  EXPECT_EQ(cut_utf8("abc", 2), "ab");
  EXPECT_EQ(cut_utf8("ab…", 5), "ab…");
  EXPECT_EQ(cut_utf8("ab…", 4), "ab");
  EXPECT_EQ(cut_utf8("ab…", 3), "ab");
  EXPECT_EQ(cut_utf8("ab…c", 5), "ab…") << "what ends at the edge stays";
  EXPECT_EQ(cut_utf8("…", 2), "");
  EXPECT_EQ(cut_utf8("abc", 0), "");
}

TEST(TimeText, SecondsAndMicroseconds) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339(1'769'817'600), "2026-01-31T00:00:00Z");
  EXPECT_EQ(rfc3339(951'782'400), "2000-02-29T00:00:00Z");
  EXPECT_EQ(rfc3339_micros(1'769'817'600'000'000'000), "2026-01-31T00:00:00.000000Z");
  EXPECT_EQ(rfc3339_micros(1'769'817'600'001'999'999), "2026-01-31T00:00:00.001999Z");
  EXPECT_EQ(rfc3339_micros(-1'000), "1969-12-31T23:59:59.999999Z");
}

}  // namespace
}  // namespace tallygate
