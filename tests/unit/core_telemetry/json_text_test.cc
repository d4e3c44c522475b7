#include "core/telemetry/json_text.h"

#include <gtest/gtest.h>

#include <limits>

namespace tallygate {
namespace {

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonText, EscapesWhatJsonForbids) {
  EXPECT_EQ(quoted("a\"b\\c\n\r\t"), R"("a\"b\\c\n\r\t")");
  EXPECT_EQ(quoted(std::string_view("\0\x1f\x7f", 3)), R"("\u0000\u001f\u007f")");
  EXPECT_EQ(quoted("grün €🙂"), "\"grün €🙂\"");
}

TEST(JsonText, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(quoted("\xff"), R"("\ufffd")");
  EXPECT_EQ(quoted("\xc0\xaf"), R"("\ufffd\ufffd")") << "overlong";
  EXPECT_EQ(quoted("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")") << "surrogate";
  EXPECT_EQ(quoted("\xf4\x90\x80\x80"), R"("\ufffd\ufffd\ufffd\ufffd")") << "past U+10FFFF";
  EXPECT_EQ(quoted("a\xe2\x82"), R"("a\ufffd\ufffd")") << "cut off";
}

TEST(JsonText, NumbersReadBackTheSame) {
  std::string out;
  append_json_number(out, 0.1);
  out += ' ';
  append_json_number(out, std::numeric_limits<double>::infinity());
  EXPECT_EQ(out, "0.1 null");
}

TEST(JsonText, WriterPutsTheCommas) {
  JsonWriter json;
  json.begin_object();
  json.key("a");
  json.begin_array();
  json.value(1);
  json.begin_object();
  json.end_object();
  json.value("x");
  json.end_array();
  json.key("b");
  json.value(true);
  json.key("c");
  json.null();
  json.key("d");
  json.value(uint64_t{18446744073709551615u});
  json.end_object();
  EXPECT_EQ(json.text(), R"({"a":[1,{},"x"],"b":true,"c":null,"d":18446744073709551615})");
}

}  // namespace
}  // namespace tallygate
