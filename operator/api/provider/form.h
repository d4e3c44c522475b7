// application/x-www-form-urlencoded, strictly and within bounds.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace tallygate::api {

// Nothing where an escape is broken, a parameter has no name, comes twice, is not UTF-8 or longer than 4 KiB, or where
// there are more than 100.
std::optional<std::map<std::string, std::string>> parse_form(std::string_view text);

}  // namespace tallygate::api
