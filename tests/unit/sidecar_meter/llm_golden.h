// Reads tests/golden/llm; the README there says how a case is written.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/base64.h"
#include "sidecar/meter/llm_usage.h"
#include "tests/unit/sidecar_meter/aws_message.h"

namespace tallygate::meter {

struct LlmCase {
  std::string name, expect, body;
  LlmApi api = LlmApi::kOpenAiChat;
  Framing framing = Framing::kWhole;
  std::vector<std::pair<std::string, std::string>> headers;
};

inline std::string aws_lines(const std::string& lines, bool bytes) {
  std::string stream;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) {
    const size_t space = line.find(' ');
    std::string type = line.substr(0, space), data = line.substr(space + 1);
    const bool exception = type.ends_with('!');
    if (exception) type.pop_back();
    if (bytes && !exception) data = "{\"bytes\":\"" + base64_encode(data) + "\",\"p\":\"abcdefghijklmn\"}";
    stream += aws_message({{exception ? ":exception-type" : ":event-type", type},
                           {":content-type", "application/json"},
                           {":message-type", exception ? "exception" : "event"}},
                          data);
  }
  return stream;
}

inline std::vector<LlmCase> read_llm_golden() {
  std::vector<LlmCase> cases;
  for (const auto& entry : std::filesystem::directory_iterator("tests/golden/llm")) {
    if (entry.path().extension() != ".txt") continue;
    std::ifstream file(entry.path());
    std::string line, framing, type;
    bool body = false;
    const auto finish = [&] {
      if (cases.empty()) return;
      LlmCase& last = cases.back();
      if (framing.empty()) {
        last.framing = llm_framing(last.api, type);
      } else if (last.framing != Framing::kAwsEventStream) {
        last.body = aws_lines(last.body, framing == "aws-bytes");
        last.framing = Framing::kAwsEventStream;
      }
    };
    bool first = true;
    while (std::getline(file, line)) {
      if (line.starts_with("== ")) {
        if (!std::exchange(first, false)) finish();
        cases.push_back({.name = line.substr(3), .expect = {}, .body = {}, .headers = {}});
        framing.clear();
        type.clear();
        body = false;
      } else if (body) {
        cases.back().body += line + '\n';
      } else if (line == "--") {
        body = true;
      } else {
        const size_t colon = line.find(": ");
        const std::string field = line.substr(0, colon), value = line.substr(colon + 2);
        if (field == "api") cases.back().api = llm_api_named(value).value();
        if (field == "type") type = value;
        if (field == "framing") framing = value;
        if (field == "expect") cases.back().expect = value;
        if (field == "header")
          cases.back().headers.emplace_back(value.substr(0, value.find(": ")), value.substr(value.find(": ") + 2));
      }
    }
    finish();
  }
  EXPECT_GT(cases.size(), 30u);
  return cases;
}

}  // namespace tallygate::meter
