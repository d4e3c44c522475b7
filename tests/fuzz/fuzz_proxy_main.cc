// libFuzzer's entry (make fuzz).
#include "tests/fuzz/fuzz_proxy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tallygate::testing::fuzz_proxy(data, size);
  return 0;
}
