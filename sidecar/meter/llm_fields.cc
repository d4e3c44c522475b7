#include "sidecar/meter/llm_fields.h"

namespace tallygate::meter {
namespace {

using F = LlmField;

struct Row {
  F field;
  const char* pointer;
  const char* equals = "";
};

LlmTable compile(const std::vector<Row>& rows) {
  std::vector<PointerSpec> specs;
  std::vector<F> fields;
  for (const Row& row : rows) {
    specs.push_back({row.pointer, row.equals});
    fields.push_back(row.field);
  }
  auto pointers = JsonPointers::compile(specs);
  TG_ASSERT(pointers.has_value());
  return {std::move(*pointers), std::move(fields)};
}

LlmTable with_pairs(std::vector<Row> rows, const std::vector<std::array<std::string, 3>>& lists,
                    const std::vector<F>& fields, int entries) {
  std::vector<std::string> pointers;
  pointers.reserve(lists.size() * 2 * static_cast<size_t>(entries));
  for (size_t list = 0; list < lists.size(); ++list) {
    for (int i = 0; i < entries; ++i) {
      const std::string entry = lists[list][0] + '/' + std::to_string(i) + '/';
      for (size_t part = 0; part < 2; ++part) {
        pointers.push_back(entry + lists[list][part + 1]);
        rows.push_back({fields[list * 2 + part], pointers.back().c_str()});
      }
    }
  }
  return compile(rows);
}

LlmTable open_ai_chat() {
  return compile({{F::kIn, "/usage/prompt_tokens"},
                  {F::kOut, "/usage/completion_tokens"},
                  {F::kTotal, "/usage/total_tokens"},
                  {F::kCached, "/usage/prompt_tokens_details/cached_tokens"},
                  {F::kAudioIn, "/usage/prompt_tokens_details/audio_tokens"},
                  {F::kReasoning, "/usage/completion_tokens_details/reasoning_tokens"},
                  {F::kAudioOut, "/usage/completion_tokens_details/audio_tokens"},
                  {F::kModel, "/model"},
                  {F::kChoices, "/choices"},
                  {F::kError, "/error"}});
}

// A whole answer, or an event that has it under `response`.
LlmTable open_ai_responses() {
  return compile({{F::kIn, "/usage/input_tokens"},
                  {F::kOut, "/usage/output_tokens"},
                  {F::kTotal, "/usage/total_tokens"},
                  {F::kCached, "/usage/input_tokens_details/cached_tokens"},
                  {F::kReasoning, "/usage/output_tokens_details/reasoning_tokens"},
                  {F::kModel, "/model"},
                  {F::kStatus, "/status"},
                  {F::kError, "/error"},
                  {F::kChoices, "/output"},
                  {F::kWebSearches, "/output/*/type", "web_search_call"},
                  {F::kFileSearches, "/output/*/type", "file_search_call"},
                  {F::kCodeRuns, "/output/*/type", "code_interpreter_call"},
                  {F::kIn, "/response/usage/input_tokens"},
                  {F::kOut, "/response/usage/output_tokens"},
                  {F::kTotal, "/response/usage/total_tokens"},
                  {F::kCached, "/response/usage/input_tokens_details/cached_tokens"},
                  {F::kReasoning, "/response/usage/output_tokens_details/reasoning_tokens"},
                  {F::kModel, "/response/model"},
                  {F::kStatus, "/response/status"},
                  {F::kError, "/response/error"},
                  {F::kChoices, "/response/output"},
                  {F::kWebSearches, "/response/output/*/type", "web_search_call"},
                  {F::kFileSearches, "/response/output/*/type", "file_search_call"},
                  {F::kCodeRuns, "/response/output/*/type", "code_interpreter_call"},
                  {F::kType, "/type"}});
}

// A whole message and message_delta have `usage` at the top, message_start under `message`.
std::vector<Row> anthropic_rows() {
  return {{F::kIn, "/usage/input_tokens"},
          {F::kOut, "/usage/output_tokens"},
          {F::kCached, "/usage/cache_read_input_tokens"},
          {F::kWrite, "/usage/cache_creation_input_tokens"},
          {F::kWrite5m, "/usage/cache_creation/ephemeral_5m_input_tokens"},
          {F::kWrite1h, "/usage/cache_creation/ephemeral_1h_input_tokens"},
          {F::kWebSearches, "/usage/server_tool_use/web_search_requests"},
          {F::kWebFetches, "/usage/server_tool_use/web_fetch_requests"},
          {F::kModel, "/model"},
          {F::kIn, "/message/usage/input_tokens"},
          {F::kOut, "/message/usage/output_tokens"},
          {F::kCached, "/message/usage/cache_read_input_tokens"},
          {F::kWrite, "/message/usage/cache_creation_input_tokens"},
          {F::kWrite5m, "/message/usage/cache_creation/ephemeral_5m_input_tokens"},
          {F::kWrite1h, "/message/usage/cache_creation/ephemeral_1h_input_tokens"},
          {F::kWebSearches, "/message/usage/server_tool_use/web_search_requests"},
          {F::kWebFetches, "/message/usage/server_tool_use/web_fetch_requests"},
          {F::kModel, "/message/model"},
          {F::kType, "/type"}};
}

LlmTable gemini() {
  return with_pairs({{F::kIn, "/usageMetadata/promptTokenCount"},
                     {F::kOut, "/usageMetadata/candidatesTokenCount"},
                     {F::kTotal, "/usageMetadata/totalTokenCount"},
                     {F::kCached, "/usageMetadata/cachedContentTokenCount"},
                     {F::kReasoning, "/usageMetadata/thoughtsTokenCount"},
                     {F::kToolIn, "/usageMetadata/toolUsePromptTokenCount"},
                     {F::kWebSearches, "/candidates/0/groundingMetadata/webSearchQueries"},
                     {F::kModel, "/modelVersion"},
                     {F::kFinish, "/candidates/0/finishReason"},
                     {F::kFinish, "/promptFeedback/blockReason"},
                     {F::kError, "/error"}},
                    {{"/usageMetadata/promptTokensDetails", "modality", "tokenCount"},
                     {"/usageMetadata/cacheTokensDetails", "modality", "tokenCount"},
                     {"/usageMetadata/candidatesTokensDetails", "modality", "tokenCount"}},
                    {F::kPromptModality, F::kPromptModalityTokens, F::kCacheModality, F::kCacheModalityTokens,
                     F::kOutModality, F::kOutModalityTokens},
                    5);
}

LlmTable bedrock_invoke() {
  std::vector<Row> rows = anthropic_rows();
  for (const Row row : {Row{F::kMetricIn, "/amazon-bedrock-invocationMetrics/inputTokenCount"},
                        Row{F::kMetricOut, "/amazon-bedrock-invocationMetrics/outputTokenCount"},
                        Row{F::kMetricCached, "/amazon-bedrock-invocationMetrics/cacheReadInputTokenCount"},
                        Row{F::kMetricWrite, "/amazon-bedrock-invocationMetrics/cacheWriteInputTokenCount"},
                        Row{F::kText, "/delta/text"}}) {
    rows.push_back(row);
  }
  return compile(rows);
}

LlmTable bedrock_converse() {
  return with_pairs({{F::kIn, "/usage/inputTokens"},
                     {F::kOut, "/usage/outputTokens"},
                     {F::kTotal, "/usage/totalTokens"},
                     {F::kCached, "/usage/cacheReadInputTokens"},
                     {F::kWrite, "/usage/cacheWriteInputTokens"},
                     {F::kModel, "/trace/promptRouter/invokedModelId"},
                     {F::kText, "/delta/text"}},
                    {{"/usage/cacheDetails", "ttl", "inputTokens"}}, {F::kTtl, F::kTtlTokens}, 4);
}

}  // namespace

const LlmTable& llm_table(LlmApi api) {
  static const LlmTable kChat = open_ai_chat(), kResponses = open_ai_responses(),
                        kAnthropic = compile(anthropic_rows()), kGemini = gemini(), kInvoke = bedrock_invoke(),
                        kConverse = bedrock_converse();
  switch (api) {
    case LlmApi::kOpenAiChat:
      return kChat;
    case LlmApi::kOpenAiResponses:
      return kResponses;
    case LlmApi::kAnthropicMessages:
      return kAnthropic;
    case LlmApi::kGemini:
      return kGemini;
    case LlmApi::kBedrockInvoke:
      return kInvoke;
    case LlmApi::kBedrockConverse:
      break;
  }
  return kConverse;
}

const LlmTable& bedrock_wrapper_table() {
  static const LlmTable kTable = compile({{F::kBytes, "/bytes"}});
  return kTable;
}

}  // namespace tallygate::meter
