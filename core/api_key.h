// By what name an API key is published: its SHA-256, or, where operator and sidecars share a pepper, an HMAC of that, which
// nobody without the pepper can try guesses against.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace tallygate {

// Kinds of identities (core/tenant/model.h).
inline constexpr const char* kPlainKey = "apikey";
inline constexpr const char* kPepperedKey = "pepperedkey";

// A file's pepper, a line end at its end left out: 32 to 1,024 bytes. The message quotes nothing of it.
Result<std::string> read_pepper(const std::string& path);
// 64 lower-case hexadecimal digits. `hash`: the key's SHA-256, likewise.
std::string peppered_hash(std::string_view pepper, std::string_view hash);

}  // namespace tallygate
