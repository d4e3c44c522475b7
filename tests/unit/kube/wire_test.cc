#include "operator/kube/wire.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "operator/kube/json_scan.h"

namespace tallygate::kube {
namespace {

const ResourceType kPod = {"", "v1", "pods", "Pod", true};

std::string members(std::string_view text) {
  std::string out;
  const bool whole = json::each_member(text, [&](std::string_view key, std::string_view value) {
    out.append(key).append("=").append(value).append("|");
    return true;
  });
  return whole ? out : "not an object";
}

TEST(JsonScan, FindsMembersAndItemsAsTheyStand) {
  EXPECT_EQ(members("{}"), "");
  EXPECT_EQ(members(" { } "), "");
  EXPECT_EQ(members(R"({"a":1,"b" : "x\"}" , "c":{"d":[{}]},"e":[1, 2],"f":null,"g":-1.5e3})"),
            R"(a=1|b="x\"}"|c={"d":[{}]}|e=[1, 2]|f=null|g=-1.5e3|)");
  EXPECT_EQ(members(R"({"a\"b":"\\","c":"\\\"\\\\"})"), R"(a\"b="\\"|c="\\\"\\\\"|)");
  for (const char* bad :
       {"", "[]", "1", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":\"", "{\"a\":\"\\\"}", "{a:1}",
        "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{\"a\":{}", "{\"a\":[}", "{}x", "{\"a\":}", "{,}"}) {
    EXPECT_EQ(members(bad), "not an object") << bad;
  }
  int items = 0;
  EXPECT_TRUE(json::each_item("[1,\"]\",{},[[]]]", [&](std::string_view) { return ++items > 0; }));
  EXPECT_EQ(items, 4);
  EXPECT_TRUE(json::each_item("[1,2", [&](std::string_view) { return false; })) << "what was not walked is not judged";
  EXPECT_FALSE(json::each_item("[1,2", [&](std::string_view) { return true; }));
  EXPECT_EQ(json::string_of(R"("a\u00e9\"\n")"), "aé\"\n");
  EXPECT_EQ(json::string_of("12") + json::string_of("\"") + json::string_of(R"("\x")"), "");
  EXPECT_EQ(json::integer_of("42"), 42);
  EXPECT_EQ(json::integer_of("\"42\""), 0);
}

// Every text that a real parser takes is walked the same way; what is cut off anywhere is not taken.
TEST(JsonScan, AgreesWithAParser) {
  const std::string text =
      R"({"metadata":{"name":"ä\"\\","labels":{"a/b":"{[","c":""},"list":[[],{},[{"x":[1,true,null]}]]},"spec":"\\\\"})";
  const auto parsed = nlohmann::json::parse(text);
  size_t count = 0;
  ASSERT_TRUE(json::each_member(text, [&](std::string_view key, std::string_view value) {
    EXPECT_EQ(nlohmann::json::parse(value), parsed[std::string(key)]);
    return ++count > 0;
  }));
  EXPECT_EQ(count, parsed.size());
  for (size_t size = 0; size < text.size(); ++size) EXPECT_EQ(members(text.substr(0, size)), "not an object") << size;
}

// Whatever comes, nothing is read beyond it; and what a parser takes for an object, this takes too.
TEST(JsonScan, BearsAnything) {
  const std::string text =
      R"({"type":"ADDED","object":{"metadata":{"name":"a\\\"","resourceVersion":"5","managedFields":[{"f":{}}]},"n":[1,-2.5e3,null]}})";
  std::mt19937 random(20260101);
  const std::string_view alphabet = "{}[],:\"\\ \nax0-.";
  int accepted = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string mutated = text;
    for (auto edits = random() % 3 + 1; edits > 0; --edits) {
      const size_t at = random() % mutated.size();
      switch (random() % 3) {
        case 0:
          mutated[at] = alphabet[random() % alphabet.size()];
          break;
        case 1:
          mutated.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        default:
          mutated.erase(at, 1 + random() % 8);
      }
      if (mutated.empty()) mutated = "{";
    }
    const std::vector<char> exact(mutated.begin(), mutated.end());  // so that a sanitizer sees the end
    const std::string_view view(exact.data(), exact.size());
    const auto parsed = nlohmann::json::parse(view, nullptr, false);
    if (parsed.is_object()) {
      ++accepted;
      EXPECT_NE(members(view), "not an object") << mutated;
    }
    auto event = wire::read_event(view, kPod);
    if (event) drop_managed_fields(event->object);
    if (event && parsed.is_object()) {
      EXPECT_TRUE(nlohmann::json::accept(event->object.json)) << mutated << "\n" << event->object.json;
    }
  }
  EXPECT_GT(accepted, 200);
}

TEST(Wire, ReadsAPageAndGivesItsItemsTheirKind) {
  const auto page = wire::read_page(
      R"({"kind":"PodList","metadata":{"resourceVersion":"12","continue":"n\u0065xt","remainingItemCount":3},"items":[)"
      R"({"metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"7","generation":3}},)"
      R"({"kind":"X","metadata":{"name":"c","deletionTimestamp":"2026-01-01T00:00:00Z"}}]})",
      kPod);
  ASSERT_TRUE(page) << page.error().message;
  EXPECT_EQ(page->resource_version, "12");
  EXPECT_EQ(page->continue_from, "next");
  ASSERT_EQ(page->objects.size(), 2u);
  const Object& first = page->objects[0];
  EXPECT_EQ(first.name.str() + first.uid + first.resource_version, "b/au7");
  EXPECT_EQ(first.generation, 3);
  EXPECT_FALSE(first.deleting);
  EXPECT_TRUE(first.json.starts_with(R"({"kind":"Pod","apiVersion":"v1","metadata")")) << first.json;
  EXPECT_TRUE(page->objects[1].deleting);
  EXPECT_TRUE(page->objects[1].json.starts_with(R"({"kind":"X")"));
  EXPECT_TRUE(wire::read_page(R"({"metadata":{"resourceVersion":"1"},"items":null})", kPod)) << "none";
}

TEST(Wire, TakesManagedFieldsOutWhereverTheyStand) {
  for (const std::string managed :
       {R"("managedFields":[{"f":{"a":"]"}}],"name":"a")", R"("name":"a","managedFields":[{"f":{"a":"]"}}])",
        R"("x":1, "managedFields" : [ ] , "name":"a")", R"("managedFields":[])", R"("name":"a")",
        R"("labels":{"managedFields":"mine"},"name":"a")"}) {
    Object object;
    object.json = R"({"metadata":{)" + managed + R"(},"spec":{"managedFields":[1]}})";
    auto expected = nlohmann::json::parse(object.json);
    expected["metadata"].erase("managedFields");
    drop_managed_fields(object);
    EXPECT_EQ(nlohmann::json::parse(object.json, nullptr, false), expected) << object.json;
  }
  Object odd;
  odd.json = "nonsense";
  drop_managed_fields(odd);
  EXPECT_EQ(odd.json, "nonsense");
}

TEST(Wire, ReadsEvents) {
  const auto event = [](const std::string& type, const std::string& object) {
    return wire::read_event(R"({"type":")" + type + R"(","object":)" + object + "}", kPod);
  };
  const std::string pod = R"({"metadata":{"name":"a","resourceVersion":"5"}})";
  EXPECT_EQ(event("ADDED", pod)->type, WatchEvent::Type::kAdded);
  EXPECT_EQ(event("MODIFIED", pod)->object.resource_version, "5");
  EXPECT_EQ(event("DELETED", pod)->object.name.name, "a");
  EXPECT_EQ(event("BOOKMARK", R"({"metadata":{"resourceVersion":"9"}})")->object.resource_version, "9");
  const auto errc = [&](const std::string& type, const std::string& object) {
    return event(type, object).error().errc;
  };
  EXPECT_EQ(errc("ERROR", R"({"code":410,"message":"too old"})"), Errc::kConflict);
  EXPECT_EQ(errc("ERROR", R"({"code":504,"details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}})"),
            Errc::kConflict);
  EXPECT_EQ(errc("ERROR", R"({"code":500})"), Errc::kUnavailable);
  EXPECT_EQ(errc("ERROR", "[]"), Errc::kUnavailable);
  EXPECT_EQ(errc("ODD", pod), Errc::kConflict);
  EXPECT_EQ(errc("ADDED", R"({"metadata":{"name":"a"}})"), Errc::kConflict);
  EXPECT_EQ(errc("ADDED", R"({"metadata":{"resourceVersion":"5"}})"), Errc::kConflict);
  EXPECT_EQ(wire::read_event("", kPod).error().errc, Errc::kConflict);
  EXPECT_EQ(wire::read_event("{\"type\":\"ADDED\"", kPod).error().errc, Errc::kConflict);
}

TEST(Wire, SplitsLinesWhereverTheyAreCut) {
  const std::string text = "one\n\r\ntwo\n\nthree\r\n";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    wire::Lines lines;
    std::string got;
    for (size_t at = 0; at < text.size(); at += piece) {
      ASSERT_TRUE(lines.take(std::string_view(text).substr(at, piece), [&](std::string_view line) {
        got.append(line).append("|");
        return true;
      }));
    }
    EXPECT_EQ(got, "one|two|three\r|") << piece;
  }
}

}  // namespace
}  // namespace tallygate::kube
