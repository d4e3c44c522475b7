// Reads "name | verdict | bytes" tables; the tables' own comments describe the escapes.
#pragma once

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace tallygate::testing {

struct GoldenCase {
  std::string name, verdict, bytes;
};

inline std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{') {
      const size_t star = text.find('*', i);
      const size_t end = text.find('}', i);
      const std::string piece = unescape(text.substr(star + 1, end - star - 1));
      for (int n = std::stoi(std::string(text.substr(i + 1, star - i - 1))); n > 0; --n) out += piece;
      i = end;
      continue;
    }
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'r': out += '\r'; break;
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case '0': out += '\0'; break;
      case 'x':
        out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
        i += 2;
        break;
      default: out += text[i];
    }
  }
  return out;
}

inline std::vector<GoldenCase> read_golden(const std::string& path) {
  std::vector<GoldenCase> cases;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t first = line.find('|');
    const size_t second = line.find('|', first + 1);
    const auto trimmed = [](std::string text) {
      text.erase(0, text.find_first_not_of(' '));
      text.erase(text.find_last_not_of(' ') + 1);
      return text;
    };
    cases.push_back({trimmed(line.substr(0, first)), trimmed(line.substr(first + 1, second - first - 1)),
                     unescape(std::string_view(line).substr(second + 2))});
  }
  return cases;
}

}  // namespace tallygate::testing
