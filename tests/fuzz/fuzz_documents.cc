// Documents of tenants and policies: whatever Redis holds is refused or read, and what was read is written and read
// back as the same (make fuzz). The first byte chooses the kind.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "core/tenant/wire.h"

namespace {

template <class Read>
void check(std::string_view text, Read read) {
  const auto first = read(text);
  if (!first) return;
  const std::string once = tallygate::tenant::to_json(*first);
  const auto second = read(once);
  if (second && tallygate::tenant::to_json(*second) == once) return;
  std::cerr << "fuzz_documents: "
            << (second ? "reads back as another" : "what we wrote is refused: " + second.error().message) << "\n"
            << once << "\n";
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 't') {
    check(text, [](std::string_view json) { return tallygate::tenant::tenant_from_json(json); });
  } else {
    check(text, [](std::string_view json) { return tallygate::tenant::policy_from_json(json); });
  }
  return 0;
}
