// Values at JSON pointers in a body that passes: the same however it is cut, and what a parser of the whole text finds
// (make fuzz). The first byte seeds the cuts.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/utf8.h"
#include "sidecar/meter/json_number.h"
#include "sidecar/meter/json_scanner.h"

namespace {

using namespace tallygate;
using meter::JsonKind;
using meter::JsonScanner;
using nlohmann::json;

void require(bool condition, std::string_view what) {
  if (condition) return;
  std::cerr << "fuzz_json: " << what << "\n";
  std::abort();
}

const std::vector<std::string> kPointers{"", "/a", "/a/0", "/a/b", "/usage/total_tokens", "/0", "/0/a", "/~1/~0"};

std::string told(const JsonScanner& scanner) {
  std::string text = std::to_string(static_cast<int>(scanner.state())) + ' ' + std::to_string(scanner.offset());
  if (scanner.state() != JsonScanner::State::kDone) return text;
  for (size_t i = 0; i < kPointers.size(); ++i) {
    const meter::JsonValue v = scanner.value(i);
    for (const uint64_t part :
         {static_cast<uint64_t>(v.kind), static_cast<uint64_t>(v.duplicate), static_cast<uint64_t>(v.alias),
          static_cast<uint64_t>(v.cut), v.count, v.begin, v.end}) {
      text += ' ' + std::to_string(part);
    }
    text.append(1, ' ').append(v.text);
  }
  return text;
}

JsonKind kind_of(const json& value) {
  if (value.is_null()) return JsonKind::kNull;
  if (value.is_boolean()) return value.get<bool>() ? JsonKind::kTrue : JsonKind::kFalse;
  if (value.is_number()) return JsonKind::kNumber;
  if (value.is_string()) return JsonKind::kString;
  return value.is_array() ? JsonKind::kArray : JsonKind::kObject;
}

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// Compared where both readers mean the same: the other one wants valid UTF-8 and whole surrogate pairs, and reads
// numbers as double.
bool comparable(std::string_view text) {
  if (text.size() > 300 || !valid_utf8(text) || text.find("\\u") != text.npos) return false;
  if (text.find('\0') != text.npos) return false;  // for the other one that is the end
  for (size_t i = 1; i < text.size(); ++i) {
    if ((text[i] == 'e' || text[i] == 'E') && text[i - 1] >= '0' && text[i - 1] <= '9') return false;
  }
  return true;
}

void compare(std::string_view text, const JsonScanner& scanner) {
  const json whole = json::parse(text, nullptr, /*allow_exceptions=*/false);
  require(whole.is_discarded() == (scanner.state() == JsonScanner::State::kMalformed),
          "one reader takes it, the other does not");
  if (whole.is_discarded() || scanner.state() != JsonScanner::State::kDone) return;
  for (size_t i = 0; i < kPointers.size(); ++i) {
    const meter::JsonValue v = scanner.value(i);
    if (v.duplicate) continue;
    const json::json_pointer at(kPointers[i]);
    require(whole.contains(at) == (v.kind != JsonKind::kAbsent), "one finds it, the other does not");
    if (v.kind == JsonKind::kAbsent) continue;
    const json& value = whole.at(at);
    require(kind_of(value) == v.kind, "another kind of value");
    if (v.kind == JsonKind::kArray) require(value.size() == v.count, "another number of elements");
    if (v.kind == JsonKind::kString && !v.cut) require(value.get_ref<const std::string&>() == v.text, "another string");
    if (v.kind == JsonKind::kNumber && value.is_number_integer() && !value.is_number_unsigned()) {
      require(meter::exact_integer(v.text).value_or(0) == value.get<int64_t>(), "another number");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const auto pointers = meter::JsonPointers::compile(kPointers).value();
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  JsonScanner whole(pointers), cut(pointers);
  whole.feed(text);
  whole.finish();
  uint32_t seed = data[0];
  for (size_t i = 0; i < text.size();) {
    seed = seed * 1664525 + 1013904223;
    const size_t piece = std::min<size_t>(text.size() - i, 1 + (seed >> 24) % 7);
    cut.feed(text.substr(i, piece));
    i += piece;
  }
  cut.finish();
  require(told(whole) == told(cut), "what is read depends on how it comes");
  if (whole.state() == JsonScanner::State::kDone) {
    for (size_t i = 0; i < kPointers.size(); ++i) {
      if (whole.value(i).kind == JsonKind::kNumber && !whole.value(i).cut)
        (void)meter::scaled_up(whole.value(i).text, 6);
    }
  }
  if (comparable(text)) compare(text, whole);
  return 0;
}
