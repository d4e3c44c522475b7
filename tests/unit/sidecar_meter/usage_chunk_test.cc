#include "sidecar/meter/usage_chunk.h"

#include "tests/unit/sidecar_meter/splits.h"

namespace tallygate::meter {
namespace {

std::string asked(std::string body) {
  const auto edit = ask_for_usage(body);
  if (!edit) return "refused: " + edit.error().message;
  edit->apply(&body);
  return body + (edit->streams ? edit->client_asked ? " (asked)" : " (remove)" : "");
}

TEST(AskForUsage, AddsTheOptionAndChangesNothingElse) {
  EXPECT_EQ(asked(R"({ "model":"m", "stream" : true })"),
            R"({"stream_options":{"include_usage":true}, "model":"m", "stream" : true } (remove))");
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":null})"),
            R"({"stream":true,"stream_options":{"include_usage":true}} (remove))");
  EXPECT_EQ(asked(R"({"stream_options":{},"stream":true})"),
            R"({"stream_options":{"include_usage":true},"stream":true} (remove))");
  EXPECT_EQ(asked(R"({"stream_options": { "x" : 1 },"stream":true})"),
            R"({"stream_options": {"include_usage":true, "x" : 1 },"stream":true} (remove))");
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":{"include_usage": false }})"),
            R"({"stream":true,"stream_options":{"include_usage": true }} (remove))");
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":{"include_usage":null}})"),
            R"({"stream":true,"stream_options":{"include_usage":true}} (remove))");
  EXPECT_EQ(asked("\xef\xbb\xbf{\"stream\":true}"),
            "\xef\xbb\xbf{\"stream_options\":{\"include_usage\":true},\"stream\":true} (remove)");
}

TEST(AskForUsage, LeavesTheRestAlone) {
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":{"include_usage":true}})"),
            R"({"stream":true,"stream_options":{"include_usage":true}} (asked))");
  EXPECT_EQ(asked(R"({"stream":false})"), R"({"stream":false})");
  EXPECT_EQ(asked(R"({"stream":"true"})"), R"({"stream":"true"})");
  EXPECT_EQ(asked("{}"), "{}");
  EXPECT_EQ(asked(R"({"messages":[{"stream":true}]})"), R"({"messages":[{"stream":true}]})");
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":[]})"), R"({"stream":true,"stream_options":[]} (remove))");
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":{"include_usage":1}})"),
            R"({"stream":true,"stream_options":{"include_usage":1}} (remove))");
}

TEST(AskForUsage, RefusesWhatAppsReadInTwoWays) {
  EXPECT_EQ(asked(R"({"stream":true,"stream":false})"), "refused: \"stream\" is there twice");
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":{},"stream_options":{}})"),
            "refused: \"stream_options\" is there twice");
  EXPECT_EQ(asked(R"({"stream":true,"stream_options":{"include_usage":true,"include_usage":false}})"),
            "refused: \"include_usage\" is there twice");
  EXPECT_EQ(asked("[]"), "refused: the body is no JSON object");
  EXPECT_EQ(asked("{"), "refused: the body is no JSON text");
  EXPECT_EQ(asked(""), "refused: the body is no JSON text");
}

std::string filtered(std::string_view stream) {
  return same_at_each_split(stream, [](const Pieces& pieces) {
    UsageChunkFilter filter;
    std::string passed;
    for (std::string_view piece : pieces) {
      for (;;) {
        const auto part = filter.next(piece);
        if (part.empty()) break;
        passed += part;
      }
      EXPECT_TRUE(piece.empty());
    }
    passed += filter.finish();
    return passed + "(removed " + std::to_string(filter.chunks_removed()) + ')';
  });
}

TEST(UsageChunkFilter, TakesTheUsageChunkOutWithEachEndOfLine) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    const std::string one = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}" + end + end;
    const std::string chunk = "data: {\"choices\": [], \"usage\":{\"prompt_tokens\":1}}" + end + end;
    const std::string done = "data: [DONE]" + end + end;
    EXPECT_EQ(filtered(one + one + chunk + done), one + one + done + "(removed 1)");
    EXPECT_EQ(filtered(chunk + chunk), "(removed 2)");
    EXPECT_EQ(filtered(one + chunk.substr(0, chunk.size() - 2 * end.size())), one + "(removed 1)");
    EXPECT_EQ(filtered(chunk + one), one + "(removed 1)");
  }
}

TEST(UsageChunkFilter, PassesEverythingElse) {
  for (const std::string stream :
       {"data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n", "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        ": ping\n\n\n\ndata: x", "data: {\"x\":{\"choices\":[],\"usage\":{}}}\n\n",
        "data: {\"error\":{\"message\":\"no\"}}\n\n", "data: [DONE]\n\n", "",
        "data: {\"choices\":[],\"usage\":{\"a\":1}\n\n", "\n\n\n"}) {
    EXPECT_EQ(filtered(stream), stream + "(removed 0)");
  }
}

TEST(UsageChunkFilter, HoldsNoMoreThanItsBound) {
  const std::string large =
      "data: {\"choices\":[],\"usage\":{\"x\":\"" + std::string(2 * UsageChunkFilter::kHeldBytesMax, 'x') + "\"}}\n\n";
  UsageChunkFilter filter;
  std::string passed;
  for (std::string_view rest = large; !rest.empty();) {
    std::string_view piece = rest.substr(0, 1000);
    rest.remove_prefix(piece.size());
    for (auto part = filter.next(piece); !part.empty(); part = filter.next(piece)) passed += part;
  }
  passed += filter.finish();
  EXPECT_EQ(passed, large);
}

}  // namespace
}  // namespace tallygate::meter
