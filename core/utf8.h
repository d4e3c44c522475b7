// UTF-8 as texts from outside have it, or have not.
#pragma once

#include <cstddef>
#include <string_view>

namespace tallygate {

// The length of the valid sequence at the front, or 0: none (Unicode 15, table 3-7: no overlong forms, no surrogates).
size_t utf8_length(std::string_view text);

// At most `bytes_max` of it, no character cut in two.
std::string_view cut_utf8(std::string_view text, size_t bytes_max);

}  // namespace tallygate
