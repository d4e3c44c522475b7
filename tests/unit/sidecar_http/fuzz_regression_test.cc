// Runs the fuzz target over its corpus, over scripts made from the golden tables, and over a seeded stream of mutations.
#include <filesystem>
#include <fstream>

#include "core/env.h"
#include "tests/fuzz/fuzz_proxy.h"
#include "tests/unit/sidecar_http/golden_table.h"

namespace tallygate::testing {
namespace {

void run(const std::string& script) {
  fuzz_proxy(reinterpret_cast<const uint8_t*>(script.data()), script.size());
}

// Splits `bytes` into actions of one actor.
void act(std::string& script, uint8_t what, std::string_view bytes, Env& random) {
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = std::min<size_t>(1 + random.random_below(200), bytes.size() - at);
    script += static_cast<char>(what);
    script += static_cast<char>(n);
    script += bytes.substr(at, n);
    at += n;
  }
}

std::vector<std::string> golden_scripts() {
  ManualEnv random(3);
  std::vector<std::string> scripts;
  const auto responses = read_golden("tests/golden/framing/responses.txt");
  size_t next = 0;
  for (const GoldenCase& request : read_golden("tests/golden/framing/requests.txt")) {
    if (request.bytes.size() > 4000) continue;
    std::string script(1, static_cast<char>(random.random_below(2)));
    act(script, 1, request.bytes, random);
    script += std::string("\x0c\x00", 2);
    const GoldenCase& response = responses[next++ % responses.size()];
    if (response.bytes.size() < 4000) act(script, 4, response.bytes, random);
    if (random.random_below(2) == 0) script += std::string("\x07\x00", 2);
    scripts.push_back(std::move(script));
  }
  return scripts;
}

void mutate(std::string& script, const std::vector<std::string>& scripts, Env& random) {
  static const std::vector<std::string> kWords{"\r\n", "\r\n\r\n", "0\r\n\r\n", "Content-Length: 5\r\n", "Host: a\r\n",
                                               "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "\n", "\r",
                                               "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n", "5\r\nabcde\r\n",
                                               "Expect: 100-continue\r\n", "HTTP/1.1 100 Continue\r\n\r\n", " ", ":"};
  for (uint64_t n = 1 + random.random_below(6); n > 0; --n) {
    const size_t at = random.random_below(script.size() + 1);
    switch (random.random_below(6)) {
      case 0: script.insert(at, kWords[random.random_below(kWords.size())]); break;
      case 1: script.erase(at, random.random_below(8)); break;
      case 2: if (at < script.size()) script[at] = static_cast<char>(random.random_below(256)); break;
      case 3: {
        const char action[] = {static_cast<char>(random.random_below(256)), static_cast<char>(random.random_below(40))};
        script.insert(at, action, 2);
        break;
      }
      case 4: script += scripts[random.random_below(scripts.size())].substr(1); break;
      case 5: if (at < script.size()) script.insert(at, script.substr(at, random.random_below(60))); break;
    }
  }
}

TEST(FuzzRegression, Corpus) {
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus_proxy")) {
    std::ifstream file(entry.path(), std::ios::binary);
    run(std::string(std::istreambuf_iterator<char>(file), {}));
  }
}

TEST(FuzzRegression, GoldenTablesAndTheirMutations) {
  const auto scripts = golden_scripts();
  for (const std::string& script : scripts) run(script);
  // TALLYGATE_FUZZ_RUNS and TALLYGATE_FUZZ_SEED: for a longer search without libFuzzer.
  const char* runs = std::getenv("TALLYGATE_FUZZ_RUNS");
  const char* seed = std::getenv("TALLYGATE_FUZZ_SEED");
  ManualEnv random(seed != nullptr ? std::stoull(seed) : 11);
  for (int i = runs != nullptr ? std::stoi(runs) : 3'000; i > 0; --i) {
    std::string script = scripts[random.random_below(scripts.size())];
    mutate(script, scripts, random);
    run(script);
  }
}

}  // namespace
}  // namespace tallygate::testing
