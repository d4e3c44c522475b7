// Each way to get a manifest wrong: a good document with one piece replaced, and the one fault that must come of it. And
// pieces at the edge of what is right. The tables are data, because a real API server is held to them too
// (tests/e2e/test_kube_crds.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/manifest/manifests.h"

namespace tallygate::manifest {
namespace {

const std::string kFolder = "tests/golden/manifests/";

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

const std::string& good(const std::string& document) {
  static const std::map<std::string, std::string> documents = {{"plan", read_file(kFolder + "plan.yaml")},
                                                               {"tenant", read_file(kFolder + "tenant.yaml")},
                                                               {"policy", read_file(kFolder + "policy.yaml")}};
  return documents.at(document);
}

struct Case {
  std::string name, document;
  std::string piece;               // of the good document
  std::string replacement;         // ^ marks the line of the fault
  std::string field, reason, fix;  // of malformed ones; `fix` is part of it
};

std::vector<Case> cases_of(const std::string& file) {
  std::vector<Case> cases;
  std::ifstream in(kFolder + file);
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line);
    const auto text = [&](const char* key) { return row.value(key, ""); };
    cases.push_back({text("name"), text("document"), text("piece"), text("replacement"), text("field"), text("reason"), text("fix")});
  }
  return cases;
}

int line_of(const std::string& text, size_t position) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
}

// The spoiled document, and the line where the fault must be: that of the mark ^ in the replacement, which is taken
// out, or else that of the replacement's start.
std::pair<std::string, int> spoil(const Case& c) {
  std::string text = good(c.document);
  const size_t at = text.find(c.piece);
  EXPECT_NE(at, std::string::npos) << c.name << ": the piece is not in the document";
  if (at == std::string::npos) return {text, 0};
  text.replace(at, c.piece.size(), c.replacement);
  const size_t mark = text.find('^', at);
  if (mark == std::string::npos || mark > at + c.replacement.size()) return {text, line_of(text, at)};
  text.erase(mark, 1);
  return {text, line_of(text, mark)};
}

TEST(Malformed, TheDocumentsAreGoodBeforeTheyAreSpoiled) {
  for (const char* document : {"plan", "tenant", "policy"}) {
    EXPECT_EQ(all_of(read_manifest("good.yaml", good(document)).faults), "");
  }
}

TEST(Malformed, EachIsOneFaultWithPlaceReasonAndFix) {
  std::set<std::string> names;
  for (const Case& c : cases_of("malformed.jsonl")) {
    SCOPED_TRACE(c.name);
    EXPECT_TRUE(names.insert(c.name).second) << "the name is taken";
    const auto [text, line] = spoil(c);
    const FileContent content = read_manifest("bad.yaml", text);
    ASSERT_EQ(content.faults.size(), 1u) << all_of(content.faults) << text;
    const Fault& fault = content.faults[0];
    EXPECT_EQ(fault.file, "bad.yaml");
    EXPECT_EQ(fault.line, line) << to_string(fault);
    EXPECT_EQ(fault.field, c.field) << to_string(fault);
    EXPECT_EQ(to_string(fault.reason), c.reason) << to_string(fault);
    const std::string shown = to_string(fault);
    EXPECT_NE(shown.find("bad.yaml:" + std::to_string(line) + ":"), std::string::npos) << shown;
    EXPECT_FALSE(fault.fix.empty());
    EXPECT_NE(shown.find(c.fix), std::string::npos) << shown;
    if (fault.reason != Reason::kSyntax) {
      EXPECT_TRUE(content.objects.empty());
    }
  }
  EXPECT_GE(names.size(), 100u);
}

TEST(Malformed, TextThatIsNotUtf8) {
  std::string text = good("plan");
  text.replace(text.find("Standard"), 5, "Stan\377");
  const auto content = read_manifest("bad.yaml", text);
  ASSERT_EQ(content.faults.size(), 1u) << all_of(content.faults);
  EXPECT_EQ(content.faults[0].reason, Reason::kSyntax);
  EXPECT_NE(content.faults[0].fix.find("UTF-8"), std::string::npos);
}

TEST(Malformed, AtTheEdgeOfWhatIsRight) {
  const auto cases = cases_of("valid.jsonl");
  EXPECT_FALSE(cases.empty());
  for (const Case& c : cases) {
    const std::string text = spoil(c).first;
    EXPECT_EQ(all_of(read_manifest("good.yaml", text).faults), "") << c.name << "\n" << text;
  }
}

TEST(Malformed, NoBytesAreTooBadToRead) {
  uint64_t state = 7;
  const auto random = [&](uint64_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
  };
  for (int i = 0; i < 3'000; ++i) {
    std::string text = good(i % 3 == 0 ? "plan" : i % 3 == 1 ? "tenant" : "policy");
    for (uint64_t n = 1 + random(4); n > 0; --n) {
      const size_t at = random(text.size());
      switch (random(4)) {
        case 0:
          text[at] = static_cast<char>(random(256));
          break;
        case 1:
          text.erase(at, 1 + random(20));
          break;
        case 2:
          text.insert(at, 1, "{}[]:,-&*!|>'\"#%@`\n\t ?~"[random(23)]);
          break;
        default:
          text.insert(at, text.substr(random(text.size()), random(40)));
          break;
      }
    }
    for (const Fault& fault : read_manifest("fuzz.yaml", text).faults) {
      EXPECT_FALSE(fault.fix.empty()) << to_string(fault);
      EXPECT_FALSE(fault.message.empty()) << to_string(fault);
    }
  }
}

}  // namespace
}  // namespace tallygate::manifest
