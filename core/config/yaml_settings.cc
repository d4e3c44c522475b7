#include "core/config/yaml_settings.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/yaml/read.h"

namespace tallygate::config {
namespace {

constexpr size_t kFileBytesMax = 256 * 1024;
constexpr size_t kEntriesMax = 1000;
constexpr int kDepthMax = 4;
constexpr yaml::Limits kLimits{10'000, 24};

class Flattener {
 public:
  Flattener(const std::string& path, FileSettings& out) : path_(path), out_(out) {}

  void walk(const yaml::Node& map, const std::string& prefix, int depth) {
    for (const yaml::Member& item : map.members) {
      if (full_) return;
      entry(prefix.empty() ? item.key : prefix + "-" + item.key, item, depth);
    }
  }

 private:
  using Kind = yaml::Node::Kind;

  void entry(const std::string& key, const yaml::Member& at, int depth) {
    const yaml::Node& value = at.value;
    if (out_.entries.size() >= kEntriesMax) {
      full_ = true;
      return fault(at.line, key, "the file has more than 1000 settings", "remove what is not a setting");
    }
    if (value.kind == Kind::kMap) {
      if (depth >= kDepthMax)
        return fault(at.line, key, "the map is nested too deeply", "write flat keys such as redis-url");
      return walk(value, key, depth + 1);
    }
    if (value.kind == Kind::kNull)
      return fault(at.line, key, "the value is missing", "write a value, or remove the key");
    FileEntry entry{key, {}, where(at.line)};
    if (value.kind == Kind::kList) {
      for (const yaml::Node& element : value.items) {
        if (element.kind == Kind::kList || element.kind == Kind::kMap || element.kind == Kind::kNull)
          return fault(element.line, key, "the list holds something other than texts", "list plain values");
        entry.texts.push_back(element.text);
      }
    } else {
      entry.texts.push_back(value.text);
    }
    out_.entries.push_back(std::move(entry));
  }

  std::string where(int line) const { return path_ + ":" + std::to_string(line); }
  void fault(int line, const std::string& key, std::string problem, std::string fix) {
    out_.faults.push_back({where(line), key, std::move(problem), std::move(fix)});
  }

  const std::string& path_;
  FileSettings& out_;
  bool full_ = false;
};

}  // namespace

Parsed<std::string> read_small_file(const std::string& path, size_t size_max) {
  FILE* f = std::fopen(path.c_str(), "re");
  if (f == nullptr) {
    return refuse(quoted(path) + " cannot be opened: " + std::strerror(errno), "correct the path or its permissions");
  }
  std::string content(size_max + 1, '\0');
  const size_t size = std::fread(content.data(), 1, content.size(), f);
  const bool failed = std::ferror(f) != 0;
  std::fclose(f);
  if (failed) return refuse(quoted(path) + " cannot be read", "name a plain file");
  if (size > size_max) {
    return refuse(quoted(path) + " is longer than " + std::to_string(size_max) + " bytes", "name the right file");
  }
  content.resize(size);
  return content;
}

FileSettings read_settings_file(const std::string& path) {
  FileSettings settings;
  auto content = read_small_file(path, kFileBytesMax);
  if (!content) {
    settings.faults.push_back({"flag --config", "config", content.error().problem, content.error().fix});
    return settings;
  }
  const auto [documents, broken] = yaml::read(*content, kLimits);
  if (broken) {
    settings.faults.push_back({path + ":" + std::to_string(std::max(broken->line, 1)), "config",
                               "the file cannot be read: " + broken->message, broken->fix});
  } else if (documents.size() > 1 || (!documents.empty() && documents[0].kind != yaml::Node::Kind::kMap)) {
    settings.faults.push_back(
        {path + ":1", "config", "the file is not one map of settings", "write lines such as listen: \":8080\""});
  } else if (!documents.empty()) {
    Flattener(path, settings).walk(documents[0], "", 1);
  }
  return settings;
}

}  // namespace tallygate::config
