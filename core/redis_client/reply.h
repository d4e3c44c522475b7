// A reply of Redis (RESP2), owned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tallygate::redis {

struct Reply {
  enum class Type : uint8_t { kNil, kString, kStatus, kError, kInteger, kArray };
  Type type = Type::kNil;
  int64_t integer = 0;
  std::string text;             // kString, kStatus, kError
  std::vector<Reply> elements;  // kArray

  bool is_nil() const { return type == Type::kNil; }
  bool is_error() const { return type == Type::kError; }
  bool is_array() const { return type == Type::kArray; }
  bool is_integer() const { return type == Type::kInteger; }
  // Bulk or status text.
  bool is_text() const { return type == Type::kString || type == Type::kStatus; }
  bool is_text(std::string_view value) const { return is_text() && text == value; }
  // The integer, or the number that the text spells; `otherwise` where it is neither.
  int64_t to_integer(int64_t otherwise = 0) const;
};

// A command: its words, binary safe.
using Command = std::vector<std::string>;

}  // namespace tallygate::redis
