#include "sidecar/meter/json_scanner.h"

#include "tests/unit/sidecar_meter/splits.h"

namespace tallygate::meter {
namespace {

JsonPointers compiled(const std::vector<PointerSpec>& specs) {
  auto made = JsonPointers::compile(specs);
  EXPECT_TRUE(made.has_value()) << made.error().message;
  return *made;
}

std::string told(const JsonValue& value) {
  static constexpr const char* kNames[] = {"absent", "null", "false", "true", "number", "string", "array", "object"};
  std::string text = kNames[static_cast<int>(value.kind)];
  if (value.kind == JsonKind::kNumber || value.kind == JsonKind::kString) text += " " + std::string(value.text);
  if (value.count != 0) text += " of " + std::to_string(value.count);
  if (value.duplicate) text += " duplicate";
  if (value.alias) text += " alias";
  if (value.cut) text += " cut";
  return text;
}

std::string told(const JsonScanner& scanner, size_t pointers) {
  if (scanner.state() == JsonScanner::State::kMore) return "more";
  if (scanner.state() == JsonScanner::State::kMalformed) return "malformed at " + std::to_string(scanner.offset());
  if (scanner.state() == JsonScanner::State::kTooDeep) return "too deep at " + std::to_string(scanner.offset());
  std::string text;
  for (size_t i = 0; i < pointers; ++i) text += (i == 0 ? "" : ", ") + told(scanner.value(i));
  return text;
}

std::string scanned(const std::vector<PointerSpec>& specs, std::string_view json) {
  const JsonPointers pointers = compiled(specs);
  return same_at_each_split(json, [&](const Pieces& pieces) {
    JsonScanner scanner(pointers);
    for (const auto piece : pieces) scanner.feed(piece);
    scanner.finish();
    return told(scanner, specs.size());
  });
}

TEST(JsonScanner, FindsEachKindOfValueAtItsPointer) {
  const std::string json =
      R"( {"n": -12.50e+2, "s":"a\u0062\n\"", "t":true,"f":false,"z":null,"a":[1,[2,3],{"n":4}],"o":{"x":{"y":0}},"":7} )";
  const std::vector<std::pair<const char*, const char*>> cases{{"/n", "number -12.50e+2"},
                                                               {"/s", "string ab\n\""},
                                                               {"/t", "true"},
                                                               {"/f", "false"},
                                                               {"/z", "null"},
                                                               {"/a", "array of 3"},
                                                               {"/a/0", "number 1"},
                                                               {"/a/1", "array of 2"},
                                                               {"/a/1/1", "number 3"},
                                                               {"/a/2/n", "number 4"},
                                                               {"/a/3", "absent"},
                                                               {"/a/-", "absent"},
                                                               {"/a/00", "absent"},
                                                               {"/o/x/y", "number 0"},
                                                               {"/o/x", "object of 1"},
                                                               {"/n/x", "absent"},
                                                               {"/", "number 7"},
                                                               {"", "object of 8"},
                                                               {"/x", "absent"},
                                                               {"/o/y", "absent"}};
  for (const auto& [pointer, value] : cases) EXPECT_EQ(scanned({{pointer}}, json), value) << pointer;
}

TEST(JsonScanner, FindsManyAtOnceAndTheWholeDocumentToo) {
  EXPECT_EQ(scanned({{"/usage/a"}, {"/usage/b"}, {"/usage"}, {"/usage/a"}, {""}}, R"({"usage":{"b":2,"a":1},"a":9})"),
            "number 1, number 2, object of 2, number 1, object of 2");
  EXPECT_EQ(scanned({{""}}, "17"), "number 17");
  EXPECT_EQ(scanned({{""}}, " \"x\" "), "string x");
  EXPECT_EQ(scanned({{"/0/a"}, {"/1/a"}}, R"([{"a":1},{"a":2},{"a":3}])"), "number 1, number 2");
}

TEST(JsonScanner, ReadsTokensAndKeysAsTheyAreEscaped) {
  EXPECT_EQ(scanned({{"/a~1b/c~0d/~01"}}, R"({"a/b":{"c~d":{"~1":5}}})"), "number 5");
  EXPECT_EQ(scanned({{"/usage"}}, R"({"\u0075s\u0061ge":5})"), "number 5");
  EXPECT_EQ(scanned({{"/é😀"}}, R"({"\u00e9\ud83d\ude00":5})"), "number 5");
  EXPECT_EQ(scanned({{"/é"}}, R"({"é":5})"), "number 5");
  EXPECT_EQ(scanned({{"/a"}}, R"({"a\u0000":5})"), "absent");
  EXPECT_EQ(scanned({{"/a"}}, R"({"\ud83da":5,"\udc00":1})"), "absent");
  EXPECT_EQ(scanned({{""}}, R"("\ud83d\ude00 \ud83d \ude00 \ud83d\ud83d\ude00")"),
            "string 😀 \xef\xbf\xbd \xef\xbf\xbd \xef\xbf\xbd😀");
}

TEST(JsonScanner, DoesNotTakeTextForStructure) {
  EXPECT_EQ(scanned({{"/usage/n"}}, R"({"text":"\"usage\":{\"n\":9}}","usage":{"n":1},"m":[{"usage":{"n":8}}]})"),
            "number 1");
  EXPECT_EQ(scanned({{"/n"}}, R"({"x":{"n":9},"y":[{"n":8}],"z":"{\"n\":7}"})"), "absent");
}

TEST(JsonScanner, TellsKeysThatAreThereTwiceOnTheWayAndTheLastValue) {
  EXPECT_EQ(scanned({{"/a"}}, R"({"a":1,"a":2})"), "number 2 duplicate");
  EXPECT_EQ(scanned({{"/a"}}, R"({"a":1,"\u0061":2})"), "number 2 duplicate");
  EXPECT_EQ(scanned({{"/a/b"}, {"/c"}}, R"({"a":{"b":1},"c":3,"a":{}})"), "absent duplicate, number 3");
  EXPECT_EQ(scanned({{"/a/b"}}, R"({"a":{"b":1},"a":null})"), "absent duplicate");
  EXPECT_EQ(scanned({{"/0/a"}, {"/1/a"}}, R"([{"a":1},{"a":2,"a":3}])"), "number 1, number 3 duplicate");
  EXPECT_EQ(scanned({{"/a"}}, R"({"x":{"a":1,"a":2},"b":1,"b":2,"a":1})"), "number 1");
}

TEST(JsonScanner, TellsKeysThatSomeReadersTakeForTheSame) {
  EXPECT_EQ(scanned({{"/amount"}}, R"({"amount":1,"Amount":1000})"), "number 1 alias");
  EXPECT_EQ(scanned({{"/amount"}}, R"({"AMOUNT":1000})"), "absent alias");
  EXPECT_EQ(scanned({{"/amount"}}, R"({"x":{"AMOUNT":1000}})"), "absent");
}

TEST(JsonScanner, CountsWhatHasAText) {
  const std::vector<PointerSpec> specs{
      {"/output/*/type", "web_search_call"}, {"/output"}, {"/output/*/type", "message"}};
  EXPECT_EQ(
      scanned(
          {specs[0], {"/id"}, specs[2]},
          R"({"id":"r","output":[{"type":"web_search_call"},{"type":"message","content":[{"type":"web_search_call"}]},
                       {"type":"web_search_call"},7,{"type":5},{"kind":"web_search_call"}]})"),
      "absent of 2, string r, absent of 1");
  EXPECT_EQ(scanned({{"/t", "x"}}, R"({"t":"x"})"), "absent of 1");
}

TEST(JsonScanner, RefusesWhatIsNoJsonAndTellsWhere) {
  const std::vector<std::pair<std::string, int>> cases{
      {"", 0},         {" ", 1},          {"{", 1},          {"[1,]", 3},
      {"{,}", 1},      {"{\"a\":1,}", 7}, {"{\"a\" 1}", 5},  {"[1 2]", 3},
      {"01", 1},       {"-", 1},          {"-a", 1},         {"1.", 2},
      {"1.e1", 2},     {"1e", 2},         {"1e+", 3},        {".5", 0},
      {"+1", 0},       {"tru", 3},        {"trux", 3},       {"nul", 3},
      {"True", 0},     {"\"a", 2},        {"\"\\x\"", 2},    {"\"\\u12g4\"", 5},
      {"\"\n\"", 1},   {"\"\t\"", 1},     {"[1}", 2},        {"{\"a\":1]", 6},
      {"1 1", 2},      {"{} x", 3},       {"{}}", 2},        {"'a'", 0},
      {"{a:1}", 1},    {"[1,,2]", 3},     {"NaN", 0},        {"// c\n1", 0},
      {"/**/1", 0},    {"\xef\xbb", 2},   {"\xef\xbb{}", 2}, {" \xef\xbb\xbf{}", 1},
      {"0x10", 1},     {"1_0", 1},        {"[", 1},          {"[[]", 3},
      {"\"\\ud83", 6}, {"\x0b{}", 0},     {"]", 0},          {"{\"a\":1}{\"a\":2}", 7}};
  for (const auto& [json, at] : cases)
    EXPECT_EQ(scanned({{"/a"}, {""}}, json), "malformed at " + std::to_string(at)) << json;
  for (const char* json : {"{}", "[]", "0", "-0", "1e5", "1.5E-3", "\"\"", "true", "\xef\xbb\xbf{}", "\r\n\t [ ] "}) {
    EXPECT_EQ(scanned({{"/a"}}, json), "absent") << json;
  }
}

TEST(JsonScanner, NestsToItsBoundAndNoFurther) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(scanned({{"/a"}}, nested(JsonScanner::kDepthMax)), "absent");
  EXPECT_EQ(scanned({{"/a"}}, nested(JsonScanner::kDepthMax + 1)), "too deep at 256");
  std::string objects;
  for (size_t i = 0; i < JsonScanner::kDepthMax; ++i) objects += i % 2 == 0 ? "{\"a\":" : "[";
  std::string ends;
  for (size_t i = JsonScanner::kDepthMax; i-- > 0;) ends += i % 2 == 0 ? "}" : "]";
  EXPECT_EQ(scanned({{"/b"}}, objects + "1" + ends), "absent");
}

TEST(JsonScanner, KeepsNoMoreThanItsBounds) {
  const std::string text(1000, 'x'), digits(100, '1');
  EXPECT_EQ(scanned({{"/s"}}, "{\"s\":\"" + text + "\"}"), "string " + text.substr(0, 256) + " cut");
  EXPECT_EQ(scanned({{"/n"}}, "{\"n\":" + digits + "}"), "number " + digits.substr(0, 64) + " cut");
  const std::string key(JsonPointers::kTokenBytesMax, 'k');
  EXPECT_EQ(scanned({{"/" + key}}, "{\"" + key + "\":1,\"" + key + key + "\":2}"), "number 1");
  std::string escaped;
  for (size_t i = 0; i < key.size(); ++i) escaped += "\\u006b";
  EXPECT_EQ(scanned({{"/" + key}}, "{\"" + escaped + "k\":2,\"" + escaped + "\":1}"), "number 1");
}

TEST(JsonScanner, TellsWhereAValueStands) {
  const JsonPointers pointers = compiled({{"/o"}, {"/b"}});
  const std::string json = R"( {"b" : false , "o": {"x":[1]} })";
  JsonScanner scanner(pointers);
  for (const char& c : json) scanner.feed({&c, 1});
  EXPECT_EQ(json.substr(scanner.value(0).begin, scanner.value(0).end - scanner.value(0).begin), "{\"x\":[1]}");
  EXPECT_EQ(json.substr(scanner.value(1).begin, scanner.value(1).end - scanner.value(1).begin), "false");
}

TEST(JsonScanner, ReadsOneDocumentAfterAnother) {
  const JsonPointers pointers = compiled({{"/a"}, {"/b", "x"}});
  JsonScanner scanner(pointers);
  for (const auto& [json, value] :
       std::vector<std::pair<std::string, std::string>>{{R"({"a":1,"a":2,"b":"x"})", "number 2 duplicate, absent of 1"},
                                                        {"{\"a\":", "malformed at 5"},
                                                        {R"({"A":[1]})", "absent alias, absent"},
                                                        {"{}", "absent, absent"}}) {
    scanner.reset();
    scanner.feed(json);
    scanner.finish();
    EXPECT_EQ(told(scanner, 2), value);
  }
}

TEST(JsonPointers, RefusesWhatIsNoPointerAndSaysWhy) {
  const auto refusal = [](std::vector<PointerSpec> specs) {
    const auto made = JsonPointers::compile(specs);
    return made ? std::string("compiled") : made.error().message;
  };
  EXPECT_EQ(refusal({{"a/b"}}), "JSON pointer \"a/b\": it must be empty, or begin with a slash");
  EXPECT_EQ(refusal({{"/a~2"}}), "JSON pointer \"/a~2\": after a ~ there must be a 0 or a 1");
  EXPECT_EQ(refusal({{"/a~"}}), "JSON pointer \"/a~\": after a ~ there must be a 0 or a 1");
  EXPECT_NE(refusal({{"/" + std::string(129, 'a')}}).find("longer than 128 bytes"), std::string::npos);
  std::string deep;
  for (int i = 0; i < 17; ++i) deep += "/a";
  EXPECT_NE(refusal({{deep}}).find("more than 16 tokens"), std::string::npos);
  EXPECT_EQ(refusal({{deep.substr(2)}}), "compiled");
  EXPECT_EQ(refusal(std::vector<PointerSpec>(65, {"/a"})), "there are more than 64 JSON pointers");
  EXPECT_EQ(refusal({{"/a/0"}, {"/a/*", "x"}}), "JSON pointer \"/a/*\": * stands beside another token");
  EXPECT_EQ(refusal({{"/a/*"}, {"/a/0"}}), "compiled");  // only a count has a wildcard
}

TEST(JsonPointers, TakesAStarForAKeyWhereNothingIsCounted) {
  EXPECT_EQ(scanned({{"/*"}}, R"({"*":1})"), "number 1");
  EXPECT_EQ(scanned({{"/*"}}, R"([1])"), "absent");
}

}  // namespace
}  // namespace tallygate::meter
