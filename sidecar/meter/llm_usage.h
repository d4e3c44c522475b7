// Tokens of an LLM's answer, as its API reports them: each field read at its exact path, the last value per field,
// never summed over events. A `usage` anywhere else (in a model's text, in a tool's output) is not seen.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sidecar/meter/event_reader.h"

namespace tallygate::meter {

enum class LlmApi : uint8_t {
  kOpenAiChat,  // chat completions, and completions
  kOpenAiResponses,
  kAnthropicMessages,
  kGemini,           // generateContent, streamGenerateContent
  kBedrockInvoke,    // InvokeModel of an Anthropic model, and its stream
  kBedrockConverse,  // Converse and ConverseStream
};
inline constexpr size_t kLlmApis = 6;
// As policies say it: "OpenAIChat", "OpenAIResponses", "AnthropicMessages", "Gemini", "BedrockInvoke",
// "BedrockConverse".
std::string_view to_string(LlmApi api);
std::optional<LlmApi> llm_api_named(std::string_view name);

struct LlmCall {
  LlmApi api = LlmApi::kOpenAiChat;
  std::string model;     // where the path says it, percent-decoded; else empty
  bool streams = false;  // where the path says it: Gemini, Bedrock
};
// By the path of a call that generates; nothing for all else (token counts, batches, stored answers): `path` as it
// came, without the query. Prefixes that gateways and clouds put before it are allowed.
std::optional<LlmCall> llm_call_of(std::string_view method, std::string_view path);
// How the answer is framed. Gemini streams one JSON array unless `alt=sse` was asked for: told by the type.
Framing llm_framing(LlmApi api, std::string_view content_type);

// Disjoint: no token is in two of them. What comes in is kInput + kCachedInput + both kCacheWrite + kAudioInput, what
// goes out kOutput + kReasoning + kAudioOutput.
enum class TokenKind : uint8_t {
  kInput,  // fresh: neither cached, nor written to a cache, nor audio
  kCachedInput,
  kCacheWrite5m,  // where the API does not tell how long it is kept: here
  kCacheWrite1h,
  kOutput,  // neither reasoning nor audio; of APIs that do not tell reasoning apart, with it
  kReasoning,
  kAudioInput,
  kAudioOutput,
  // Calls of tools that the API itself runs: counts, not tokens.
  kWebSearches,
  kWebFetches,
  kFileSearches,
  kCodeRuns,
};
inline constexpr size_t kTokenKinds = 12;
std::string_view to_string(TokenKind kind);  // "input", "cached_input", "cache_write_5m", …

struct LlmUsage {
  static constexpr int64_t kUnknown = -1;  // not reported; that is not zero
  std::array<int64_t, kTokenKinds> counts;
  // The API's last word came: not a stream that broke off before it.
  bool final = false;
  // An error was reported inside the answer (an event, an exception, `error` at the top): what is counted was
  // delivered.
  bool error = false;
  // The parts do not add up to the API's own total, or a part is more than its whole: the counts are the larger
  // reading.
  bool inconsistent = false;
  // The answer is one that only says it will come: Responses with `background`.
  bool pending = false;
  // A number at a field's path was none that counts (negative, a fraction, beyond 2^53 − 1): that field is unknown.
  bool unreadable = false;
  std::string model;  // as the answer says it, at most 256 bytes; else empty

  LlmUsage() { counts.fill(kUnknown); }
  int64_t operator[](TokenKind kind) const { return counts[static_cast<size_t>(kind)]; }
  bool reported() const;  // input and output are known
};

class LlmUsageReader {
 public:
  LlmUsageReader(LlmApi api, Framing framing);
  ~LlmUsageReader();
  LlmUsageReader(LlmUsageReader&&) noexcept;
  LlmUsageReader& operator=(LlmUsageReader&&) noexcept;

  // Fields of the answer's head, names in lower case: Bedrock counts there too. The body's word goes before them.
  void header(std::string_view lower_name, std::string_view value);
  void feed(std::string_view body);  // decoded
  void finish();
  // Any time; complete after finish().
  LlmUsage usage() const;

  // For answers whose usage never came: the output in tokens as far as it can be told from what passed. OpenAI's
  // streams send about a token an event: their events that generate. Others: four bytes of text are a token, and an
  // event at least one; Anthropic's and Gemini's text is what an event has above the smallest one, since they are alike
  // but for it. A whole answer: four bytes of it.
  int64_t estimated_output() const;
  uint64_t events() const;
  uint64_t unreadable_events() const;  // no JSON, or larger than what can be held (Bedrock's base64: 64 KiB)
  bool malformed() const;              // the framing broke

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tallygate::meter
