// How a path may be read: a plain one in one way only, every reading begins at the root, and looking twice sees the
// same (make fuzz). A path that takes too long is found by libFuzzer's own time limit.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <set>
#include <string>

#include "core/path/readings.h"

namespace {

void require(bool condition, std::string_view what) {
  if (condition) return;
  std::cerr << "fuzz_paths: " << what << "\n";
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace path = tallygate::path;
  if (size > 512) return 0;
  std::string text = "/" + std::string(reinterpret_cast<const char*>(data), size);
  text.resize(text.find_first_of("?#") == std::string::npos
                  ? text.size()
                  : text.find_first_of("?#"));  // the target's path ends there
  const auto all = [&](std::set<std::string>* readings) {
    return path::each_reading(text, [&](std::string_view reading) {
      readings->emplace(reading);
      return true;
    });
  };
  std::set<std::string> first, second;
  const auto fault = all(&first);
  require(all(&second) == fault && first == second, "looked twice, saw two things");
  for (const std::string& reading : first) require(reading.starts_with("/"), "a reading without its root");
  if (path::is_plain(text) && fault == path::Fault::kNone) {
    require(first.size() == 1 && *first.begin() == text, "a plain path has a second reading");
  }
  return 0;
}
