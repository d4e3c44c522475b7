#include "operator/ledger/fault.h"

#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <string>

namespace tallygate::ledger {
namespace {

constexpr int kKilled = 137;  // 128 + SIGKILL, as a shell shows it

const std::string& variable() {
  static const std::string value = [] {
    const char* text = std::getenv("TALLYGATE_FAULT");
    return std::string(text ? text : "");
  }();
  return value;
}

}  // namespace

std::string_view armed_faults() { return variable(); }

void fault_point(std::string_view name) {
  std::string_view rest = variable();
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    std::string_view fault = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    if (!fault.starts_with(name)) continue;
    fault.remove_prefix(name.size());
    if (fault == ":exit") _exit(kKilled);
    int pass = 0;
    if (fault.starts_with(":exit:") &&
        std::from_chars(fault.data() + 6, fault.data() + fault.size(), pass).ptr == fault.data() + fault.size()) {
      static std::atomic<int> passes{0};  // one counted fault at a time is all that tests need
      if (++passes == pass) _exit(kKilled);
    }
  }
}

}  // namespace tallygate::ledger
