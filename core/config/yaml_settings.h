// Reads a configuration file into flat entries.
#pragma once

#include <string>
#include <vector>

#include "core/config/options.h"

namespace tallygate::config {

struct FileEntry {
  std::string key;                 // nested maps joined with "-"
  std::vector<std::string> texts;  // one, or a sequence's items
  std::string where;               // "gate.yaml:12"
};

struct FileSettings {
  std::vector<FileEntry> entries;
  std::vector<Fault> faults;
};

// At most 256 KiB, 1,000 entries, four levels; one document that is a map.
FileSettings read_settings_file(const std::string& path);

// A file's content, at most `size_max` bytes; the refusal names the path.
Parsed<std::string> read_small_file(const std::string& path, size_t size_max);

}  // namespace tallygate::config
