// JSON as this API takes it: at most 16 levels, no member twice, UTF-8. Includes nlohmann-json: only for .cc files.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tallygate::api {

// Nothing where the text is not such JSON; `why` is a clause for people: "it has the member \"a\" twice".
std::optional<nlohmann::json> parse_strict(std::string_view text, std::string& why);

}  // namespace tallygate::api
