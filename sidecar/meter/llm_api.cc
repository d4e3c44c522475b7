// Which API a call is of: by method, path and media type.
#include <array>

#include "sidecar/meter/llm_usage.h"

namespace tallygate::meter {
namespace {

constexpr std::array<std::string_view, kLlmApis> kApiNames{"OpenAIChat", "OpenAIResponses", "AnthropicMessages",
                                                           "Gemini",     "BedrockInvoke",   "BedrockConverse"};
constexpr std::array<std::string_view, kTokenKinds> kKindNames{
    "input",       "cached_input", "cache_write_5m", "cache_write_1h", "output",        "reasoning",
    "audio_input", "audio_output", "web_searches",   "web_fetches",    "file_searches", "code_runs"};

struct Action {
  std::string_view name;
  LlmApi api;
  bool streams;
};
// Behind a model's name and a colon.
constexpr Action kVerbs[] = {{"generateContent", LlmApi::kGemini, false},
                             {"streamGenerateContent", LlmApi::kGemini, true}};
constexpr Action kVertexVerbs[] = {{"rawPredict", LlmApi::kAnthropicMessages, false},
                                   {"streamRawPredict", LlmApi::kAnthropicMessages, true}};
// Behind /model/NAME/.
constexpr Action kBedrockActions[] = {{"invoke", LlmApi::kBedrockInvoke, false},
                                      {"invoke-with-response-stream", LlmApi::kBedrockInvoke, true},
                                      {"converse", LlmApi::kBedrockConverse, false},
                                      {"converse-stream", LlmApi::kBedrockConverse, true}};

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

constexpr size_t kModelBytesMax = 256;

std::string decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size() && out.size() < kModelBytesMax; ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      out += static_cast<char>(hex(text[i + 1]) << 4 | hex(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::optional<LlmCall> of_action(std::span<const Action> actions, std::string_view name, std::string_view model) {
  for (const Action& action : actions) {
    if (action.name == name && !model.empty()) return LlmCall{action.api, decoded(model), action.streams};
  }
  return std::nullopt;
}

// Azure's: /openai/deployments/NAME/chat/completions.
std::string deployment(std::string_view path) {
  constexpr std::string_view kDeployments = "/deployments/";
  const size_t at = path.find(kDeployments);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = path.substr(at + kDeployments.size());
  return decoded(rest.substr(0, rest.find('/')));
}

}  // namespace

std::string_view to_string(LlmApi api) { return kApiNames[static_cast<size_t>(api)]; }
std::string_view to_string(TokenKind kind) { return kKindNames[static_cast<size_t>(kind)]; }

std::optional<LlmApi> llm_api_named(std::string_view name) {
  for (size_t i = 0; i < kApiNames.size(); ++i) {
    if (kApiNames[i] == name) return static_cast<LlmApi>(i);
  }
  return std::nullopt;
}

std::optional<LlmCall> llm_call_of(std::string_view method, std::string_view path) {
  if (method != "POST") return std::nullopt;
  if (path.ends_with('/')) path.remove_suffix(1);
  if (path.ends_with("/chat/completions") || path.ends_with("/completions")) {
    return LlmCall{LlmApi::kOpenAiChat, deployment(path), false};
  }
  if (path.ends_with("/responses")) return LlmCall{LlmApi::kOpenAiResponses, "", false};
  if (path.ends_with("/messages")) return LlmCall{LlmApi::kAnthropicMessages, "", false};
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view last = path.substr(slash + 1);
  if (const size_t colon = last.rfind(':'); colon != std::string_view::npos) {
    const std::string_view verb = last.substr(colon + 1), model = last.substr(0, colon);
    if (path.substr(0, slash).ends_with("/publishers/anthropic/models")) return of_action(kVertexVerbs, verb, model);
    return of_action(kVerbs, verb, model);
  }
  constexpr std::string_view kModel = "/model/";
  const size_t model = path.find(kModel);
  if (model == std::string_view::npos || model + kModel.size() > slash) return std::nullopt;
  return of_action(kBedrockActions, last, path.substr(model + kModel.size(), slash - model - kModel.size()));
}

Framing llm_framing(LlmApi api, std::string_view content_type) {
  const Framing framing = framing_of(content_type);
  return api == LlmApi::kGemini && framing == Framing::kWhole ? Framing::kJsonArray : framing;
}

bool LlmUsage::reported() const {
  return (*this)[TokenKind::kInput] != kUnknown && (*this)[TokenKind::kOutput] != kUnknown;
}

}  // namespace tallygate::meter
