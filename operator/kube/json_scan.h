// Finds parts of a JSON text without making a tree of it: a page of a list is megabytes of which a few members matter.
//
// Checks only what it needs for finding: quotes, brackets, commas. What it hands out is text as it stands; who reads
// the whole later checks the whole.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tallygate::kube::json {

// `key` without its quotes, escapes unresolved; `value` without blanks around it. False ends the walk (well).
using OnMember = std::function<bool(std::string_view key, std::string_view value)>;
using OnItem = std::function<bool(std::string_view value)>;

// False: `text` is not one object, or list, as far as it was walked.
bool each_member(std::string_view text, const OnMember& on_member);
bool each_item(std::string_view text, const OnItem& on_item);

// Of a value: its text, escapes resolved ("" where it is no string); its number (0 where it is none).
std::string string_of(std::string_view value);
int64_t integer_of(std::string_view value);

}  // namespace tallygate::kube::json
