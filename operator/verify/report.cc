#include "operator/verify/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tallygate::verify {
namespace {

constexpr size_t kOutcomeWidth = 9;
constexpr size_t kCheckWidthMax = 60;

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

// Texts of servers go to a terminal: nothing of them may steer it.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

}  // namespace

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kMissing:
      return "missing";
    case Outcome::kWrong:
      return "wrong";
    case Outcome::kSkipped:
      return "skipped";
  }
  return "wrong";
}

void Report::ok(std::string check, std::string detail) {
  rows_.push_back({std::move(check), Outcome::kOk, printable(std::move(detail)), ""});
}
void Report::missing(std::string check, std::string detail, std::string fix) {
  rows_.push_back({printable(std::move(check)), Outcome::kMissing, printable(std::move(detail)), std::move(fix)});
}
void Report::wrong(std::string check, std::string detail, std::string fix) {
  rows_.push_back({printable(std::move(check)), Outcome::kWrong, printable(std::move(detail)), std::move(fix)});
}
void Report::skipped(std::string check, std::string reason) {
  rows_.push_back({std::move(check), Outcome::kSkipped, printable(std::move(reason)), ""});
}

void Report::append(Report other) {
  for (Row& row : other.rows_) rows_.push_back(std::move(row));
}

int64_t Report::count(Outcome outcome) const {
  return std::ranges::count_if(rows_, [&](const Row& row) { return row.outcome == outcome; });
}

bool Report::all_right() const { return count(Outcome::kMissing) + count(Outcome::kWrong) == 0; }

std::string Report::summary() const {
  const auto number = [&](Outcome outcome) { return std::to_string(count(outcome)) + " " + to_string(outcome); };
  const int64_t problems = count(Outcome::kMissing) + count(Outcome::kWrong);
  std::string text = "tallygate-operator verify: ";
  if (problems == 0) {
    text += "everything that was looked at is right (";
  } else {
    text += std::to_string(problems) + (problems == 1 ? " problem (" : " problems (") + number(Outcome::kMissing) +
            ", " + number(Outcome::kWrong) + ", ";
  }
  return text + number(Outcome::kOk) + ", " + number(Outcome::kSkipped) + ")";
}

std::string Report::table() const {
  size_t width = 5;
  for (const Row& row : rows_) width = std::max(width, std::min(row.check.size(), kCheckWidthMax));
  const std::string indent(width + 2 + kOutcomeWidth, ' ');
  std::string text = padded("CHECK", width + 2) + padded("RESULT", kOutcomeWidth) + "DETAIL\n";
  for (const Row& row : rows_) {
    std::string check = padded(row.check, width);
    text += check + "  " + padded(to_string(row.outcome), kOutcomeWidth) + row.detail;
    while (text.ends_with(' ')) text.pop_back();
    text += '\n';
    if (!row.fix.empty()) text += indent + "fix: " + row.fix + "\n";
  }
  text += '\n';
  for (const Row& row : rows_) {
    if (row.outcome == Outcome::kSkipped) text += "NOT LOOKED AT  " + row.check + ": skipped: " + row.detail + "\n";
  }
  return text + summary() + "\n";
}

std::string Report::json() const {
  using nlohmann::ordered_json;
  ordered_json counts = ordered_json::object();
  for (const Outcome outcome : {Outcome::kOk, Outcome::kMissing, Outcome::kWrong, Outcome::kSkipped}) {
    counts[to_string(outcome)] = count(outcome);
  }
  ordered_json checks = ordered_json::array();
  for (const Row& row : rows_) {
    checks.push_back(ordered_json{
        {"check", row.check}, {"result", to_string(row.outcome)}, {"detail", row.detail}, {"fix", row.fix}});
  }
  const ordered_json document{{"ok", all_right()}, {"counts", std::move(counts)}, {"checks", std::move(checks)}};
  return document.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace tallygate::verify
