#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/config/options.h"
#include "core/result.h"

namespace tallygate::config {
namespace {

bool asks_for_help(const std::string& arg) { return arg == "--help" || arg == "-h"; }

size_t word_count(const std::string& name) {
  return 1 + static_cast<size_t>(std::count(name.begin(), name.end(), ' '));
}

std::string first_words(std::span<const std::string> args, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += (i > 0 ? " " : "") + args[i];
  return out;
}

// The setting that a variable may have been meant for; empty: it is none of ours.
std::string_view meant_by(const std::string& name, const std::vector<std::string>& known) {
  static const std::vector<std::string> kPrefixes = {"TALLYGATE_", "STRIPE_"};
  std::string upper = name;
  for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  const auto setting = [&](std::string_view text) -> std::string_view {
    const auto found = std::find(known.begin(), known.end(), text);
    return found == known.end() ? std::string_view() : *found;
  };
  if (const auto same = setting(upper); !same.empty()) return same;
  const std::string first = upper.substr(0, upper.find('_') + 1);
  if (first == kPrefixes[0]) {
    if (const auto rest = setting(upper.substr(first.size())); !rest.empty()) return rest;
  }
  return first.size() < 5 || nearest(first, kPrefixes).empty() ? std::string_view() : nearest(upper, known);
}

}  // namespace

CommandLine::CommandLine(std::string program, std::string summary, std::string version)
    : program_(std::move(program)), summary_(std::move(summary)), version_(std::move(version)) {}

OptionSet& CommandLine::command(std::string name, std::string summary) {
  for (const Command& other : commands_) TG_ASSERT(other.name != name);
  commands_.push_back({std::move(name), std::move(summary), std::make_unique<OptionSet>()});
  return *commands_.back().options;
}

int CommandLine::Choice::finish() const {
  std::fputs(output.c_str(), stdout);
  std::fputs(complaint.c_str(), stderr);
  return exit_code;
}

std::string CommandLine::overview() const {
  std::string out = program_ + " " + version_ + ": " + summary_ + "\n\nUsage: " + program_ +
                    " COMMAND [--name=value …]\n\nCommands:\n";
  size_t width = 0;
  for (const Command& command : commands_) width = std::max(width, command.name.size());
  for (const Command& command : commands_) {
    out += "  " + command.name + std::string(width + 2 - command.name.size(), ' ') + command.summary + "\n";
  }
  return out + "\n" + program_ + " COMMAND --help describes a command's settings; --version shows the version.\n";
}

const CommandLine::Command* CommandLine::find(std::span<const std::string> args, size_t& words) const {
  const Command* best = nullptr;
  words = 0;
  for (const Command& command : commands_) {
    const size_t count = word_count(command.name);
    if (count > words && count <= args.size() && first_words(args, count) == command.name) {
      best = &command;
      words = count;
    }
  }
  return best;
}

// The commands that begin with this word, a line each; empty: none does.
std::string CommandLine::group(std::string_view word) const {
  std::string out;
  for (const Command& command : commands_) {
    if (command.name.starts_with(std::string(word) + " "))
      out += "  " + program_ + " " + command.name + "  " + command.summary + "\n";
  }
  return out;
}

CommandLine::Choice CommandLine::refuse_command(std::span<const std::string> args) const {
  Choice choice;
  const std::string group_of = args.empty() ? "" : group(args[0]);
  const bool alone = args.size() < 2 || args[1].starts_with("-");
  if (!group_of.empty() && alone) {
    const bool asked = std::any_of(args.begin(), args.end(), asks_for_help);
    (asked ? choice.output : choice.complaint) = program_ + ": the commands of " + quoted(args[0]) + ":\n" + group_of;
    choice.exit_code = asked ? 0 : kExitUsage;
    return choice;
  }
  choice.exit_code = kExitUsage;
  size_t count = 0;
  while (count < args.size() && count < 2 && !args[count].starts_with("-")) ++count;
  if (count == 0) {
    choice.complaint = program_ + ": no command is given; write one of those below\n\n" + overview();
    return choice;
  }
  std::vector<std::string> names;
  for (const Command& command : commands_) names.push_back(command.name);
  std::string_view meant = nearest(first_words(args, count), names);
  if (meant.empty()) meant = nearest(args[0], names);
  choice.complaint =
      program_ + ": there is no command " + quoted(first_words(args, count)) + "; " +
      (meant.empty() ? program_ + " --help lists the commands" : "did you mean " + std::string(meant) + "?") + "\n";
  return choice;
}

CommandLine::Choice CommandLine::parse(std::span<const std::string> args, const Environment& environment) const {
  Choice choice;
  size_t words = 0;
  const Command* command = find(args, words);
  if (command == nullptr) {
    if (!args.empty() && (asks_for_help(args[0]) || args[0] == "help")) {
      choice.output = overview();
    } else if (!args.empty() && args[0] == "--version") {
      choice.output = program_ + " " + version_ + "\n";
    } else {
      return refuse_command(args);
    }
    return choice;
  }
  const auto rest = args.subspan(words);
  if (std::any_of(rest.begin(), rest.end(), asks_for_help)) {
    choice.output = program_ + " " + command->name + ": " + command->summary + "\n\n";
    if (!command->options->description().empty()) choice.output += command->options->description() + "\n\n";
    choice.output += "Usage: " + program_ + " " + command->name + " [--name=value …]\n\n" + command->options->help();
    return choice;
  }
  const std::vector<Fault> faults = command->options->parse(rest, environment);
  if (faults.empty()) {
    choice.command = command->name;
    return choice;
  }
  choice.exit_code = kExitUsage;
  choice.complaint = program_ + " " + command->name + ": " + std::to_string(faults.size()) +
                     (faults.size() == 1 ? " setting is wrong:\n" : " settings are wrong:\n");
  for (const Fault& fault : faults) choice.complaint += "  " + to_string(fault) + "\n";
  choice.complaint += program_ + " " + command->name + " --help describes every setting.\n";
  return choice;
}

std::vector<std::string> CommandLine::misspelled(std::span<const std::string> names) const {
  std::vector<std::string> known;
  for (const Command& command : commands_) {
    const auto more = command.options->variables();
    known.insert(known.end(), more.begin(), more.end());
  }
  std::vector<std::string> out;
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string_view meant = meant_by(name, known);
    if (!meant.empty())
      out.push_back("environment " + name + ": is no setting; did you mean " + std::string(meant) + "?");
  }
  return out;
}

CommandLine::Choice CommandLine::parse(int argc, const char* const* argv) const {
  std::vector<std::string> names;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    names.emplace_back(text.substr(0, text.find('=')));
  }
  for (const std::string& line : misspelled(names))
    std::fprintf(stderr, "%s: warning: %s\n", program_.c_str(), line.c_str());
  return parse(std::vector<std::string>(argv + std::min(argc, 1), argv + argc), process_environment());
}

}  // namespace tallygate::config
