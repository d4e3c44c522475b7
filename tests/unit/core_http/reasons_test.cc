// Every reason that the code can answer is in docs/problems.md: those of the code come from one list (core/reason.h),
// and the ledger's are in its migrations.
#include "core/reason.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>

#include "core/http/message.h"

namespace tallygate {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The first group of each match.
std::set<std::string> found(const std::string& text, const char* pattern) {
  const std::regex wanted(pattern);
  std::set<std::string> out;
  for (auto it = std::sregex_iterator(text.begin(), text.end(), wanted); it != std::sregex_iterator(); ++it) {
    out.insert((*it)[1]);
  }
  return out;
}

TEST(Reasons, AreThoseOfTheTableForUsers) {
  const std::set<std::string> listed(std::begin(kReasons), std::end(kReasons));
  EXPECT_EQ(listed.size(), std::size(kReasons)) << "one comes twice";
  EXPECT_EQ(listed, found(text_of("docs/problems.md"), R"(\n\| `(\w+)` \| (?:[\d, ]+|–) \| [\w, ]+ \| \S)"));
}

TEST(Reasons, OfTheLedgerAreListed) {
  // What is never answered: a question to the API itself, a dispute that Stripe names, a part of a plan's terms.
  const std::set<std::string> internal = {"RecallFloat", "UnknownDispute", "TimeZone"};
  size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator("migrations")) {
    if (file.path().extension() != ".sql") continue;
    ++files;
    for (const std::string& name : found(text_of(file.path()), "'((?:[A-Z][a-z]+)+)'")) {
      EXPECT_TRUE(is_reason(name) || internal.count(name) == 1) << name << " in " << file.path();
    }
  }
  EXPECT_GT(files, 20u);
}

TEST(Reasons, OfOpenapiAreListed) {
  const std::string document = text_of("openapi/openapi.yaml");
  // The table of errors, and the enumerations of verdicts and status checks.
  std::set<std::string> named = found(document, "`([A-Z][a-z]+[A-Z][A-Za-z]+)`");
  for (const std::string& list : found(document, R"(reason: \{enum: \['', ([\w, ]+)\])")) {
    named.merge(found(list, "(\\w+)"));
  }
  EXPECT_GT(named.size(), 30u);
  for (const std::string& name : named) EXPECT_TRUE(is_reason(name)) << name;
}

TEST(Reasons, MakeTheTypeOfAProblem) {
  EXPECT_EQ(std::string(kProblemTypePrefix) + "NotFound", "https://tallygate.dev/problems/NotFound");
  EXPECT_NE(http::problem_response({404, "NotFound"}).body.find(R"("type":"https://tallygate.dev/problems/NotFound")"),
            std::string::npos);
}

}  // namespace
}  // namespace tallygate
