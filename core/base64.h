// base64url without padding (RFC 4648 §5), as JOSE uses it; and base64 with padding (§4), as webhooks use it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tallygate {

// Nothing where there is another character, padding, or bits that an encoder would not have left: one text per value.
std::optional<std::string> base64url_decode(std::string_view text);
std::string base64url_encode(std::string_view bytes);
std::optional<std::string> base64_decode(std::string_view text);
std::string base64_encode(std::string_view bytes);

}  // namespace tallygate
