// libFuzzer's entry: build with clang and -fsanitize=fuzzer,address (cmake -DTALLYGATE_FUZZ=ON).
#include "tests/fuzz/fuzz_meter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tallygate::testing::fuzz_meter(data, size);
  return 0;
}
