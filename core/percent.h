// Percent-encoding (RFC 3986).
#pragma once

#include <string>
#include <string_view>

namespace tallygate {

// Everything but unreserved characters.
std::string percent_encode(std::string_view text);

}  // namespace tallygate
