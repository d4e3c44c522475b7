// The neutral form of a document: what YAML and JSON have in common, with the line each part came from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "operator/manifest/fault.h"

namespace tallygate::manifest {

struct Member;

struct Node {
  // kBool covers what some YAML readers take for one (yes, no, on, off); kInt and kFloat whatever looks like a number.
  // The text decides when a value is decoded.
  enum class Kind : uint8_t { kNull, kBool, kInt, kFloat, kString, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 0;
  std::string text;             // of a scalar, as written, quotes and escapes resolved
  std::vector<Node> items;      // kList
  std::vector<Member> members;  // kMap, in order, duplicates included
};

struct Member {
  std::string key;
  int line = 0;
  Node value;
};

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
