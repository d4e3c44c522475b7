#include "sidecar/meter/llm_usage.h"

#include "tests/unit/sidecar_meter/llm_golden.h"
#include "tests/unit/sidecar_meter/splits.h"

namespace tallygate::meter {
namespace {

std::string told(const LlmUsage& usage) {
  std::string text;
  const auto add = [&text](const std::string& word) { text += (text.empty() ? "" : " ") + word; };
  for (size_t i = 0; i < kTokenKinds; ++i) {
    if (usage.counts[i] != LlmUsage::kUnknown) {
      add(std::string(to_string(static_cast<TokenKind>(i))) + '=' + std::to_string(usage.counts[i]));
    }
  }
  for (const auto& [flag, name] : {std::pair{usage.final, "final"},
                                   {usage.error, "error"},
                                   {usage.inconsistent, "inconsistent"},
                                   {usage.pending, "pending"},
                                   {usage.unreadable, "unreadable"}}) {
    if (flag) add(name);
  }
  if (!usage.model.empty()) add("model=" + usage.model);
  return text;
}

std::string read(const LlmCase& row, const Pieces& pieces, bool estimate) {
  LlmUsageReader reader(row.api, row.framing);
  for (const auto& [name, value] : row.headers) reader.header(name, value);
  for (const auto piece : pieces) {
    const std::string copy(piece);  // gone once it was fed
    reader.feed(copy);
  }
  reader.finish();
  EXPECT_FALSE(reader.malformed());
  std::string text = told(reader.usage());
  if (estimate) text += (text.empty() ? "estimate=" : " estimate=") + std::to_string(reader.estimated_output());
  return text;
}

TEST(LlmUsage, ReadsEachApisAnswersWhereverTheyAreSplit) {
  for (const LlmCase& row : read_llm_golden()) {
    const bool estimate = row.expect.find("estimate=") != std::string::npos;
    EXPECT_EQ(same_at_each_split(row.body, [&](const Pieces& pieces) { return read(row, pieces, estimate); }),
              row.expect)
        << to_string(row.api) << ": " << row.name;
  }
}

TEST(LlmUsage, KnowsApisByNameAndCallsByPath) {
  for (size_t i = 0; i < kLlmApis; ++i) {
    const auto api = static_cast<LlmApi>(i);
    EXPECT_EQ(llm_api_named(to_string(api)), api);
  }
  EXPECT_EQ(llm_api_named("openaichat"), std::nullopt);
  const auto call = [](std::string_view method, std::string_view path) -> std::string {
    const auto found = llm_call_of(method, path);
    if (!found) return "none";
    return std::string(to_string(found->api)) + ' ' + found->model + (found->streams ? " streams" : "");
  };
  EXPECT_EQ(call("POST", "/v1/chat/completions"), "OpenAIChat ");
  EXPECT_EQ(call("POST", "/v1/completions/"), "OpenAIChat ");
  EXPECT_EQ(call("POST", "/openai/deployments/my%20gpt/chat/completions"), "OpenAIChat my gpt");
  EXPECT_EQ(call("POST", "/v1/responses"), "OpenAIResponses ");
  EXPECT_EQ(call("POST", "/v1/messages"), "AnthropicMessages ");
  EXPECT_EQ(call("POST", "/v1beta/models/gemini-2.5-pro:generateContent"), "Gemini gemini-2.5-pro");
  EXPECT_EQ(call("POST", "/v1beta/models/gemini-2.5-pro:streamGenerateContent"), "Gemini gemini-2.5-pro streams");
  EXPECT_EQ(call("POST", "/v1/projects/p/locations/l/publishers/anthropic/models/claude-3@20240229:streamRawPredict"),
            "AnthropicMessages claude-3@20240229 streams");
  EXPECT_EQ(call("POST", "/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke"),
            "BedrockInvoke anthropic.claude-3-haiku-20240307-v1:0");
  EXPECT_EQ(call("POST", "/model/arn%3Aaws%3Abedrock%3A%3A%3Ax%2Fy/invoke-with-response-stream"),
            "BedrockInvoke arn:aws:bedrock:::x/y streams");
  EXPECT_EQ(call("POST", "/model/m/converse"), "BedrockConverse m");
  EXPECT_EQ(call("POST", "/model/m/converse-stream"), "BedrockConverse m streams");
  for (const char* path : {"/v1/messages/count_tokens", "/v1/messages/batches", "/v1/responses/resp_1/cancel",
                           "/v1/models", "/", "/v1beta/models/m:countTokens", "/v1beta/models/:generateContent",
                           "/model/m/count-tokens", "/model/invoke", "/model//invoke", "", "/v1/chat/completionsx"}) {
    EXPECT_EQ(call("POST", path), "none") << path;
  }
  EXPECT_EQ(call("GET", "/v1/responses"), "none");
}

TEST(LlmUsage, TellsABrokenFramingAndKeepsWhatCame) {
  LlmUsageReader reader(LlmApi::kBedrockConverse, Framing::kAwsEventStream);
  reader.feed(
      aws_message({{":event-type", "metadata"}}, R"({"usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3}})") +
      "no message at all");
  reader.finish();
  EXPECT_TRUE(reader.malformed());
  EXPECT_EQ(told(reader.usage()), "input=1 output=2 final");
}

TEST(LlmUsage, EventsThatCannotBeReadAreCounted) {
  LlmUsageReader sse(LlmApi::kOpenAiChat, Framing::kSse);
  sse.feed("data: {\"model\":\"m\"\n\ndata: {\"model\":\"m\",\"choices\":[{}]}\n\n");
  sse.finish();
  EXPECT_EQ(sse.unreadable_events(), 1u);
  EXPECT_EQ(sse.events(), 2u);
  LlmUsageReader aws(LlmApi::kBedrockInvoke, Framing::kAwsEventStream);
  aws.feed(aws_message({{":event-type", "chunk"}}, "{\"bytes\":\"" + std::string(100'000, 'A') + "\"}") +
           aws_message({{":event-type", "chunk"}}, "{\"bytes\":\"!\"}") +
           aws_message({{":event-type", "chunk"}}, "{}"));
  aws.finish();
  EXPECT_EQ(aws.unreadable_events(), 3u);
}

TEST(LlmUsage, EstimatesFromWhatPassed) {
  std::string stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\"}}\n\n";
  for (int i = 0; i < 50; ++i) {
    stream +=
        "event: content_block_delta\ndata: "
        "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" +
        std::string(i == 0 ? 0 : 20, 'x') + "\"}}\n\n";
  }
  LlmUsageReader reader(LlmApi::kAnthropicMessages, Framing::kSse);
  reader.feed(stream);
  reader.finish();
  EXPECT_EQ(reader.estimated_output(), 49 * 20 / 4);
}

}  // namespace
}  // namespace tallygate::meter
