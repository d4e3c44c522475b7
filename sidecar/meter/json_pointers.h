// A set of JSON pointers (RFC 6901), compiled for JsonScanner. Immutable once made; scanners of one thread share it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace tallygate::meter {

// One pointer. With `equals` it is a count instead: how many strings there have this text. Only a count may have "*"
// for a token, which stands for each element of an array: {"/output/*/type", "web_search_call"}.
struct PointerSpec {
  std::string pointer;
  std::string equals{};
};

class JsonPointers {
 public:
  static constexpr size_t kPointersMax = 64;  // a policy's own: at most 32 a route
  static constexpr size_t kTokensMax = 16;    // of a pointer
  static constexpr size_t kTokenBytesMax = 128;

  // Fails (kInvalid) on what is no pointer, and past the bounds; the message names pointer and fix. "" is the whole
  // document. The same pointer twice is allowed.
  static Result<JsonPointers> compile(std::span<const PointerSpec> specs);
  static Result<JsonPointers> compile(std::span<const std::string> pointers);

  size_t size() const { return equals_.size(); }

 private:
  friend class JsonScanner;
  static constexpr uint16_t kNone = 0xffff;

  // A place that some pointer names, or goes through. Children are chained; the root is node 0.
  struct Node {
    std::string key;     // unescaped
    int64_t index = -1;  // the key as an array's index; -1: it is none
    uint16_t child = kNone, sibling = kNone;
    uint8_t ordinal = 0;  // among its siblings
    uint8_t children = 0;
    bool wildcard = false;     // its only child stands for each element
    uint64_t ends_here = 0;    // pointers, by bit
    uint64_t at_or_below = 0;  // of them, this node's and its descendants'
  };
  Result<uint16_t> child_of(uint16_t parent, std::string_view token, bool any_element);

  std::vector<Node> nodes_;
  std::vector<std::string> equals_;  // by pointer
};

}  // namespace tallygate::meter
