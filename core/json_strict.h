// JSON as it is taken from outside: at most 16 levels, no member twice, UTF-8. Includes nlohmann-json: only for .cc files.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tallygate {

struct JsonRules {
  size_t levels_max = 16;
  // Numbers that are no 64-bit integers stay as they were written instead of becoming doubles: see number_text.
  bool exact_numbers = false;
};

// Nothing where the text is not such JSON; `why` is a clause for people: "it has a member twice".
std::optional<nlohmann::json> parse_strict(std::string_view text, std::string& why, const JsonRules& rules = {});

// A number of a document with exact numbers as it was written, an integer in its shortest form; "" for what is no
// number.
std::string number_text(const nlohmann::json& value);

// The text at a JSON pointer: "" where there is nothing; an error where it is no text, or nothing can be there.
std::optional<std::string> text_at(const nlohmann::json& document, const std::string& pointer);

}  // namespace tallygate
