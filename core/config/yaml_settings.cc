#include "core/config/yaml_settings.h"

#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace tallygate::config {
namespace {

constexpr size_t kFileBytesMax = 256 * 1024;
constexpr size_t kEntriesMax = 1000;
constexpr int kDepthMax = 4;

class Flattener {
 public:
  Flattener(const std::string& path, FileSettings& out) : path_(path), out_(out) {}

  void walk(const YAML::Node& map, const std::string& prefix, int depth) {
    for (const auto& item : map) {
      if (full_) return;
      if (!item.first.IsScalar()) {
        fault(item.first, prefix, "the key is not a word", "use the flags' names as keys");
        continue;
      }
      const std::string word = item.first.Scalar();
      entry(prefix.empty() ? word : prefix + "-" + word, item.first, item.second, depth);
    }
  }

 private:
  void entry(const std::string& key, const YAML::Node& at, const YAML::Node& value, int depth) {
    if (out_.entries.size() >= kEntriesMax) {
      full_ = true;
      return fault(at, key, "the file has more than 1000 settings", "remove what is not a setting");
    }
    if (value.IsMap()) {
      if (depth >= kDepthMax)
        return fault(at, key, "the map is nested too deeply", "write flat keys such as redis-url");
      return walk(value, key, depth + 1);
    }
    FileEntry entry{key, {}, where(at)};
    if (value.IsScalar()) {
      entry.texts.push_back(value.Scalar());
    } else if (value.IsSequence()) {
      for (const auto& element : value) {
        if (!element.IsScalar())
          return fault(element, key, "the list holds something other than texts", "list plain values");
        entry.texts.push_back(element.Scalar());
      }
    } else {
      return fault(at, key, "the value is missing", "write a value, or remove the key");
    }
    out_.entries.push_back(std::move(entry));
  }

  std::string where(const YAML::Node& node) const { return path_ + ":" + std::to_string(node.Mark().line + 1); }
  void fault(const YAML::Node& node, const std::string& key, std::string problem, std::string fix) {
    out_.faults.push_back({where(node), key, std::move(problem), std::move(fix)});
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
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(*content);
    if (documents.empty() || (documents.size() == 1 && documents[0].IsNull())) return settings;
    if (documents.size() > 1 || !documents[0].IsMap()) {
      settings.faults.push_back(
          {path + ":1", "config", "the file is not one map of settings", "write lines such as listen: \":8080\""});
      return settings;
    }
    Flattener(path, settings).walk(documents[0], "", 1);
  } catch (const YAML::Exception& e) {
    settings.faults.push_back({path + ":" + std::to_string(e.mark.line + 1), "config",
                               "the file is not valid YAML: " + e.msg, "correct the line"});
  } catch (const std::exception&) {
    settings.faults.push_back({path + ":1", "config", "the file cannot be read as YAML", "correct the file"});
  }
  return settings;
}

}  // namespace tallygate::config
