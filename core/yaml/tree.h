// The neutral form of a document: what YAML and JSON have in common, with the line each part came from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tallygate::yaml {

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

}  // namespace tallygate::yaml
