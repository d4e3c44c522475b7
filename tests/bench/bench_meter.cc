// User-space cost of reading amounts, per event of a stream and per answer of 8 kB. Targets: 60 ns for an event that
// has no usage, 4 µs for a JSON pointer in 8 kB.
#include <cstdio>
#include <string>
#include <vector>

#include "core/base64.h"
#include "core/env.h"
#include "sidecar/meter/decoder.h"
#include "sidecar/meter/json_scanner.h"
#include "sidecar/meter/llm_usage.h"
#include "sidecar/meter/usage_chunk.h"
#include "sidecar/meter/value_reader.h"
#include "tests/unit/sidecar_meter/aws_message.h"

using namespace tallygate;
using namespace tallygate::meter;

namespace {

// The best of several rounds, in ns for one run.
template <class Run>
double best(int runs, Run run) {
  double least = 1e18;
  for (int round = 0; round < 9; ++round) {
    const int64_t begin = system_env().mono_ns();
    for (int i = 0; i < runs; ++i) run();
    least = std::min(least, static_cast<double>(system_env().mono_ns() - begin) / runs);
  }
  return least;
}

std::string prose(size_t size) {
  std::string text;
  while (text.size() < size) text += "The quick brown fox, they say, jumps over the lazy dog.\\n";
  return text;
}

std::string records(size_t size) {
  std::string text = "{\"items\":[";
  for (int i = 0; text.size() < size; ++i) {
    text += "{\"id\":" + std::to_string(i * 7919) + ",\"name\":\"item " + std::to_string(i) +
            "\",\"price\":12.50,\"tags\":[\"a\",\"b\"],\"ok\":true},";
  }
  return text + "null],\"usage\":{\"units\":42}}";
}

void pointer(const char* name, const std::string& json) {
  const JsonPointers pointers = *JsonPointers::compile(std::vector<std::string>{"/usage/units"});
  JsonScanner scanner(pointers);
  uint64_t found = 0;
  const double ns = best(2000, [&] {
    scanner.reset();
    scanner.feed(json);
    scanner.finish();
    found += scanner.value(0).kind == JsonKind::kNumber;
  });
  std::printf("pointer in %zu bytes of %s: %.2f us%s\n", json.size(), name, ns / 1000, found == 0 ? " NOT FOUND" : "");
}

struct Stream {
  const char* name;
  LlmApi api;
  Framing framing;
  std::string first, event, last;
};

std::string sse(const std::string& type, const std::string& json) {
  return (type.empty() ? "" : "event: " + type + "\n") + "data: " + json + "\n\n";
}

std::vector<Stream> streams() {
  const std::string chat =
      R"({"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"aB3dE"})";
  const std::string claude =
      R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" a few words more"}})";
  const std::string delta =
      R"({"type":"response.output_text.delta","sequence_number":17,"item_id":"msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b","output_index":0,"content_index":0,"delta":" word","logprobs":[],"obfuscation":"aB3dE"})";
  const std::string gemini =
      R"({"candidates":[{"content":{"parts":[{"text":" a few words more of this"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":12,"totalTokenCount":19,"promptTokensDetails":[{"modality":"TEXT","tokenCount":7}]},"modelVersion":"gemini-2.5-flash","responseId":"abc"})";
  const auto message = [](const std::string& type, const std::string& payload) {
    return aws_message({{":event-type", type}, {":content-type", "application/json"}, {":message-type", "event"}},
                       payload);
  };
  const auto bytes = [](const std::string& json) {
    return "{\"bytes\":\"" + base64_encode(json) + "\",\"p\":\"abcdefghijklmn\"}";
  };
  const std::string start =
      R"({"type":"message_start","message":{"model":"m","usage":{"input_tokens":25,"output_tokens":1}}})";
  const std::string end = R"({"type":"message_delta","delta":{},"usage":{"output_tokens":500}})";
  return {
      {"OpenAI chat", LlmApi::kOpenAiChat, Framing::kSse, "", sse("", chat),
       sse("", R"({"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":500,"total_tokens":505}})")},
      {"OpenAI responses", LlmApi::kOpenAiResponses, Framing::kSse,
       sse("response.created", R"({"type":"response.created","response":{"model":"m","usage":null}})"),
       sse("response.output_text.delta", delta),
       sse("response.completed",
           R"({"type":"response.completed","response":{"status":"completed","model":"m","usage":{"input_tokens":5,"output_tokens":500,"total_tokens":505}}})")},
      {"Anthropic", LlmApi::kAnthropicMessages, Framing::kSse, sse("message_start", start),
       sse("content_block_delta", claude), sse("message_delta", end)},
      {"Gemini (usage in each)", LlmApi::kGemini, Framing::kSse, "", sse("", gemini), ""},
      {"Gemini, one array", LlmApi::kGemini, Framing::kJsonArray, "[" + gemini, ",\r\n" + gemini, "]"},
      {"Bedrock Converse", LlmApi::kBedrockConverse, Framing::kAwsEventStream, "",
       message("contentBlockDelta", R"({"contentBlockIndex":0,"delta":{"text":" a few words"},"p":"abcdefghijkl"})"),
       message("metadata", R"({"usage":{"inputTokens":5,"outputTokens":500,"totalTokens":505}})")},
      {"Bedrock Invoke", LlmApi::kBedrockInvoke, Framing::kAwsEventStream, message("chunk", bytes(start)),
       message("chunk", bytes(claude)), message("chunk", bytes(end))}};
}

constexpr int kEvents = 500;

void usage(const Stream& stream) {
  std::string body = stream.first;
  for (int i = 0; i < kEvents; ++i) body += stream.event;
  body += stream.last;
  bool known = true;
  const auto measure = [&](size_t piece) {
    return best(20,
                [&] {
                  LlmUsageReader reader(stream.api, stream.framing);
                  for (std::string_view rest = body; !rest.empty();) {
                    reader.feed(rest.substr(0, piece));
                    rest.remove_prefix(std::min(piece, rest.size()));
                  }
                  reader.finish();
                  known &= reader.usage().reported();
                }) /
           kEvents;
  };
  const double large = measure(16384), one = measure(stream.event.size());
  std::printf("%-24s %4zu bytes an event: %6.1f ns an event in 16 KiB reads, %6.1f one by one%s\n", stream.name,
              stream.event.size(), large, one, known ? "" : " NOT READ");
}

void filter(const Stream& stream) {
  std::string body;
  for (int i = 0; i < kEvents; ++i) body += stream.event;
  size_t passed = 0;
  const double ns = best(20, [&] {
    UsageChunkFilter chunks;
    std::string_view rest = body;
    for (auto part = chunks.next(rest); !part.empty(); part = chunks.next(rest)) passed += part.size();
  });
  std::printf("usage chunk filter: %.1f ns an event%s\n", ns / kEvents, passed == 0 ? " NOTHING PASSED" : "");
}

}  // namespace

int main() {
  pointer("prose", "{\"text\":\"" + prose(8000) + "\",\"usage\":{\"units\":42}}");
  pointer("records", records(8000));
  const auto all = streams();
  for (const Stream& stream : all) usage(stream);
  filter(all[0]);
  std::printf("memory of an open stream: %zu + scanner and tables of about 3 kB\n", sizeof(EventReader));
}
