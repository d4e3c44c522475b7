// Each limit of a message, met exactly and exceeded by one, whatever the pieces in which the bytes come and however the
// limits stand to each other.
#include <gtest/gtest.h>

#include "core/http1/body.h"
#include "core/http1/head.h"

namespace tallygate::http1 {
namespace {

// What a parser says that is given `first` bytes, then all; or byte by byte for 0. Bytes move between the calls.
ParseError parsed(Head::Kind kind, const std::string& bytes, const Limits& limits, size_t first) {
  Head head;
  head.start(kind);
  for (size_t size = first == 0 ? 1 : first; size <= bytes.size(); size = first == 0 ? size + 1 : bytes.size()) {
    const std::string moved = bytes.substr(0, size);
    const Progress progress = head.parse(moved.data(), moved.size(), limits);
    if (progress == Progress::kError) return head.error();
    if (progress == Progress::kComplete) {
      EXPECT_EQ(size, bytes.size());
      return ParseError::kNone;
    }
    if (size == bytes.size()) break;
  }
  ADD_FAILURE() << "undecided";
  return ParseError::kCount;
}

void expect_at_any_split(Head::Kind kind, const std::string& bytes, const Limits& limits, ParseError expected) {
  for (size_t first = 0; first <= bytes.size(); ++first) {
    ASSERT_EQ(parsed(kind, bytes, limits, first), expected) << first << " of " << bytes.size() << ": " << bytes;
  }
}

std::string request(size_t target, const std::string& fields) {
  return "GET /" + std::string(target, 'a') + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
}

TEST(HeadLimits, OfTheRequestLine) {
  Limits limits;
  limits.request_line_bytes_max = 32;
  for (const std::string blank : {"", "\r\n"}) {
    expect_at_any_split(Head::Kind::kRequest, blank + request(16, ""), limits, ParseError::kNone);
    expect_at_any_split(Head::Kind::kRequest, blank + request(17, ""), limits, ParseError::kTargetTooLong);
  }
}

TEST(HeadLimits, OfAHeadThatIsShorterThanTheRequestLineMayBe) {
  Limits limits;
  limits.request_head_bytes_max = 64;
  expect_at_any_split(Head::Kind::kRequest, request(64 - 27, ""), limits, ParseError::kNone);
  expect_at_any_split(Head::Kind::kRequest, request(64 - 26, ""), limits, ParseError::kHeadTooLarge);
  expect_at_any_split(Head::Kind::kRequest, request(64 - 16, ""), limits, ParseError::kHeadTooLarge);
  for (size_t target = 64 - 15; target < 200; ++target) {
    expect_at_any_split(Head::Kind::kRequest, request(target, ""), limits, ParseError::kTargetTooLong);
  }
}

TEST(HeadLimits, OfAWholeHead) {
  Limits limits;
  limits.request_head_bytes_max = limits.response_head_bytes_max = 64;
  expect_at_any_split(Head::Kind::kRequest, request(0, "X: " + std::string(32, 'y') + "\r\n"), limits,
                      ParseError::kNone);
  expect_at_any_split(Head::Kind::kRequest, request(0, "X: " + std::string(33, 'y') + "\r\n"), limits,
                      ParseError::kHeadTooLarge);
  const auto response = [](size_t n) { return "HTTP/1.1 200 OK\r\nX: " + std::string(n, 'y') + "\r\n\r\n"; };
  expect_at_any_split(Head::Kind::kResponse, response(40), limits, ParseError::kNone);
  expect_at_any_split(Head::Kind::kResponse, response(41), limits, ParseError::kHeadTooLarge);
}

TEST(HeadLimits, OfFields) {
  Limits limits;
  limits.fields_max = 3;
  expect_at_any_split(Head::Kind::kRequest, request(0, "A: 1\r\nB: 2\r\n"), limits, ParseError::kNone);
  expect_at_any_split(Head::Kind::kRequest, request(0, "A: 1\r\nB: 2\r\nC: 3\r\n"), limits, ParseError::kTooManyFields);
}

// → what a reader of a chunked body says, given pieces of that size.
ParseError read(const std::string& bytes, const Limits& limits, size_t piece) {
  BodyReader body;
  body.start_chunked();
  for (size_t at = 0; at < bytes.size() && !body.done();) {
    const auto step = body.next(bytes.data() + at, std::min(piece, bytes.size() - at), limits);
    if (step.error != ParseError::kNone) return step.error;
    at += step.consumed;
  }
  EXPECT_TRUE(body.done());
  return ParseError::kNone;
}

TEST(BodyLimits, OfExtensionsAndTrailers) {
  Limits limits;
  limits.chunk_extension_bytes_max = 4;
  limits.chunk_extensions_bytes_max = 6;
  limits.trailer_bytes_max = 16;
  limits.fields_max = 2;
  const std::pair<const char*, ParseError> cases[] = {
      {"1;abcd\r\nx\r\n0;ab\r\n\r\n", ParseError::kNone},
      {"1;abcde\r\nx\r\n0\r\n\r\n", ParseError::kChunkExtension},
      {"1;abcd\r\nx\r\n0;abc\r\n\r\n", ParseError::kChunkExtension},
      {"0\r\nX: 890123456\r\n\r\n", ParseError::kNone},
      {"0\r\nX: 8901234567\r\n\r\n", ParseError::kTrailer},
      {"0\r\nA: 1\r\nB: 2\r\n\r\n", ParseError::kNone},
      {"0\r\nA:\r\nB:\r\nC:\r\n\r\n", ParseError::kTrailer},
  };
  for (const auto& [bytes, expected] : cases) {
    for (size_t piece = 1; piece <= std::string_view(bytes).size(); ++piece) {
      EXPECT_EQ(read(bytes, limits, piece), expected) << bytes << " in pieces of " << piece;
    }
  }
}

}  // namespace
}  // namespace tallygate::http1
