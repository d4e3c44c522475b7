#pragma once

#include <cstddef>
#include <cstdint>

namespace tallygate::testing {

// Runs one input; aborts the process where an invariant does not hold.
void fuzz_proxy(const uint8_t* data, size_t size);

}  // namespace tallygate::testing
