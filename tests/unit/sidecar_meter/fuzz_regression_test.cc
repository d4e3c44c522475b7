// Runs the fuzz target over its corpus, over the golden answers, and over a seeded stream of mutations.
#include <filesystem>
#include <fstream>

#include "core/env.h"
#include "tests/fuzz/fuzz_meter.h"
#include "tests/unit/sidecar_meter/codings.h"
#include "tests/unit/sidecar_meter/llm_golden.h"

namespace tallygate::meter {
namespace {

void run(const std::string& input) {
  testing::fuzz_meter(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::vector<std::string> corpus() {
  std::vector<std::string> inputs;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus_meter")) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::sort(inputs.begin(), inputs.end());
  for (const LlmCase& row : read_llm_golden()) {
    for (const int which : {12, 13, 14, 15, 16, 17}) {
      const int framing = row.framing == Framing::kSse              ? 0
                          : row.framing == Framing::kJsonArray      ? 40
                          : row.framing == Framing::kAwsEventStream ? 60
                                                                    : 80;
      inputs.push_back(std::string(1, static_cast<char>(which + framing)) + 's' + row.body);
    }
    inputs.push_back(std::string(2, '\0') + row.body);
  }
  const std::string text = inputs[0];
  inputs.push_back("\x07s" + deflated(text, 31));
  inputs.push_back("\x08s" + deflated(text, -15));
  inputs.push_back("\x09s" + brotli(text));
  inputs.push_back("\x0as" + zstd(text));
  return inputs;
}

void mutate(std::string& input, const std::vector<std::string>& inputs, Env& random) {
  static const std::vector<std::string> kWords{"\n\n",
                                               "\r\n",
                                               "\r",
                                               "data: ",
                                               "data:",
                                               "[DONE]",
                                               "{",
                                               "}",
                                               "[",
                                               "]",
                                               ",",
                                               ":",
                                               "\"",
                                               "\\",
                                               "\\u0061",
                                               "\"usage\":",
                                               "null",
                                               "1e9",
                                               "-0.1",
                                               "event: error\n",
                                               "\xef\xbb\xbf",
                                               "\"a\":1,",
                                               "\\ud83d",
                                               " "};
  for (uint64_t n = 1 + random.random_below(5); n > 0; --n) {
    const size_t at = 2 + random.random_below(input.size() - 1);
    switch (random.random_below(6)) {
      case 0:
        input.insert(at, kWords[random.random_below(kWords.size())]);
        break;
      case 1:
        input.erase(at, random.random_below(12));
        break;
      case 2:
        if (at < input.size()) input[at] = static_cast<char>(random.random_below(256));
        break;
      case 3:
        input[0] = static_cast<char>(random.random_below(256));
        break;
      case 4:
        input += inputs[random.random_below(inputs.size())].substr(2);
        break;
      case 5:
        if (at < input.size()) input.insert(at, input.substr(at, random.random_below(60)));
        break;
    }
  }
  if (input.size() > 6000) input.resize(6000);
}

TEST(MeterFuzzRegression, CorpusAndGoldenAnswers) {
  for (const std::string& input : corpus()) run(input);
}

TEST(MeterFuzzRegression, Mutations) {
  const auto inputs = corpus();
  // TALLYGATE_FUZZ_RUNS and TALLYGATE_FUZZ_SEED: for a longer search without libFuzzer.
  const char* runs = std::getenv("TALLYGATE_FUZZ_RUNS");
  const char* seed = std::getenv("TALLYGATE_FUZZ_SEED");
  ManualEnv random(seed != nullptr ? std::stoull(seed) : 11);
  for (uint64_t n = runs != nullptr ? std::stoull(runs) : 10'000; n > 0; --n) {
    std::string input = inputs[random.random_below(inputs.size())];
    mutate(input, inputs, random);
    run(input);
  }
}

}  // namespace
}  // namespace tallygate::meter
