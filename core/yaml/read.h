// Reads YAML into trees, within limits that hold while the text is read: whatever stands in it, time and memory are
// bounded by them. The one YAML reader of both programs, and the only place that knows yaml-cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/yaml/tree.h"

namespace tallygate::yaml {

struct Limits {
  size_t nodes_max;  // after aliases are expanded
  size_t depth_max;
};

struct Fault {
  int line;  // from 1; 0: unknown
  std::string message;
  std::string fix;
};

struct Documents {
  std::vector<Node> documents;  // without empty ones; with a fault, those before it
  std::optional<Fault> fault;
};

Documents read(std::string_view text, const Limits& limits);

}  // namespace tallygate::yaml
