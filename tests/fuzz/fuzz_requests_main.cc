// libFuzzer's entry (make fuzz).
#include "tests/fuzz/fuzz_requests.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tallygate::testing::fuzz_requests(data, size);
  return 0;
}
