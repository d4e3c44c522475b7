// Where each API reports what, and what its numbers mean. The numbers as reported are `Fields`; tokens_of() makes
// disjoint kinds of them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "sidecar/meter/json_pointers.h"
#include "sidecar/meter/json_scanner.h"
#include "sidecar/meter/llm_usage.h"

namespace tallygate::meter {

enum class LlmField : uint8_t {
  kIn,
  kOut,
  kTotal,
  kCached,
  kWrite,
  kWrite5m,
  kWrite1h,
  kReasoning,
  kToolIn,
  kAudioIn,
  kAudioOut,
  kMetricIn,
  kMetricOut,
  kMetricCached,
  kMetricWrite,  // Bedrock's own, beside those of the model's body
  kWebSearches,
  kWebFetches,
  kFileSearches,
  kCodeRuns,
  // Not numbers. kChoices: the list of what was generated.
  kModel,
  kType,
  kStatus,
  kChoices,
  kError,
  kFinish,
  kText,
  kBytes,
  // Lists of pairs, name and number. Up to five of each: there are as many modalities.
  kPromptModality,
  kPromptModalityTokens,
  kCacheModality,
  kCacheModalityTokens,
  kOutModality,
  kOutModalityTokens,
  kTtl,
  kTtlTokens,
};
inline constexpr size_t kLlmNumbers = static_cast<size_t>(LlmField::kModel);

struct LlmFields {
  std::array<int64_t, kLlmNumbers> numbers;
  LlmFields() { numbers.fill(LlmUsage::kUnknown); }
  int64_t operator[](LlmField field) const { return numbers[static_cast<size_t>(field)]; }
  int64_t& operator[](LlmField field) { return numbers[static_cast<size_t>(field)]; }
  int64_t or_zero(LlmField field) const { return (*this)[field] < 0 ? 0 : (*this)[field]; }
};

// An API's pointers, compiled, and which field each is.
struct LlmTable {
  JsonPointers pointers;
  std::vector<LlmField> fields;
};
const LlmTable& llm_table(LlmApi api);
// Of the messages of InvokeModelWithResponseStream, whose data is in `bytes`.
const LlmTable& bedrock_wrapper_table();

// Sets counts and `inconsistent`.
void tokens_of(LlmApi api, const LlmFields& fields, LlmUsage* usage);

}  // namespace tallygate::meter
