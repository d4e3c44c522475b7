// What an API's numbers mean. They overlap in different ways: OpenAI's and Gemini's prompt has what was cached in it,
// Anthropic's and Bedrock's has not; OpenAI's completion has the reasoning in it, Gemini's has it in some versions.
// Where that differs between servers of one API, their total decides; where it cannot, the larger reading stands,
// marked.
#include <algorithm>

#include "sidecar/meter/llm_fields.h"

namespace tallygate::meter {
namespace {

using F = LlmField;
using K = TokenKind;

class Counts {
 public:
  Counts(const LlmFields& fields, LlmUsage* usage) : f_(fields), usage_(usage) {}

  void set(K kind, int64_t count) { usage_->counts[static_cast<size_t>(kind)] = count; }
  void copy(K kind, F field) { set(kind, f_[field]); }
  // What is left of a whole without its parts; a whole that was not reported stays unknown.
  void set_rest(K kind, F whole, int64_t parts, int64_t more = 0) {
    if (f_[whole] < 0) return;
    set(kind, more + std::max<int64_t>(f_[whole] - parts, 0));
    if (parts > f_[whole]) contradiction();
  }
  void contradiction() { usage_->inconsistent = true; }
  bool adds_up(int64_t sum) const { return f_[F::kTotal] < 0 || f_[F::kTotal] == sum; }

 private:
  const LlmFields& f_;
  LlmUsage* usage_;
};

void open_ai(const LlmFields& f, Counts counts) {
  counts.copy(K::kCachedInput, F::kCached);
  counts.copy(K::kAudioInput, F::kAudioIn);
  counts.copy(K::kReasoning, F::kReasoning);
  counts.copy(K::kAudioOutput, F::kAudioOut);
  counts.set_rest(K::kInput, F::kIn, f.or_zero(F::kCached) + f.or_zero(F::kAudioIn));
  const int64_t reasoning = f.or_zero(F::kReasoning), sum = f.or_zero(F::kIn) + f.or_zero(F::kOut);
  // Some servers of this API count the reasoning beside the completion.
  const bool beside = reasoning > 0 && !counts.adds_up(sum) && counts.adds_up(sum + reasoning);
  counts.set_rest(K::kOutput, F::kOut, f.or_zero(F::kAudioOut) + (beside ? 0 : reasoning));
  if (!beside && !counts.adds_up(sum)) counts.contradiction();
  for (const auto& [kind, field] : {std::pair{K::kWebSearches, F::kWebSearches},
                                    {K::kFileSearches, F::kFileSearches},
                                    {K::kCodeRuns, F::kCodeRuns}}) {
    counts.copy(kind, field);
  }
}

// `write` was written; `of_5m` and `of_1h` of it, where that was told.
void cache_writes(int64_t write, int64_t of_5m, int64_t of_1h, Counts counts) {
  if (of_5m < 0 && of_1h < 0) return counts.set(K::kCacheWrite5m, write);
  const int64_t known = std::max<int64_t>(of_5m, 0) + std::max<int64_t>(of_1h, 0);
  if (write >= 0 && write != known) counts.contradiction();
  if (write > known) of_5m = std::max<int64_t>(of_5m, 0) + write - known;
  counts.set(K::kCacheWrite5m, of_5m);
  counts.set(K::kCacheWrite1h, of_1h);
}

void anthropic(const LlmFields& f, Counts counts) {
  counts.copy(K::kInput, F::kIn);
  counts.copy(K::kOutput, F::kOut);
  counts.copy(K::kCachedInput, F::kCached);
  cache_writes(f[F::kWrite], f[F::kWrite5m], f[F::kWrite1h], counts);
  counts.copy(K::kWebSearches, F::kWebSearches);
  counts.copy(K::kWebFetches, F::kWebFetches);
}

// Numbers that are zero are left out: what is not there and does not lack in the total was none.
void gemini(const LlmFields& f, Counts counts) {
  const int64_t tools = f.or_zero(F::kToolIn), thoughts = f.or_zero(F::kReasoning), in = f.or_zero(F::kIn);
  const int64_t candidates = f.or_zero(F::kOut);
  counts.copy(K::kCachedInput, F::kCached);
  counts.copy(K::kReasoning, F::kReasoning);
  counts.copy(K::kAudioInput, F::kAudioIn);
  counts.copy(K::kAudioOutput, F::kAudioOut);
  counts.copy(K::kWebSearches, F::kWebSearches);
  counts.set_rest(K::kInput, F::kIn, f.or_zero(F::kCached) + f.or_zero(F::kAudioIn), tools);
  if (f[F::kOut] < 0 && f[F::kTotal] < 0) return;
  int64_t output = candidates;
  const int64_t sum = in + tools + candidates;
  if (!counts.adds_up(sum + thoughts)) {
    if (thoughts > 0 && candidates >= thoughts && counts.adds_up(sum)) {
      output -= thoughts;  // the candidates have the thoughts in them
    } else {
      counts.contradiction();
      output += std::max<int64_t>(f[F::kTotal] - sum - thoughts, 0);  // hidden thoughts, as a rule
    }
  }
  if (f.or_zero(F::kAudioOut) > output) counts.contradiction();
  counts.set(K::kOutput, std::max<int64_t>(output - f.or_zero(F::kAudioOut), 0));
}

void converse(const LlmFields& f, Counts counts) {
  anthropic(f, counts);
  const int64_t sum = f.or_zero(F::kIn) + f.or_zero(F::kOut);
  if (!counts.adds_up(sum + f.or_zero(F::kCached) + f.or_zero(F::kWrite))) counts.contradiction();
}

}  // namespace

void tokens_of(LlmApi api, const LlmFields& fields, LlmUsage* usage) {
  Counts counts(fields, usage);
  if (api == LlmApi::kOpenAiChat || api == LlmApi::kOpenAiResponses) return open_ai(fields, counts);
  if (api == LlmApi::kAnthropicMessages) return anthropic(fields, counts);
  if (api == LlmApi::kGemini) return gemini(fields, counts);
  // What Bedrock itself says stands in for what the model's body does not.
  LlmFields all = fields;
  for (const auto& [field, metric] : {std::pair{F::kIn, F::kMetricIn},
                                      {F::kOut, F::kMetricOut},
                                      {F::kCached, F::kMetricCached},
                                      {F::kWrite, F::kMetricWrite}}) {
    if (all[field] < 0) all[field] = all[metric];
  }
  Counts bedrock(all, usage);
  api == LlmApi::kBedrockConverse ? converse(all, bedrock) : anthropic(all, bedrock);
}

}  // namespace tallygate::meter
