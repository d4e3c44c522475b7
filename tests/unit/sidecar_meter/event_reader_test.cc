#include "sidecar/meter/event_reader.h"

#include "tests/unit/sidecar_meter/aws_message.h"
#include "tests/unit/sidecar_meter/splits.h"

namespace tallygate::meter {
namespace {

using Kind = EventReader::Step::Kind;

// Each event as "type|data"; pieces of data are put together.
std::string read(Framing framing, const Pieces& pieces) {
  EventReader reader(framing);
  std::string told, data;
  const auto take = [&](const EventReader::Step& step) {
    if (step.kind == Kind::kData) {
      EXPECT_FALSE(step.data.empty());
      data += step.data;
    } else if (step.kind == Kind::kMalformed) {
      told += "malformed\n";
      data.clear();
    } else if (step.kind != Kind::kMore) {
      told += std::string(reader.type()) + (reader.is_error() ? "!" : "") + '|' +
              (step.kind == Kind::kDone ? "DONE" : data) + '\n';
      data.clear();
    }
    return step.kind != Kind::kMore;
  };
  for (std::string_view piece : pieces) {
    while (take(reader.next(piece))) {
    }
    EXPECT_TRUE(piece.empty());
  }
  while (take(reader.finish())) {
  }
  return told;
}

std::string events(Framing framing, std::string_view bytes) {
  return same_at_each_split(bytes, [framing](const Pieces& pieces) { return read(framing, pieces); });
}

std::string sse(std::string_view bytes) { return events(Framing::kSse, bytes); }

TEST(EventReader, ReadsEventsWithEachEndOfLine) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    const std::string stream =
        "data: one" + end + end + "event: e" + end + "data:two" + end + end + "data: three" + end;
    EXPECT_EQ(sse(stream), "|one\ne|two\n|three\n") << testing::PrintToString(end);
  }
  EXPECT_EQ(sse("data: a\r\rdata: b\n\ndata: c\r\n\r\n"), "|a\n|b\n|c\n");
}

TEST(EventReader, FollowsTheRulesOfServerSentEvents) {
  EXPECT_EQ(sse(":ping\n\n: x\ndata: a\n:data: no\ndata: b\n\n"), "|a\nb\n");
  EXPECT_EQ(sse("data:  two spaces\n\n"), "| two spaces\n");
  EXPECT_EQ(sse("data\n\ndata\ndata\n\ndata:\n\n"), "|\n|\n\n|\n");
  EXPECT_EQ(sse("retry: 5\nid: 7\n\nevent: lost\n\ndata: a\n\n"), "|a\n");
  EXPECT_EQ(sse("event: a\nevent: b\ndata: x\n\ndata: y\n\n"), "b|x\n|y\n");
  EXPECT_EQ(sse("data: x\nevent: late\n\n"), "late|x\n");
  EXPECT_EQ(sse("dat: a\ndatas: b\n data: c\nDATA: d\ndata : e\n\n"), "");
  EXPECT_EQ(sse("\xef\xbb\xbf"
                "data: a\n\n\xef\xbb\xbf"
                "data: b\n\n"),
            "|a\n");
  EXPECT_EQ(sse("\xef\xbb"
                "data: a\n\n"),
            "");
  EXPECT_EQ(sse("data: a: b\n\n"), "|a: b\n");
  EXPECT_EQ(sse(""), "");
  EXPECT_EQ(sse("\n\n\n"), "");
}

TEST(EventReader, KnowsTheWordThatEndsAStream) {
  EXPECT_EQ(sse("data: {}\n\ndata: [DONE]\n\n"), "|{}\n|DONE\n");
  EXPECT_EQ(sse("data:[DONE]"), "|DONE\n");
  EXPECT_EQ(sse("data: [DONE\n\ndata: [DONE]]\n\ndata: [DONE] \n\ndata: [\n\n"), "|[DONE\n|[DONE]]\n|[DONE] \n|[\n");
  EXPECT_EQ(sse("data: [DONE]\ndata: x\n\ndata: [DO\ndata: NE]\n\n"), "|[DONE]\nx\n|[DO\nNE]\n");
}

TEST(EventReader, AnEventThatLacksItsBlankLineWasDelivered) {
  EXPECT_EQ(sse("data: {\"usage\":1}"), "|{\"usage\":1}\n");
  EXPECT_EQ(sse("data: a\ndat"), "|a\n");
}

TEST(EventReader, BoundsTheTypeNotTheData) {
  const std::string type(100, 't'), data(100'000, 'd');
  EXPECT_EQ(read(Framing::kSse, {"event: " + type + "\ndata: " + data + "\n\n"}),
            type.substr(0, 64) + "|" + data + "\n");
}

TEST(EventReader, ReadsJsonLines) {
  EXPECT_EQ(events(Framing::kJsonLines, "{\"a\":1}\n\n \r\n{\"b\":\"\\n\"}\r\n  {\"c\":3}"),
            "|{\"a\":1}\n|{\"b\":\"\\n\"}\r\n|{\"c\":3}\n");
}

TEST(EventReader, ReadsTheElementsOfAnArray) {
  EXPECT_EQ(events(Framing::kJsonArray, " [{\"a\":\"],}\\\"\"}\n,\r\n{\"b\":[1,{\"c\":2}]} , 17,\"s\", null ] \n"),
            "|{\"a\":\"],}\\\"\"}\n|{\"b\":[1,{\"c\":2}]}\n|17\n|\"s\"\n|null \n");
  EXPECT_EQ(events(Framing::kJsonArray, "[]"), "");
  EXPECT_EQ(events(Framing::kJsonArray, "{\"error\":[1]}"), "|{\"error\":[1]}\n");
  EXPECT_EQ(events(Framing::kJsonArray, "[{\"a\":1},"), "|{\"a\":1}\nmalformed\n");
  EXPECT_EQ(events(Framing::kJsonArray, "[{\"a\":1}"), "|{\"a\":1}\nmalformed\n");
  EXPECT_EQ(events(Framing::kJsonArray, "[{\"a\":"), "malformed\n");
  EXPECT_EQ(events(Framing::kJsonArray, "[,1]"), "malformed\n");
  EXPECT_EQ(events(Framing::kJsonArray, "[1,]"), "|1\nmalformed\n");
  EXPECT_EQ(events(Framing::kJsonArray, "[1]x"), "|1\nmalformed\n");
  EXPECT_EQ(events(Framing::kJsonArray, "[{\"a\":1}}"), "|{\"a\":1}\nmalformed\n");
}

TEST(EventReader, ReadsAwsMessages) {
  const std::string stream =
      aws_message({{":message-type", "event"}, {":event-type", "chunk"}}, "{\"bytes\":\"e30=\"}") +
      aws_message({{":message-type", "event"}, {":event-type", "metadata"}}, "") +
      aws_message({{":message-type", "exception"}, {":exception-type", "throttlingException"}}, "{}") +
      aws_message({}, "x");
  EXPECT_EQ(events(Framing::kAwsEventStream, stream),
            "chunk|{\"bytes\":\"e30=\"}\nmetadata|\nthrottlingException!|{}\n|x\n");
}

TEST(EventReader, SkipsAwsHeadersOfEachTypeAndThoseThatAreTooMany) {
  std::string headers;
  for (int type = 0; type <= 9; ++type) {
    headers += std::string("\x01h") + static_cast<char>(type);
    constexpr int kSizes[] = {0, 0, 1, 2, 4, 8, -1, -1, 8, 16};
    if (kSizes[type] < 0)
      headers += std::string(
          "\x00\x03"
          "abc",
          5);
    if (kSizes[type] > 0) headers += std::string(static_cast<size_t>(kSizes[type]), 'v');
  }
  headers += aws_header(":event-type", "e");
  EXPECT_EQ(events(Framing::kAwsEventStream, aws_message_raw(headers, "p")), "e|p\n");
  const std::string many = aws_header(":event-type", "e") + aws_header("x", std::string(5'000, 'x'));
  EXPECT_EQ(read(Framing::kAwsEventStream, {aws_message_raw(many, "p")}), "|p\n");
}

TEST(EventReader, TellsAwsMessagesThatAreBroken) {
  const std::string good = aws_message({{":event-type", "e"}}, "payload");
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x20);
    EXPECT_EQ(read(Framing::kAwsEventStream, {bad + good}), "malformed\n") << "byte " << at;
  }
  for (size_t size = 1; size < good.size(); ++size) {
    EXPECT_EQ(read(Framing::kAwsEventStream, {std::string_view(good).substr(0, size)}), "malformed\n") << size;
  }
  for (const char* headers : {"\x05"
                              "ab",
                              "\x01"
                              "a",
                              "\x01"
                              "a\x0a",
                              "\x01"
                              "a\x07",
                              "\x01"
                              "a\x04xx"}) {
    EXPECT_EQ(events(Framing::kAwsEventStream, aws_message_raw(headers, "p")), "malformed\n");
  }
}

TEST(EventReader, TellsFramingsByMediaType) {
  EXPECT_EQ(framing_of("text/event-stream; charset=utf-8"), Framing::kSse);
  EXPECT_EQ(framing_of("Text/Event-Stream ;x"), Framing::kSse);
  EXPECT_EQ(framing_of("application/x-ndjson"), Framing::kJsonLines);
  EXPECT_EQ(framing_of("application/vnd.amazon.eventstream"), Framing::kAwsEventStream);
  EXPECT_EQ(framing_of("application/json"), Framing::kWhole);
  EXPECT_EQ(framing_of("text/event-streams"), Framing::kWhole);
  EXPECT_EQ(framing_of(""), Framing::kWhole);
}

}  // namespace
}  // namespace tallygate::meter
