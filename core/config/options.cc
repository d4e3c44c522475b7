#include "core/config/options.h"

#include <algorithm>
#include <cstdlib>

#include "core/result.h"

namespace tallygate::config {
namespace {

constexpr size_t kHelpColumnMax = 34;
constexpr size_t kHelpWidth = 110;

std::string default_variable(const std::string& flag) {
  std::string name = "TALLYGATE_" + flag;
  for (char& c : name) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (c == '-') c = '_';
  }
  return name;
}

bool proper_flag(const std::string& flag) {
  const bool plain = std::all_of(flag.begin(), flag.end(),
                                 [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
  return plain && !flag.empty() && flag.front() != '-' && !flag.starts_with("no-");
}

// Appends `text` at `column`, broken between words at kHelpWidth.
void append_wrapped(std::string& out, size_t at, size_t column, std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (at != column && at + 1 + end > kHelpWidth) {
      out += "\n" + std::string(column, ' ');
      at = column;
    } else if (at != column) {
      out += ' ';
      ++at;
    }
    out += text.substr(0, end);
    at += end;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  out += '\n';
}

void append_row(std::string& out, const std::string& head, size_t column, const std::string& text) {
  out += "  " + head;
  size_t at = head.size() + 2;
  if (at + 2 > column) {
    out += '\n';
    at = 0;
  }
  out += std::string(column - at, ' ');
  append_wrapped(out, column, column, text);
}

}  // namespace

std::string to_string(const Fault& fault) {
  std::string out = fault.where;
  if (!fault.field.empty() && fault.where.find("--" + fault.field) == std::string::npos) {
    out += " (" + fault.field + ")";
  }
  return out + ": " + fault.problem + "; " + fault.fix;
}

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
}

Option& Option::env(std::string name) {
  env_ = name.empty() ? default_variable(flag_) : std::move(name);
  return *this;
}

Option& Option::fallback(std::string value) {
  fallback_ = std::move(value);
  return *this;
}

Option& Option::required() {
  required_ = true;
  return *this;
}

Option& Option::secret() {
  TG_ASSERT(!is_switch_);
  secret_ = true;
  return *this;
}

Option& Option::from_file(std::string* path) {
  path_ = path;
  return *this;
}

Option& Option::help(std::string text) {
  help_ = std::move(text);
  return *this;
}

OptionSet::OptionSet() {
  add("config", &config_file_, file()).env().help("read settings from this YAML file, whose keys are the flags' names");
}

Option& OptionSet::insert(std::string flag, std::string placeholder, bool is_switch, bool is_list) {
  TG_ASSERT(proper_flag(flag));
  for (const Option& other : options_) TG_ASSERT(other.flag_ != flag);
  Option& option = options_.emplace_back();
  option.flag_ = std::move(flag);
  option.placeholder_ = std::move(placeholder);
  option.is_switch_ = is_switch;
  option.is_list_ = is_list;
  return option;
}

void OptionSet::check(std::string field, std::function<std::optional<Refusal>()> rule) {
  rules_.push_back({std::move(field), std::move(rule)});
}

std::vector<std::string> OptionSet::variables() const {
  std::vector<std::string> names;
  for (const Option& option : options_) {
    if (option.env_.empty()) continue;
    names.push_back(option.env_);
    names.push_back(option.env_ + "_FILE");
  }
  return names;
}

std::string OptionSet::help() const {
  struct Row {
    std::string head, text;
  };
  std::vector<Row> rows;
  const auto describe = [&rows](const Option& o) {
    std::string notes;
    const auto note = [&notes](const std::string& text) { notes += (notes.empty() ? "" : "; ") + text; };
    if (o.required_) note("required");
    if (o.fallback_ && !o.secret_) note("default " + *o.fallback_);
    if (o.is_list_) note("may be repeated");
    if (!o.env_.empty()) note("env " + o.env_);
    const std::string head = o.is_switch_ ? "--[no-]" + o.flag_ : "--" + o.flag_ + " " + o.placeholder_;
    if (!o.secret_) rows.push_back({head, o.help_ + (notes.empty() ? "" : " [" + notes + "]")});
    if (o.secret_)
      rows.push_back(
          {"--" + o.flag_ + "-file FILE", "file that holds: " + o.help_ + (notes.empty() ? "" : " [" + notes + "]")});
    if (!o.secret_ && o.may_hold_secret())
      rows.push_back({"--" + o.flag_ + "-file FILE", "the same from a file, for a URL with a password"});
  };
  for (size_t i = 1; i < options_.size(); ++i) describe(options_[i]);
  describe(options_[0]);
  rows.push_back({"--help", "show this text"});
  size_t column = 0;
  for (const Row& row : rows) {
    if (row.head.size() + 4 <= kHelpColumnMax) column = std::max(column, row.head.size() + 4);
  }
  std::string out;
  for (const Row& row : rows) append_row(out, row.head, column, row.text);
  return out;
}

}  // namespace tallygate::config
