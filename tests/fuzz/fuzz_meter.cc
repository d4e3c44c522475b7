// Fuzzes what reads amounts out of bodies that clients and apps choose.
#include "tests/fuzz/fuzz_meter.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/meter/decoder.h"
#include "sidecar/meter/event_reader.h"
#include "sidecar/meter/json_number.h"
#include "sidecar/meter/json_scanner.h"
#include "sidecar/meter/llm_usage.h"
#include "sidecar/meter/usage_chunk.h"
#include "sidecar/meter/value_reader.h"

namespace tallygate::testing {
namespace {

using namespace tallygate::meter;
using Pieces = std::vector<std::string_view>;
using Read = std::function<std::string(const Pieces&)>;

void require(bool condition, std::string_view what, std::string_view bytes) {
  if (condition) return;
  std::cerr << "fuzz_meter: " << what << "\n" << bytes << "\n";
  std::abort();
}

Pieces pieces_of(std::string_view bytes, const std::function<size_t()>& size) {
  Pieces pieces;
  while (!bytes.empty()) {
    pieces.push_back(bytes.substr(0, std::max<size_t>(size(), 1)));
    bytes.remove_prefix(pieces.back().size());
  }
  return pieces;
}

std::string number(int64_t value) { return std::to_string(value) + ' '; }

const JsonPointers& pointers() {
  static const JsonPointers kPointers = *JsonPointers::compile(std::vector<PointerSpec>{
      {""}, {"/a"}, {"/usage/n"}, {"/usage"}, {"/a/0"}, {"/a/1/b"}, {"/a~1b"}, {"/o/*/t", "x"}, {"/"}});
  return kPointers;
}

std::string read_json(const Pieces& pieces) {
  JsonScanner scanner(pointers());
  for (const auto piece : pieces) scanner.feed(piece);
  scanner.finish();
  std::string told = number(static_cast<int>(scanner.state())) + number(static_cast<int64_t>(scanner.offset()));
  if (scanner.state() != JsonScanner::State::kDone) return told;
  for (size_t i = 0; i < pointers().size(); ++i) {
    const JsonValue value = scanner.value(i);
    told += number(static_cast<int>(value.kind)) + number(static_cast<int64_t>(value.count)) +
            number(static_cast<int64_t>(value.begin)) + number(static_cast<int64_t>(value.end)) +
            (value.duplicate ? "d" : "") + (value.alias ? "a" : "") + std::string(value.text) + '\n';
    if (value.kind == JsonKind::kNumber && !value.cut) {
      const auto micros = scaled_up(value.text, 6);
      require(micros || micros.error().errc == Errc::kExhausted, "a number is none", value.text);
      static_cast<void>(exact_integer(value.text));
    }
    require(value.text.size() <= JsonScanner::kStringBytesMax, "a text is too long", value.text);
  }
  return told;
}

// Another parser's verdict; nothing where it has no type for a number.
std::optional<bool> is_json(std::string_view bytes) {
  try {
    static_cast<void>(nlohmann::json::parse(bytes));
    return true;
  } catch (const nlohmann::json::out_of_range&) {
    return std::nullopt;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

void compare_json(std::string_view bytes) {
  if (bytes.find('\0') != std::string_view::npos) return;  // to it the end

  JsonScanner scanner(pointers());
  scanner.feed(bytes);
  scanner.finish();
  const bool ours = scanner.state() == JsonScanner::State::kDone,
             deep = scanner.state() == JsonScanner::State::kTooDeep;
  const auto verdict = is_json(bytes);
  if (!verdict) return;
  const bool theirs = *verdict;
  require(!theirs || ours || deep, "what is JSON was refused", bytes);
  // What it refuses beside: bytes that are no UTF-8, halves of code points.
  const bool plain = std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<signed char>(c) > 0; });
  require(!ours || theirs || !plain || bytes.find("\\u") != std::string_view::npos, "what is no JSON was taken", bytes);
}

std::string read_events(Framing framing, const Pieces& pieces) {
  EventReader reader(framing);
  std::string told, data;
  const auto take = [&](const EventReader::Step& step) {
    if (step.kind == EventReader::Step::Kind::kData) {
      require(!step.data.empty(), "a piece is empty", {});
      data += step.data;
    } else if (step.kind != EventReader::Step::Kind::kMore) {
      told += number(static_cast<int>(step.kind)) + std::string(reader.type()) + (reader.is_error() ? '!' : '|') +
              data + '\n';
      data.clear();
    }
    return step.kind != EventReader::Step::Kind::kMore;
  };
  for (std::string_view piece : pieces) {
    while (take(reader.next(piece))) {
    }
    require(piece.empty(), "a piece is left", piece);
  }
  while (take(reader.finish())) {
  }
  return told;
}

std::string read_values(Framing framing, const Pieces& pieces) {
  ValueReader reader(pointers(), framing);
  for (const auto piece : pieces) reader.feed(piece);
  reader.finish();
  std::string told = reader.malformed() ? "malformed " : "";
  for (size_t i = 0; i < pointers().size(); ++i) {
    told += number(static_cast<int>(reader.value(i).kind)) + reader.value(i).text + '\n';
  }
  return told + number(static_cast<int64_t>(reader.unreadable_events()));
}

// Decoders tell an error sooner or later in what they give out before it: only whether the body is complete must agree,
// and its text where it is.
std::string decode(Coding coding, const Pieces& pieces) {
  constexpr uint64_t kBytesMax = 256 * 1024;
  Decoder decoder(coding, {.bytes_max = kBytesMax, .ratio_max = 1'100});
  std::string out(512, '\0'), text;
  for (std::string_view piece : pieces) {
    for (;;) {
      size_t size = 0;
      const auto step = decoder.next(piece, out, size);
      text.append(out, 0, size);
      if (step != Decoder::Step::kData) break;
    }
    require(piece.empty(), "coded bytes are left", piece);
  }
  require(text.size() <= kBytesMax, "more was decoded than is allowed", {});
  return decoder.finish() == Decoder::Step::kMore ? "complete " + text : "broken";
}

std::string read_usage(LlmApi api, Framing framing, const Pieces& pieces) {
  LlmUsageReader reader(api, framing);
  for (const auto piece : pieces) {
    const std::string copy(piece);
    reader.feed(copy);
  }
  reader.finish();
  const LlmUsage usage = reader.usage();
  std::string told = usage.model + ' ';
  for (const int64_t count : usage.counts) {
    require(count >= -1, "a count is negative", {});
    told += number(count);
  }
  told += number(usage.final) + number(usage.error) + number(usage.inconsistent) + number(usage.pending) +
          number(usage.unreadable);
  return told + number(reader.estimated_output()) + number(static_cast<int64_t>(reader.events())) +
         (reader.malformed() ? "malformed" : "");
}

std::string filter(const Pieces& pieces) {
  UsageChunkFilter chunks;
  std::string passed;
  for (std::string_view piece : pieces) {
    for (auto part = chunks.next(piece); !part.empty(); part = chunks.next(piece)) passed += part;
    require(piece.empty(), "a piece is left", piece);
  }
  passed += chunks.finish();
  return passed;
}

void edit(std::string_view bytes) {
  const auto usage = ask_for_usage(bytes);
  if (!usage || usage->insert.empty()) return;
  std::string body(bytes);
  usage->apply(&body);
  const auto again = ask_for_usage(body);
  require(again && again->client_asked && again->streams, "the edit does not ask", bytes);
}

Read reader_of(uint8_t which) {
  constexpr Framing kFramings[] = {Framing::kSse, Framing::kJsonLines, Framing::kJsonArray, Framing::kAwsEventStream,
                                   Framing::kWhole};
  constexpr Coding kCodings[] = {Coding::kGzip, Coding::kDeflate, Coding::kBrotli, Coding::kZstd};
  const Framing framing = kFramings[which / 20 % 5];
  switch (which % 20) {
    case 0:
      return read_json;
    case 1:
    case 2:
    case 3:
    case 4:
      return [framing](const Pieces& pieces) { return read_events(framing, pieces); };
    case 5:
    case 6:
      return [framing](const Pieces& pieces) { return read_values(framing, pieces); };
    case 7:
    case 8:
    case 9:
    case 10:
      return [coding = kCodings[which % 20 - 7]](const Pieces& pieces) { return decode(coding, pieces); };
    case 11:
      return filter;
    default:
      return [framing, api = static_cast<LlmApi>(which % 20 % kLlmApis)](const Pieces& pieces) {
        return read_usage(api, framing, pieces);
      };
  }
}

}  // namespace

void fuzz_meter(const uint8_t* data, size_t size) {
  if (size < 2) return;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (data[0] % 20 == 0) compare_json(bytes);
  if (data[0] % 20 == 11) edit(bytes);
  const Read read = reader_of(data[0]);
  const std::string whole = read({bytes});
  require(read(pieces_of(bytes, [] { return size_t{1}; })) == whole, "byte by byte reads differently", bytes);
  uint32_t state = data[1] + 1u;
  const auto piece = [&state] {
    state = state * 1664525u + 1013904223u;
    return size_t{1} << (state >> 28);
  };
  require(read(pieces_of(bytes, piece)) == whole, "pieces read differently", bytes);
}

}  // namespace tallygate::testing
