#pragma once

#include <cstddef>
#include <cstdint>

namespace tallygate::testing {

// Runs one input: aborts the process where what a reader tells depends on how the bytes were split, where a bound is
// passed, or where the scanner and another JSON parser differ in what is JSON. The first byte chooses the reader, the
// second seeds the splits, the rest is what comes from client or app.
void fuzz_meter(const uint8_t* data, size_t size);

}  // namespace tallygate::testing
