// Amounts from the exact text of a JSON number: no floating point on the way.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/result.h"

namespace tallygate::meter {

// value × 10^decimals, rounded up (towards +infinity): "0.0000001" at six decimals is 1, "1.5e3" at none is 1,500.
// Fails with kInvalid on what RFC 8259 calls no number, with kExhausted beyond int64. A negative value is no failure.
Result<int64_t> scaled_up(std::string_view number, int decimals);

// The number as an integer, whatever its form ("3", "3.0", "30e-1"); kInvalid where there is a fraction.
Result<int64_t> exact_integer(std::string_view number);

}  // namespace tallygate::meter
