#include "sidecar/meter/value_reader.h"

#include "tests/unit/sidecar_meter/splits.h"

namespace tallygate::meter {
namespace {

std::string values(Framing framing, const std::vector<std::string>& pointers, std::string_view body) {
  const JsonPointers compiled = *JsonPointers::compile(pointers);
  return same_at_each_split(body, [&](const Pieces& pieces) {
    ValueReader reader(compiled, framing);
    for (const auto piece : pieces) reader.feed(piece);
    reader.finish();
    std::string told;
    for (size_t i = 0; i < pointers.size(); ++i) {
      const auto& value = reader.value(i);
      told += value.kind == JsonKind::kAbsent ? "absent" : value.kind == JsonKind::kNull ? "null" : value.text;
      if (value.kind == JsonKind::kArray) told += "array of " + std::to_string(value.count);
      told += value.duplicate ? " duplicate, " : ", ";
    }
    if (reader.malformed()) told += "malformed, ";
    return told + std::to_string(reader.unreadable_events()) + " unreadable";
  });
}

TEST(ValueReader, OneRuleServesAStreamAndAWholeBody) {
  EXPECT_EQ(values(Framing::kWhole, {"/usage/n"}, R"({"usage":{"n":5}})"), "5, 0 unreadable");
  EXPECT_EQ(values(Framing::kSse, {"/usage/n"}, "data: {\"usage\":{\"n\":5}}\n\n"), "5, 0 unreadable");
  EXPECT_EQ(values(Framing::kJsonLines, {"/usage/n"}, "{\"usage\":{\"n\":5}}\n"), "5, 0 unreadable");
  EXPECT_EQ(values(Framing::kJsonArray, {"/usage/n"}, "[{\"usage\":{\"n\":5}}]"), "5, 0 unreadable");
}

TEST(ValueReader, TheLastValueOfEachPointerStands) {
  EXPECT_EQ(values(Framing::kSse, {"/a", "/b", "/c"},
                   "data: {\"a\":1,\"b\":1}\n\ndata: {\"a\":2}\n\ndata: {\"a\":null}\n\ndata:\n\ndata: [DONE]\n\n"),
            "2, 1, absent, 0 unreadable");
}

TEST(ValueReader, AnEventThatIsNoJsonChangesNothingAndIsCounted) {
  EXPECT_EQ(values(Framing::kSse, {"/a"}, "data: {\"a\":1}\n\ndata: {\"a\":2\n\ndata: oops\n\ndata: {\"b\":3}\n\n"),
            "1, 2 unreadable");
  EXPECT_EQ(values(Framing::kSse, {"/a"}, "data: {\"a\":\ndata: 1}\n\n"), "1, 0 unreadable");
}

TEST(ValueReader, ABodyThatIsNoJsonIsMalformed) {
  EXPECT_EQ(values(Framing::kWhole, {"/a"}, "{\"a\":1"), "absent, malformed, 1 unreadable");
  EXPECT_EQ(values(Framing::kWhole, {"/a"}, "{\"a\":1,\"a\":2}"), "2 duplicate, 0 unreadable");
  EXPECT_EQ(values(Framing::kWhole, {"/a"}, "{\"a\":null}"), "null, 0 unreadable");
  const JsonPointers compiled = *JsonPointers::compile(std::vector<std::string>{"/a"});
  ValueReader empty(compiled, Framing::kWhole);
  empty.finish();
  EXPECT_TRUE(empty.malformed());
}

TEST(ValueReader, AnArrayThatBreaksOffKeepsWhatCame) {
  EXPECT_EQ(values(Framing::kJsonArray, {"/a"}, "[{\"a\":1},{\"a\":2"), "1, malformed, 0 unreadable");
}

}  // namespace
}  // namespace tallygate::meter
