// Documents as trees (core/yaml/tree.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/yaml/tree.h"
#include "operator/manifest/fault.h"

namespace tallygate::manifest {

using yaml::Member;
using yaml::Node;

// "a string", "a list" and so on.
const char* kind_name(Node::Kind kind);

// All documents of a YAML stream; empty ones are left out. Anchors and aliases are expanded, within the limits of
// read.h. Where the text is not YAML, appends a fault with the line and returns what came before.
std::vector<Node> parse_yaml(const std::string& file, std::string_view text, Faults* faults);

// One JSON document, as an API server sends it; no lines.
std::vector<Node> parse_json(const std::string& file, std::string_view text, Faults* faults);

// The tree as compact JSON that parse_json() reads. What is no JSON number or boolean as written is a string.
void append_json(const Node& node, std::string* out);

}  // namespace tallygate::manifest
