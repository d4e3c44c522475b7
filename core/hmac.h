// Keyed hashes of requests and tokens, by OpenSSL.
#pragma once

#include <string>
#include <string_view>

namespace tallygate {

// The raw bytes: 32, and 20.
std::string hmac_sha256(std::string_view key, std::string_view text);
std::string hmac_sha1(std::string_view key, std::string_view text);

// Takes the same time wherever they differ; tells only their lengths apart.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace tallygate
