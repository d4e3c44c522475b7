// What `verify` found: rows of check, outcome and detail, as a table or as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tallygate::verify {

enum class Outcome : uint8_t {
  kOk,
  kMissing,  // it is not there
  kWrong,    // it is there, and not as it must be
  kSkipped,  // it was not looked at, and the detail says why
};
const char* to_string(Outcome outcome);

struct Row {
  std::string check;  // "postgres: function rated"
  Outcome outcome = Outcome::kOk;
  std::string detail;  // what was seen
  std::string fix;     // what to do; empty where nothing is to be done
};

class Report {
 public:
  void ok(std::string check, std::string detail = "");
  void missing(std::string check, std::string detail, std::string fix);
  void wrong(std::string check, std::string detail, std::string fix);
  void skipped(std::string check, std::string reason);

  void append(Report other);

  const std::vector<Row>& rows() const { return rows_; }
  int64_t count(Outcome outcome) const;
  // Nothing is missing or wrong. What was skipped does not count against it; the summary tells how much that was.
  bool all_right() const;
  // "tallygate-operator verify: 2 problems (1 missing, 1 wrong), 20 ok, 1 skipped"
  std::string summary() const;
  // Aligned columns, a line for each row and its fix below it, then the summary.
  std::string table() const;
  // {"ok": true, "counts": {"ok": 20, …}, "checks": [{"check", "result", "detail", "fix"}]}, on one line.
  std::string json() const;

 private:
  std::vector<Row> rows_;
};

}  // namespace tallygate::verify
