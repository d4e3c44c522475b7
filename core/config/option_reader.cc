// OptionSet::parse: collects what each source says, then lets the first source that says anything win, per option.
#include <algorithm>
#include <map>

#include "core/config/options.h"
#include "core/config/yaml_settings.h"
#include "core/result.h"

namespace tallygate::config {
namespace {

constexpr size_t kSecretBytesMax = 64 * 1024;
constexpr const char* kFileSuffix = "-file";

// A name that came from outside, fit to be printed.
std::string shown(const std::string& name) {
  const bool plain =
      name.size() <= 60 && std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  return plain ? name : quoted(name);
}

// What one source says about one option, or about its -file form.
struct Given {
  std::vector<std::string> texts;
  std::string where;
};

}  // namespace

class OptionReader {
 public:
  OptionReader(OptionSet& set, const Environment& environment) : set_(set), environment_(environment) {}

  std::vector<Fault> run(std::span<const std::string> args) {
    read_flags(args);
    read_file();
    for (Option& option : set_.options_) settle(option);
    if (faults_.empty()) {
      for (const auto& rule : set_.rules_) {
        if (auto refusal = rule.check()) fault("setting --" + rule.field, rule.field, refusal->problem, refusal->fix);
      }
    }
    return std::move(faults_);
  }

 private:
  using Source = std::map<std::string, Given>;  // by flag, or by flag + "-file"

  void fault(std::string where, std::string field, std::string problem, std::string fix) {
    faults_.push_back({std::move(where), std::move(field), std::move(problem), std::move(fix)});
  }

  // The option of a flag or a key; also found by its -file form.
  const Option* find(const std::string& name) const {
    for (const Option& option : set_.options_) {
      if (option.flag_ == name) return &option;
      if (option.may_hold_secret() && option.flag_ + kFileSuffix == name) return &option;
    }
    return nullptr;
  }

  std::string suggestion(const std::string& name, const std::string& dashes) const {
    std::vector<std::string> names;
    for (const Option& option : set_.options_) {
      names.push_back(option.flag_);
      if (option.may_hold_secret()) names.push_back(option.flag_ + kFileSuffix);
    }
    const auto meant = nearest(name, names);
    return meant.empty() ? "see --help for what there is" : "did you mean " + dashes + std::string(meant) + "?";
  }

  void read_flags(std::span<const std::string> args) {
    for (size_t i = 0; i < args.size(); ++i) {
      const std::string& arg = args[i];
      if (!arg.starts_with("--") || arg.size() == 2) {
        refuse_word(arg);
        continue;
      }
      const size_t equals = arg.find('=');
      std::string name = arg.substr(2, equals == std::string::npos ? equals : equals - 2);
      const bool negated = name.starts_with("no-") && find(name) == nullptr;
      if (negated) name.erase(0, 3);
      const Option* option = find(name);
      if (option == nullptr) {
        const std::string written = shown((negated ? "no-" : "") + name);
        fault("flag --" + written, written, "there is no such flag", suggestion(name, negated ? "--no-" : "--"));
        // A value that follows belongs to it.
        if (equals == std::string::npos && i + 1 < args.size() && !args[i + 1].starts_with("-")) ++i;
        continue;
      }
      const bool has_next = i + 1 < args.size() && !args[i + 1].starts_with("--");
      i += take(*option, name, negated, equals == std::string::npos ? nullptr : &arg[equals] + 1,
                has_next ? &args[i + 1] : nullptr);
    }
  }

  void refuse_word(const std::string& arg) {
    std::string name = arg;
    name.erase(0, name.find_first_not_of('-'));
    name = name.substr(0, name.find('='));
    if ((arg.starts_with("-") || arg.find('=') != std::string::npos) && find(name) != nullptr) {
      return fault("flag " + quoted(arg.substr(0, arg.find('='))), name, "flags have two dashes", "write --" + name);
    }
    fault("argument " + quoted(arg), "", "nothing is expected here", "write settings as --name=value; see --help");
  }

  // Returns how many further arguments were used.
  size_t take(const Option& option, const std::string& name, bool negated, const char* inline_value,
              const std::string* next) {
    const std::string where = std::string("flag --") + (negated ? "no-" : "") + name;
    size_t used = 0;
    std::string text;
    if (negated && (!option.is_switch_ || inline_value != nullptr)) {
      fault(where, name, option.is_switch_ ? "takes no value" : "is not a switch",
            option.is_switch_ ? "write --no-" + name : "write --" + name + "=" + option.placeholder_);
      return 0;
    }
    if (inline_value != nullptr) {
      text = inline_value;
    } else if (option.is_switch_) {
      text = negated ? "false" : "true";
    } else if (next != nullptr) {
      text = *next;
      used = 1;
    } else {
      const std::string placeholder = name == option.flag_ ? option.placeholder_ : "FILE";
      fault(where, name, "has no value", "write --" + name + "=" + placeholder);
      return 0;
    }
    Given& given = flags_[name];
    if (!given.texts.empty() && !option.is_list_) {
      fault(where, name, "is given more than once", "write it once");
    } else {
      given.texts.push_back(std::move(text));
      given.where = where;
    }
    return used;
  }

  void read_file() {
    const Option& option = set_.options_.front();
    std::string path;
    if (const auto given = flags_.find(option.flag_); given != flags_.end()) {
      path = given->second.texts.front();
    } else if (const auto value = environment_(option.env_)) {
      path = *value;
    }
    if (path.empty()) return;
    FileSettings settings = read_settings_file(path);
    for (Fault& f : settings.faults) faults_.push_back(std::move(f));
    for (FileEntry& entry : settings.entries) take_entry(std::move(entry));
  }

  void take_entry(FileEntry entry) {
    const Option* option = find(entry.key);
    if (option == nullptr || option == &set_.options_.front()) {
      return fault(entry.where, shown(entry.key), "there is no such setting", suggestion(entry.key, ""));
    }
    if (entry.texts.size() != 1 && !option->is_list_) {
      return fault(entry.where, entry.key, "is a list", "write one value");
    }
    if (entry.texts.empty())
      return fault(entry.where, entry.key, "is an empty list", "list a value, or remove the key");
    if (file_.count(entry.key) != 0) return fault(entry.where, entry.key, "is given more than once", "write it once");
    file_[entry.key] = Given{std::move(entry.texts), std::move(entry.where)};
  }

  // Both forms of an option in one source are a contradiction, which is reported; the plain form is then used.
  const Given* in_source(const Option& option, const Source& source, bool& is_path) {
    const auto plain = source.find(option.flag_);
    const auto path = option.may_hold_secret() ? source.find(option.flag_ + kFileSuffix) : source.end();
    if (plain != source.end() && path != source.end()) {
      fault(plain->second.where, option.flag_, "is given both directly and as a file",
            "keep one of --" + option.flag_ + " and --" + option.flag_ + kFileSuffix);
    }
    is_path = plain == source.end();
    return plain != source.end() ? &plain->second : path != source.end() ? &path->second : nullptr;
  }

  Source environment_of(const Option& option) const {
    Source source;
    if (option.env_.empty()) return source;
    const auto look = [&](const std::string& variable, const std::string& name) {
      const auto value = environment_(variable);
      if (value && !value->empty()) source[name] = Given{{*value}, "environment " + variable};
    };
    look(option.env_, option.flag_);
    if (option.may_hold_secret()) look(option.env_ + "_FILE", option.flag_ + kFileSuffix);
    return source;
  }

  void settle(Option& option) {
    bool is_path = false;
    if (const Given* given = in_source(option, flags_, is_path)) return use(option, *given, is_path, true);
    const Source environment = environment_of(option);
    if (const Given* given = in_source(option, environment, is_path)) return use(option, *given, is_path, false);
    if (const Given* given = in_source(option, file_, is_path)) return use(option, *given, is_path, true);
    if (option.fallback_) {
      const std::string fallback[] = {*option.fallback_};
      TG_ASSERT(!option.assign_(fallback));
    } else if (option.required_) {
      fault("setting --" + option.flag_, option.flag_, "is required and not set", "set " + ways(option));
    }
  }

  static std::string ways(const Option& option) {
    std::string out = option.secret_ ? "" : "--" + option.flag_ + "=" + option.placeholder_ + ", ";
    if (!option.env_.empty()) out += option.env_ + ", ";
    if (option.may_hold_secret()) out += "--" + option.flag_ + kFileSuffix + "=FILE, ";
    if (!option.secret_) out += "or " + option.flag_ + " in the configuration file, ";
    out.resize(out.size() - 2);
    return out;
  }

  // `others_see` where the source is no place for a secret.
  void use(Option& option, const Given& given, bool is_path, bool others_see) {
    std::vector<std::string> texts = given.texts;
    std::string where = given.where;
    if (is_path) {
      auto content = read_small_file(texts.front(), kSecretBytesMax);
      if (!content) return fault(where, option.flag_ + kFileSuffix, content.error().problem, content.error().fix);
      while (!content->empty() && (content->back() == '\n' || content->back() == '\r')) content->pop_back();
      where += " (the file's content)";
      if (option.path_ != nullptr) *option.path_ = texts.front();
      texts = {std::move(*content)};
    } else if (others_see) {
      const bool holds = std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
        return option.secret_ || (option.holds_secret_ && option.holds_secret_(text));
      });
      const std::string instead =
          (option.env_.empty() ? "" : option.env_ + " or ") + "--" + option.flag_ + "-file=FILE";
      if (holds)
        return fault(where, option.flag_, "holds a secret where others can read it", "set " + instead + " instead");
    }
    auto refusal = option.assign_(texts);
    if (!refusal) return;
    if (option.secret_) refusal->problem = "the value is not acceptable (not shown: it is a secret)";
    fault(where, option.flag_, refusal->problem, refusal->fix);
  }

  OptionSet& set_;
  const Environment& environment_;
  Source flags_, file_;
  std::vector<Fault> faults_;
};

std::vector<Fault> OptionSet::parse(std::span<const std::string> args, const Environment& environment) {
  return OptionReader(*this, environment).run(args);
}

}  // namespace tallygate::config
