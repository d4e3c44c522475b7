#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tallygate::testing {

// What the server's reader makes of a connection's bytes, as text: each request, then the refusal if there is one.
// `piece` says how many bytes arrive next (0 counts as 1).
std::string read_requests(std::string_view bytes, const std::function<size_t()>& piece);

// Runs one input: aborts the process where the verdict depends on how the bytes were split. The first byte seeds the
// splits, the rest is what a client sends.
void fuzz_requests(const uint8_t* data, size_t size);

}  // namespace tallygate::testing
