// Settings from flags, environment variables and an optional YAML file, declared once: the declaration parses, checks
// and documents. Precedence: flag, environment, file, default. All faults are reported together, each with its place,
// the field, what is wrong and how to put it right. Nothing here throws or logs; secrets appear in no text.
//
//   struct Settings { config::ListenAddress listen; int64_t drain_ms; config::Url redis; };
//   options.add("listen", &s.listen, config::listen_address()).env().fallback(":8080").help("address for requests");
//   options.add("redis-url", &s.redis, config::url({"redis", "rediss"})).env().required().help("the quota cache");
//
// Flags: --name=value, --name value; a switch is --name or --no-name. A list may be repeated. The environment: a
// variable that is empty counts as not set. The file (--config FILE, or TALLYGATE_CONFIG): a map with the flags' names
// as keys; nested maps join with "-", so `redis: {url: …}` is redis-url.
// Secrets come from the environment or from a file that holds nothing else: an option marked secret(), or whose parser
// can hold one (a URL's password), also has --NAME-file FILE, and its secret values are refused in flags and in the
// configuration file, which other people can read.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/parsers.h"

namespace tallygate::config {

inline constexpr int kExitUsage = 64;  // EX_USAGE of sysexits.h: the settings are wrong

struct Fault {
  std::string where;  // "flag --listen", "environment TALLYGATE_LISTEN", "gate.yaml:12", "setting --listen"
  std::string field;  // the flag's name without dashes; empty where no field is concerned
  std::string problem;
  std::string fix;
};
// One line: "flag --listen: "x" has no port; write …".
std::string to_string(const Fault& fault);

// Looks a variable up; nullopt where it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

class Option {
 public:
  // The variable's name; without one TALLYGATE_ + the flag in upper case.
  Option& env(std::string name = "");
  // Used where nothing else gives a value; shown in the help. It must parse.
  Option& fallback(std::string value);
  Option& required();
  Option& secret();
  // Where the value came from a file of its own (--NAME-file, NAME_FILE): its path, for those who look at it again.
  Option& from_file(std::string* path);
  Option& help(std::string text);

 private:
  friend class OptionSet;
  friend class OptionReader;
  std::string flag_, env_, help_, placeholder_;
  std::optional<std::string> fallback_;
  std::string* path_ = nullptr;
  bool required_ = false, secret_ = false, is_switch_ = false, is_list_ = false;
  std::function<bool(std::string_view)> holds_secret_;
  // Parses all the texts of one source and stores the value.
  std::function<std::optional<Refusal>(std::span<const std::string>)> assign_;
  bool may_hold_secret() const { return secret_ || holds_secret_ != nullptr; }
};

class OptionSet {
 public:
  OptionSet();
  OptionSet(const OptionSet&) = delete;
  OptionSet& operator=(const OptionSet&) = delete;

  // `target` must outlive parse(). The reference returned stays valid. Flags are lower case words joined by "-".
  template <class T>
  Option& add(std::string flag, T* target, Parser<T> parser);
  // Runs after every setting has been read without a fault: for rules between fields.
  void check(std::string field, std::function<std::optional<Refusal>()> rule);
  // A paragraph for the top of the help.
  void describe(std::string text) { description_ = std::move(text); }

  // Stores all values and returns nothing, or returns every fault; with faults the targets' values mean nothing.
  std::vector<Fault> parse(std::span<const std::string> args, const Environment& environment);
  // Aligned, one option after the other in the order of declaration.
  std::string help() const;
  const std::string& description() const { return description_; }
  // The environment's variables that are looked at.
  std::vector<std::string> variables() const;

 private:
  friend class OptionReader;
  struct Rule {
    std::string field;
    std::function<std::optional<Refusal>()> check;
  };
  Option& insert(std::string flag, std::string placeholder, bool is_switch, bool is_list);
  std::deque<Option> options_;
  std::vector<Rule> rules_;
  std::string description_;
  std::string config_file_;
};

// A program with subcommands. Names may be of several words ("stripe setup"). Without a command, or with --help, the
// list of commands is shown.
class CommandLine {
 public:
  CommandLine(std::string program, std::string summary, std::string version);
  OptionSet& command(std::string name, std::string summary);

  struct Choice {
    std::string command;            // set when there is something to run
    std::string output, complaint;  // for standard output, for standard error
    int exit_code = 0;
    bool should_run() const { return !command.empty(); }
    // Writes the texts out; returns the exit code. For main().
    int finish() const;
  };
  Choice parse(std::span<const std::string> args, const Environment& environment) const;
  // Of the process; warns on standard error of variables that misspelled() tells of.
  Choice parse(int argc, const char* const* argv) const;
  // A line for each name that begins with TALLYGATE_, is no variable of any command, and is nearly one. (Others may be
  // anybody's: Kubernetes makes such names of a Service called tallygate.)
  std::vector<std::string> misspelled(std::span<const std::string> names) const;

 private:
  struct Command {
    std::string name, summary;
    std::unique_ptr<OptionSet> options;
  };
  std::string overview() const;
  const Command* find(std::span<const std::string> args, size_t& words) const;
  Choice refuse_command(std::span<const std::string> args) const;
  std::string group(std::string_view word) const;
  std::string program_, summary_, version_;
  std::vector<Command> commands_;
};

namespace internal {
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
}  // namespace internal

template <class T>
Option& OptionSet::add(std::string flag, T* target, Parser<T> parser) {
  constexpr bool kIsList = internal::IsVector<T>::value;
  Option& option = insert(std::move(flag), parser.placeholder, std::is_same_v<T, bool>, kIsList);
  option.holds_secret_ = parser.holds_secret;
  option.assign_ = [target, parser = std::move(parser)](std::span<const std::string> texts) -> std::optional<Refusal> {
    if constexpr (kIsList) target->clear();
    std::optional<Refusal> refusal;  // of a list's texts: all of them
    for (const auto& text : texts) {
      Parsed<T> value = parser(text);
      if (!value && refusal) refusal->problem += "; " + value.error().problem;
      if (!value && !refusal) refusal = std::move(value.error());
      if (!value) continue;
      if constexpr (kIsList) {
        for (auto& item : *value) target->push_back(std::move(item));
      } else {
        *target = std::move(*value);
      }
    }
    return refusal;
  };
  return option;
}

}  // namespace tallygate::config
